"""A folder that embeds a model in a C or C++ program: model, library, example, CMake file.

The library's sources lie in the wheel beside the package's code, and in a checkout in `cpp/`. What
they are built with is fetched when the folder is configured, unless the system has it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import EnvironmentLacks, OutputError, UsageError

if TYPE_CHECKING:
    from aasist_deploy.contract import ModelContract

MODEL_NAME: Final = "model.onnx"
# What a program needs of cpp/; not its tests and fuzzers.
LEGAL: Final = ("LICENSE", "NOTICE")
SOURCES: Final = (
    *("CMakeLists.txt", "cmake", "examples", "include", "setup", "src", "tools"),
    *LEGAL,
)

_CMAKE: Final = """\
# Builds {program}, which {does} with model.onnx:
#     cmake -B build && cmake --build build
#     {usage}
cmake_minimum_required(VERSION 3.25)
project(aasist_example LANGUAGES C CXX)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

option(FETCH_DEPENDENCIES "Fetch what the library needs; off: the system has it" ON)
if(FETCH_DEPENDENCIES)
  set(deps "${{CMAKE_CURRENT_BINARY_DIR}}/deps")
  execute_process(
    COMMAND sh "${{CMAKE_CURRENT_SOURCE_DIR}}/libaasist/setup/fetch_deps.sh" "${{deps}}"
    RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "Install what could not be fetched; then cmake -DFETCH_DEPENDENCIES=OFF")
  endif()
  list(PREPEND CMAKE_PREFIX_PATH "${{deps}}")
endif()

add_subdirectory(libaasist)
add_executable({program} main.c)
target_link_libraries({program} PRIVATE aasist::aasist)
"""

_README: Final = """\
# {architecture} in a C program

    cmake -B build && cmake --build build
    {usage}
    {tool}

- `model.onnx`: the model, which says of itself what it takes and gives{kind}.
- `main.c`: the program to start from.
- `libaasist/`: the library. Its header, `libaasist/include/aasist/aasist.h`, describes every
  function.
- `LICENSE`, `NOTICE`: of the library, and of those that it is built with. The model's weights are
  under the licence of whoever trained them.

It needs CMake 3.25, a compiler of C++17, and on Debian python3 with pip: ONNX Runtime, libsndfile,
soxr, libmd, nlohmann-json and miniaudio are then fetched into `build/deps`. Elsewhere install them
and give cmake `-DFETCH_DEPENDENCIES=OFF`.
"""


@dataclass(frozen=True, slots=True)
class Program:
    """The example of a folder.

    Attributes:
        name: Of the executable.
        source: In `examples`.
        does: What it does.
        usage: How it is called from the folder.
        tool: The same with the library's own program.
        kind: What else is to be said of the model.
    """

    name: str
    source: str
    does: str
    usage: str
    tool: str
    kind: str = ""


OF_FILES: Final = Program(
    name="score",
    source="score_c.c",
    does="scores one file",
    usage="build/score model.onnx CLIP.wav",
    tool="build/libaasist/aasist-score model.onnx CLIPS/*.wav",
)
_RECORD: Final = "arecord -q -t raw -f S16_LE -r 16000 -c 1"
OF_STREAMS: Final = Program(
    name="listen",
    source="listen.c",
    does="scores a live stream from stdin",
    usage=f"{_RECORD} | build/listen model.onnx 16000",
    tool=f"{_RECORD} | build/libaasist/aasist-score --stream model.onnx -",
    kind=": a file for streams,\n  which scores sliding windows and no whole files",
)


def program_of(contract: ModelContract) -> Program:
    """The example that fits a model."""
    return OF_FILES if contract.stream is None else OF_STREAMS


def library_sources() -> Path:
    """The folder of the library's sources.

    Raises:
        EnvironmentLacks: this installation of the package lacks them.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "cpp", package.parent / "cpp"):
        if (folder / "include" / "aasist" / "aasist.h").is_file():
            return folder
    raise EnvironmentLacks(
        f"The sources of the C++ library are not in {package / 'cpp'}.",
        fix="install aasist-deploy from its wheel again",
    )


def check_bundle_folder(folder: Path) -> None:
    """Refuse a place that holds something, before any work.

    Raises:
        UsageError: the folder is a file, or is not empty.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        raise UsageError(f"{folder} exists already.", fix="name a folder that is new or empty")


def write_cpp_bundle(model: Path, folder: Path) -> Program:
    """Fill a folder with a model, the library's sources, an example and a CMake file.

    Args:
        model: Exported .onnx file, also one for streams; it may lie in the folder as `MODEL_NAME`
            already.
        folder: Is made when it is missing.

    Returns:
        The example in it.

    Raises:
        ModelFileError: the model is none.
        UsageError: the model is of a precision that a CPU does not run well.
        EnvironmentLacks: the library's sources are missing.
        OutputError: the folder cannot be written.
    """
    contract, _ = read_contract(model, stream=None)
    if contract.precision != "fp32":
        raise UsageError(
            f"{model} computes in {contract.precision}; the C++ library runs on CPUs, which gain "
            "nothing from it.",
            fix="export it with --precision fp32",
        )
    sources, program = library_sources(), program_of(contract)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if model.resolve() != (folder / MODEL_NAME).resolve():
            shutil.copyfile(model, folder / MODEL_NAME)
        for name in SOURCES:
            source, target = sources / name, folder / "libaasist" / name
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)
        for name in LEGAL:
            shutil.copyfile(sources / name, folder / name)
        shutil.copyfile(sources / "examples" / program.source, folder / "main.c")
        cmake = _CMAKE.format(program=program.name, does=program.does, usage=program.usage)
        (folder / "CMakeLists.txt").write_text(cmake, encoding="utf-8")
        readme = _README.format(
            architecture=contract.architecture,
            usage=program.usage,
            tool=program.tool,
            kind=program.kind,
        )
        (folder / "README.md").write_text(readme, encoding="utf-8")
    except (OSError, shutil.Error) as error:
        raise OutputError(
            f"{folder} cannot be written: {getattr(error, 'strerror', None) or error}.",
            fix="name a place that you may write to",
        ) from error
    return program
