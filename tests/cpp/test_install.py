"""What others build against the library: an installed tree, pkg-config, and the exported folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from aasist_deploy.cli import app
from aasist_deploy.errors import UsageError
from aasist_deploy.export.cpp_bundle import SOURCES

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "cpp" / "examples" / "score_c.c"

_CONSUMER = """\
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES C)
find_package(aasist 0.1 REQUIRED)
add_executable(consumer main.c)
target_link_libraries(consumer PRIVATE aasist::aasist)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(command: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.full(500, 0.25), 16_000)
    return path


@pytest.fixture
def installed(build: Path, tmp_path: Path) -> Path:
    """The tree of `cmake --install`, moved away from where it was installed."""
    run(["cmake", "--install", build / "release", "--prefix", tmp_path / "first"], tmp_path)
    return (tmp_path / "first").rename(tmp_path / "moved")


def test_a_project_finds_the_installed_library_with_cmake(
    installed: Path, tiny: Path, clip: Path, tmp_path: Path
) -> None:
    project = tmp_path / "consumer"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(_CONSUMER)
    shutil.copyfile(EXAMPLE, project / "main.c")
    run(["cmake", "-B", "build", f"-DCMAKE_PREFIX_PATH={installed}"], project)
    run(["cmake", "--build", "build"], project)
    assert "score 2.0000" in run([project / "build" / "consumer", tiny, clip], tmp_path)
    said = run([installed / "bin" / "aasist-score", tiny, clip], tmp_path)
    assert f"{clip},2.0," in said


def test_a_project_finds_the_installed_library_with_pkg_config(
    installed: Path, tiny: Path, clip: Path, tmp_path: Path
) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("needs pkg-config")
    (folder,) = installed.rglob("pkgconfig")
    flags = run(
        ["pkg-config", "--cflags", "--libs", "aasist"], tmp_path, PKG_CONFIG_PATH=str(folder)
    ).split()
    rpath = f"-Wl,-rpath,{folder.parent}"
    run(["cc", EXAMPLE, *flags, rpath, "-o", tmp_path / "consumer"], tmp_path)
    assert "score 2.0000" in run([tmp_path / "consumer", tiny, clip], tmp_path)


def test_the_exported_folder_builds_as_it_is(
    build: Path, tiny: Path, clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "program"
    said = CliRunner().invoke(app, ["export", str(tiny), "--to", "cpp", "-o", str(folder)])
    assert said.exit_code == 0, said.output
    assert (folder / "model.onnx").read_bytes() == tiny.read_bytes()
    assert {path.name for path in (folder / "libaasist").iterdir()} == set(SOURCES)
    # What was fetched for the checkout is the same as what the folder would fetch, and is here.
    shutil.copytree(build / "deps" / "native", folder / "build" / "deps", symlinks=True)
    versions = {
        "ONNXRUNTIME_VERSION": _constraint("onnxruntime"),
        "SOUNDFILE_VERSION": _constraint("soundfile"),
    }
    run(["cmake", "-B", "build", "-DCMAKE_BUILD_TYPE=None"], folder, **versions)  # compiles faster
    run(["cmake", "--build", "build", "--target", "score"], folder)
    assert "score 2.0000" in run(["build/score", "model.onnx", clip], folder)


def test_the_folder_of_a_file_for_streams_has_the_example_that_listens(
    tiny: Path, tmp_path: Path
) -> None:
    model = tiny.with_name("tiny-stream.onnx")
    folder = tmp_path / "program"
    said = CliRunner().invoke(app, ["export", str(model), "--to", "cpp", "-o", str(folder)])
    assert said.exit_code == 0, said.output
    assert "build/listen model.onnx 16000" in said.output
    assert (folder / "main.c").read_bytes() == EXAMPLE.with_name("listen.c").read_bytes()
    assert "add_executable(listen main.c)" in (folder / "CMakeLists.txt").read_text()


def test_the_exported_folder_and_the_installed_tree_hold_the_licences(
    installed: Path, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "program"
    CliRunner().invoke(app, ["export", str(tiny), "--to", "cpp", "-o", str(folder)])
    for name in ("LICENSE", "NOTICE"):
        text = (REPOSITORY / "cpp" / name).read_bytes()
        assert (folder / name).read_bytes() == text
        assert (installed / "share" / "doc" / "aasist" / name).read_bytes() == text
    assert (folder / "LICENSE").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()


def test_a_folder_that_holds_something_is_not_written_into(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    said = CliRunner().invoke(app, ["export", str(tiny), "--to", "cpp", "-o", str(tmp_path)])
    assert isinstance(said.exception, UsageError)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def _constraint(name: str) -> str:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    (version,) = (line.partition("==")[2] for line in lines if line.startswith(f"{name}=="))
    return version
