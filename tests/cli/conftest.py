"""The command line as a user meets it: exit code, stdout, stderr; and never a traceback."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.cli import main
from tests.cli.recordings import write_wave

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """Arguments -> what `aasist-deploy` with them does, in this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: Any) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["aasist-deploy", *map(os.fspath, arguments)])
        capsys.readouterr()
        stderr: Any = sys.stderr
        stderr.reconfigure(errors="backslashreplace")  # as Python's own is
        with pytest.raises(SystemExit) as raised:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        code = raised.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), *captured)

    yield run
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def fake_model(
    fake_engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Options of the fake engine -> a file that every verb opens with that engine."""

    def install(**options: Any) -> Path:
        error = options.pop("error", None)

        def open_engine(*_arguments: Any, **_options: Any) -> Any:
            engine = fake_engine(**options)
            engine.error = error or engine.error
            return engine

        for verb in ("score", "eval", "parity", "windows"):
            module = sys.modules[f"aasist_deploy.cli.{verb}"]
            monkeypatch.setattr(module, "open_engine", open_engine)
        path = tmp_path / "fake.onnx"
        path.touch()
        return path

    return install


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """(name, level) -> a file of 800 equal samples, for which the fake engine says 10 * level."""

    def write(name: str, level: float = 0.1, n_samples: int = 800) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:  # soundfile takes no names that are not UTF-8
            wave = np.full(n_samples, level, np.float32)
            soundfile.write(file, wave, 16_000, format="WAV", subtype="FLOAT")
        return path

    return write


@pytest.fixture
def wave(tmp_path: Path) -> Path:
    """A second whose scores fall from 5 to -5."""
    return write_wave(tmp_path / "a.wav")


@pytest.fixture
def manifest(clip: Callable[..., Path], tmp_path: Path) -> Path:
    """A labelled dataset: two bona fide and three spoofed clips."""
    levels = {"good1": 0.5, "good2": 0.3, "bad1": -0.2, "bad2": 0.35, "bad3": -0.4}
    lines = ["path,label,attack"]
    for name, level in levels.items():
        clip(f"data/{name}.wav", level)
        attack = "-" if name.startswith("good") else f"A{name[-1]}"
        lines.append(f"{name}.wav,{'bonafide' if attack == '-' else 'spoof'},{attack}")
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


_SLOW_PROGRAM = """
import signal, sys, time
import numpy as np
from aasist_deploy.cli import main, windows
from aasist_deploy.contract import ModelContract
from aasist_deploy.engines.base import BaseEngine

class Slow(BaseEngine):
    backend = "slow"

    def _run(self, waves):
        time.sleep(0.01 * len(waves))
        return {"score": waves.mean(axis=1)}

    def _close(self):
        pass

contract = ModelContract(
    architecture="Slow", config={}, sample_rate_hz=16_000, n_samples=800, min_samples=800,
    outputs={"score": "mean"}, checkpoint_sha256="0" * 64,
)
windows.open_engine = lambda *_arguments, **_options: Slow(contract, "nothing", None)
# Programs that are started in the background may be told to ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.fixture
def slow_program(tmp_path: Path) -> tuple[list[str], Path]:
    """The command line in a process of its own, on an engine of 10 ms a window, and a model."""
    model = tmp_path / "slow.onnx"
    model.touch()
    return [sys.executable, "-c", _SLOW_PROGRAM], model
