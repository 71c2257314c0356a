# Finds what libaasist is linked with, as targets aasist::NAME. Also installed: a static libaasist needs it.
# CMAKE_PREFIX_PATH names a folder that setup/fetch_deps.sh filled; on the system nothing need be named.

set(AASIST_DEPS_HINT "Install it, or fetch all: sh setup/fetch_deps.sh DEPS, then cmake -DCMAKE_PREFIX_PATH=DEPS")

function(aasist_find_dependency name library header debian hint)
  if(TARGET aasist::${name})
    return()
  endif()
  string(TOUPPER ${name} upper)
  find_library(AASIST_${upper}_LIBRARY NAMES ${library} HINTS ${hint})
  if(NOT AASIST_${upper}_LIBRARY)
    message(FATAL_ERROR "lib${library} was not found (Debian: ${debian}). ${AASIST_DEPS_HINT}")
  endif()
  add_library(aasist::${name} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(aasist::${name} PROPERTIES IMPORTED_LOCATION "${AASIST_${upper}_LIBRARY}")
  if(header)
    find_path(AASIST_${upper}_INCLUDE_DIR ${header}
              PATH_SUFFIXES onnxruntime onnxruntime/core/session)
    if(NOT AASIST_${upper}_INCLUDE_DIR)
      message(FATAL_ERROR "${header} was not found (Debian: ${debian}). ${AASIST_DEPS_HINT}")
    endif()
    set_target_properties(aasist::${name} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${AASIST_${upper}_INCLUDE_DIR}")
  endif()
endfunction()

# `folder`: where the installed libraries lie; "" when the library itself is built, which needs headers too.
function(aasist_find_dependencies folder)
  foreach(row "onnxruntime|onnxruntime|onnxruntime_c_api.h|libonnxruntime-dev" "sndfile|sndfile|sndfile.h|libsndfile1-dev"
              "soxr|soxr|soxr.h|libsoxr-dev" "md|md|sha2.h|libmd-dev")
    string(REPLACE "|" ";" row "${row}")
    list(GET row 0 name)
    list(GET row 1 library)
    list(GET row 2 header)
    list(GET row 3 debian)
    if(folder)
      set(header "")
    endif()
    aasist_find_dependency(${name} ${library} "${header}" ${debian} "${folder}")
  endforeach()
endfunction()
