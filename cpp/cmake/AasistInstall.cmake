# Header, library, program, CMake package and pkg-config file.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/aasist)
install(TARGETS aasist EXPORT aasist-targets)
install(TARGETS aasist-score)
install(FILES LICENSE NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY include/aasist DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT aasist-targets NAMESPACE aasist:: DESTINATION ${package_dir})

set(AASIST_IS_STATIC TRUE)
if(BUILD_SHARED_LIBS)
  set(AASIST_IS_STATIC FALSE)
endif()
configure_package_config_file(cmake/aasist-config.cmake.in aasist-config.cmake INSTALL_DESTINATION ${package_dir}
                              PATH_VARS CMAKE_INSTALL_LIBDIR)
# Before 1.0 a minor version may break programs.
write_basic_package_version_file(aasist-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/aasist-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/aasist-config-version.cmake
              cmake/AasistDependencies.cmake DESTINATION ${package_dir})

set(AASIST_PC_LIBS "-L\${libdir} -laasist")
set(AASIST_PC_PRIVATE "-L\${libdir}/aasist -lonnxruntime -lsndfile -lsoxr -lmd -lstdc++ -lm -pthread")
file(RELATIVE_PATH AASIST_PC_UP "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(cmake/aasist.pc.in aasist.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/aasist.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(AASIST_INSTALL_DEPS)
  foreach(name onnxruntime sndfile soxr md)
    get_target_property(library aasist::${name} IMPORTED_LOCATION)
    # The name that programs look for, with the file's content: links need not be followed.
    file(REAL_PATH "${library}" real)
    execute_process(COMMAND ${CMAKE_OBJDUMP} -p "${real}" OUTPUT_VARIABLE described COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCH "SONAME +([^\n ]+)" ignored "${described}")
    install(FILES "${real}" DESTINATION ${CMAKE_INSTALL_LIBDIR}/aasist RENAME ${CMAKE_MATCH_1})
    install(CODE "file(CREATE_LINK ${CMAKE_MATCH_1} \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/aasist/lib${name}.so\" SYMBOLIC)")
  endforeach()
endif()
