"""A built wheel, clean environments to install it in, and a model file for them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
CONSTRAINTS = REPOSITORY / "constraints.txt"
DEMO_CLIPS = REPOSITORY / "examples" / "demo_clips"

# Runs at the start of every Python with this file on PYTHONPATH: an attempt to import, or only to
# find, one of the packages is written down and refused.
IMPORT_BLOCKER = """\
import os, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["BLOCKED"].split():
            with open(os.environ["BLOCKED_LOG"], "a") as log:
                log.write(name + "\\n")
            raise ModuleNotFoundError(f"{name} is blocked by this test", name=name)

sys.meta_path.insert(0, Blocker())
"""


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class CleanEnvironment:
    """A virtual environment without the checkout, and a folder outside it to run in."""

    folder: Path
    away: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def _log(self) -> Path:
        return self.away / "blocked.log"

    @property
    def blocked_attempts(self) -> list[str]:
        return self._log.read_text().split() if self._log.exists() else []

    def run(self, *command: str | Path, block: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, away from the repository.

        Args:
            command: Program and arguments.
            block: Packages, separated by blanks, whose import is refused and recorded.
        """
        hook = self.away / "hook"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(IMPORT_BLOCKER)
        self._log.unlink(missing_ok=True)
        environment = {
            "PATH": os.defpath,
            "HOME": str(self.away),
            "PYTHONPATH": str(hook),
            "BLOCKED": block,
            "BLOCKED_LOG": str(self._log),
            "PYTHONWARNINGS": "error",
        }
        program, *arguments = command
        return subprocess.run(
            [str(self.folder / "bin" / str(program)), *map(str, arguments)],
            cwd=self.away,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    pytest.importorskip("hatchling", reason="needs hatchling to build the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def _registry(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where pip reaches no packages; AASIST_REQUIRE_REGISTRY=1 turns that into a failure."""
    folder = tmp_path_factory.mktemp("registry")
    wanted = next(x for x in CONSTRAINTS.read_text().split() if x.startswith("platformdirs=="))
    done = pip("download", "-q", "--no-deps", "--retries", "0", "-d", str(folder), wanted)
    if done.returncode == 0:
        return
    reason = "needs a package registry that pip can reach"
    if os.environ.get("AASIST_REQUIRE_REGISTRY") == "1":
        pytest.fail(f"{reason}: {done.stderr}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def clean_environment(
    wheel: Path, _registry: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], CleanEnvironment]:
    """Extras ("" or "onnx,parquet") -> an environment with the wheel and these extras only."""
    made: dict[str, CleanEnvironment] = {}

    def get(extras: str) -> CleanEnvironment:
        if extras not in made:
            folder = tmp_path_factory.mktemp("venv")
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
            environment = CleanEnvironment(folder, tmp_path_factory.mktemp("away"))
            wanted = f"{wheel}[{extras}]" if extras else str(wheel)
            where = ("--python", str(environment.python))
            # A module is compiled when it is imported, and most never are.
            how = ("install", "-q", "--no-compile", "-c", str(CONSTRAINTS))
            done = pip(*where, *how, wanted)
            assert done.returncode == 0, done.stderr
            made[extras] = environment
        return made[extras]

    return get
