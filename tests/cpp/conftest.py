"""The built programs of the C++ library, and how the tests run them."""

from __future__ import annotations

import csv
import io
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build" / "cpp"
DATA = REPOSITORY / "cpp" / "tests" / "data"


@pytest.fixture(scope="session")
def build() -> Path:
    """The folder of `make cpp`."""
    if not (BUILD / "aasist-score").exists():
        pytest.skip("needs the C++ library: make cpp")
    return BUILD


@pytest.fixture(scope="session")
def tiny() -> Path:
    """A small calibrated model whose score is 8 * mean(wave), 800 samples at 16 kHz."""
    return DATA / "tiny.onnx"


@pytest.fixture(scope="session")
def aasist_score(build: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the program with arguments, and bytes on stdin."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [build / "aasist-score", *arguments], input=stdin, capture_output=True, check=False
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run


@pytest.fixture(scope="session")
def rows_of(
    aasist_score: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[[Path, Sequence[Path]], list[dict[str, str]]]:
    """(model, files) -> rows of the program with one thread, all of which have a score."""

    def rows(model: Path, files: Sequence[Path]) -> list[dict[str, str]]:
        done = aasist_score("--threads", "1", model, *files)
        assert done.returncode == 0, done.stderr
        return list(csv.DictReader(io.StringIO(done.stdout)))

    return rows
