"""Ctrl-C while the program is still being imported: it ends, and says nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# What numpy makes of an interrupt in the middle of its own import.
NUMPY = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(10_000):
        pass
except BaseException as error:
    raise ImportError("the numpy C-extensions failed") from error
raise SystemExit("it went on")
"""


@pytest.fixture
def path_with_numpy(tmp_path: Path) -> dict[str, str]:
    """An environment in which Ctrl-C comes in the middle of the import of numpy."""
    (tmp_path / "numpy.py").write_text(NUMPY)
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(REPOSITORY)))}


def command(*, ignored: bool) -> list[str]:
    # Said either way: what a shell starts in the background ignores interrupts.
    action = "SIG_IGN" if ignored else "default_int_handler"
    first = f"import signal; signal.signal(signal.SIGINT, signal.{action})"
    return [sys.executable, "-c", f"{first}; from aasist_deploy.__main__ import main; main()"]


def test_an_interrupted_import_ends_without_a_word(path_with_numpy: dict[str, str]) -> None:
    done = subprocess.run(
        command(ignored=False), env=path_with_numpy, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_a_program_that_was_started_with_interrupts_ignored_goes_on(
    path_with_numpy: dict[str, str],
) -> None:
    done = subprocess.run(
        command(ignored=True), env=path_with_numpy, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (1, b"it went on")


def test_interrupts_are_python_s_again_once_everything_is_imported() -> None:
    code = (
        "import signal, sys, aasist_deploy.cli as cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cli.main = lambda: print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
        "from aasist_deploy.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"True"


def test_the_package_itself_imports_nothing() -> None:
    """So that nothing comes before `__main__`, which sees to Ctrl-C."""
    code = (
        "import sys; before = set(sys.modules); import aasist_deploy; "
        "print(*set(sys.modules) - before); assert aasist_deploy.open_engine"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.split() == [b"aasist_deploy"]
