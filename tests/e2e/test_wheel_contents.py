"""The wheel holds the package, the sources of the C++ library, and nothing else."""

from __future__ import annotations

import zipfile
from email.parser import Parser
from pathlib import Path

from aasist_deploy.export.cpp_bundle import SOURCES

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "aasist_deploy"


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_it_holds_exactly_the_files_of_the_package_and_the_library(wheel: Path) -> None:
    expected = {
        str(path.relative_to(REPOSITORY))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {
        f"aasist_deploy/{path.relative_to(REPOSITORY)}"
        for name in SOURCES
        for path in (REPOSITORY / "cpp" / name, *(REPOSITORY / "cpp" / name).rglob("*"))
        if path.is_file()
    }
    assert {"aasist_deploy/py.typed", "aasist_deploy/report/template.html.j2"} <= expected
    assert {name for name in names_in(wheel) if ".dist-info/" not in name} == expected


def test_it_installs_one_top_level_name_and_both_notices(wheel: Path) -> None:
    names = names_in(wheel)
    tops = {name.partition("/")[0] for name in names}
    (info,) = tops - {"aasist_deploy"}
    assert info.endswith(".dist-info")
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= names


def test_its_own_dependencies_hold_no_framework(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    always = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    frameworks = ("torch", "onnx", "tensorrt", "openvino")
    assert always
    assert not [r for r in always if r.startswith(frameworks)]
    assert metadata["License-Expression"] == "MIT"
