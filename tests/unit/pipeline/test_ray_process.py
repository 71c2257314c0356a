"""Ray in a process beside the one that writes rows: what is said, and what its end is."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

pytest.importorskip("onnx", reason="needs the package onnx, to write a model")

from aasist_deploy.engines import open_engine
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, UsageError
from aasist_deploy.inputs import Address, AudioInput, NamedInputs
from aasist_deploy.pipeline import FIRST, InThreads, LocalScorer, WindowRule
from aasist_deploy.pipeline.children import environment
from aasist_deploy.pipeline.ray_process import RayProcess
from aasist_deploy.pipeline.run import Plan, score_inputs
from benchmarks.many_files import children_of
from tests.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = {"threads": 1}
SCRIPT = """
import sys
from aasist_deploy.errors import UsageError
from aasist_deploy.pipeline.children import error_text, receive, send
asked = receive(sys.stdin.buffer)

def say(**message):
    send(sys.stdout.buffer, message)
"""


def script(*lines: str) -> tuple[str, ...]:
    return (sys.executable, "-c", SCRIPT + "\n".join(lines))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("audio")
    made = [folder / f"{index}.wav" for index in range(6)]
    made.append(Path(os.fsdecode(os.fsencode(folder) + b"/\xff, x.wav")))
    for index, path in enumerate(made):
        wave = np.full(300 + 400 * index, 0.01 * index, np.float32)
        soundfile.write(os.fsencode(path), wave, 16_000, subtype="FLOAT")
    (folder / "bad.wav").write_text("no audio")
    return [*made, folder / "bad.wav", folder / "missing.wav"]


@pytest.fixture
def begun(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayProcess]:
    """A scorer with a cluster of its own."""
    for package in ("ray", "pandas", "onnxruntime"):
        pytest.importorskip(package, reason=f"needs {package}")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would leave a token in the user's folder
    with RayProcess(model, "onnx", OPTIONS, n_cpus=2) as scorer:
        yield scorer


def test_run_after_run_gives_the_rows_of_one_process_whatever_the_inputs_are(
    begun: RayProcess, model: Path, paths: list[Path], tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(paths[3], "three.wav")
    with NamedInputs([tmp_path / "x.tar"]) as named:
        sources = [*map(AudioInput, paths), *named, AudioInput(Path("x"), error="is no file")]
    pytest.importorskip("fsspec", reason="needs the extra fsspec")
    sources.append(AudioInput(Address(f"file://{paths[2]}")))
    with open_engine(model, "onnx", **OPTIONS) as engine:
        assert (begun.contract, begun.backend, begun.device) == (
            engine.contract, engine.backend, engine.device,
        )  # fmt: skip
        local = LocalScorer(engine, InThreads(), 2)
        assert begun.best_batch == local.best_batch
        for rule in (FIRST, WindowRule(n_windows=None, hop_s=0.01, aggregate="top-2")):
            expected = list(local.groups(sources, rule=rule, batch=3))
            assert list(begun.groups(sources, rule=rule, batch=3)) == expected
            assert sum(row.score is None for group in expected for row in group) == 3
            wrong = WindowRule(n_windows=1, hop_s=1.0)
            with pytest.raises(UsageError, match="has no meaning for the first window"):
                list(begun.groups(sources, rule=wrong, batch=3))
    groups = begun.groups(map(AudioInput, paths * 20), rule=FIRST, batch=3)
    assert next(groups)[0].path == paths[0]
    groups.close()
    assert begun._process.poll() is not None  # what is under way ends with it
    with pytest.raises(EnvironmentLacks, match="has ended"):
        list(begun.groups([], rule=FIRST, batch=3))


@pytest.mark.long
def test_end_of_the_ray_of_this_machine_is_an_error_and_the_run_goes_on_without_it(
    begun: RayProcess, model: Path, paths: list[Path], tmp_path: Path
) -> None:
    """Ray ends the process that speaks to it with 1, which of a command means that all is done."""
    plan = Plan(row_format="csv", batch=2, inputs="all")
    many = [path for path in paths[:5] for _ in range(40)]

    def killing() -> Iterator[AudioInput]:
        for number, path in enumerate(many):
            if number == 150:
                for pid in children_of(begun._process.pid):
                    if Path(f"/proc/{pid}/comm").read_text() == "raylet\n":
                        os.kill(pid, signal.SIGKILL)
            yield AudioInput(path)

    output = tmp_path / "x.csv"
    # Which comes first, that a task is lost or that the process is ended, is chance.
    with pytest.raises(
        EnvironmentLacks, match=r"has ended \(exit code 1\)|lost an engine"
    ) as raised:
        score_inputs(begun, killing(), output, plan)
    assert "--resume" in str(raised.value.fix)
    with open_engine(model, "onnx", **OPTIONS) as engine:
        local = LocalScorer(engine, InThreads(), 2)
        score_inputs(local, map(AudioInput, many), tmp_path / "whole.csv", plan)
        done = score_inputs(local, map(AudioInput, many), output, plan, resume=True)
    assert 0 < done.n_before < len(many)
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_refusals_are_raised_as_what_they_are(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    with pytest.raises(UsageError, match="no streams of results"):
        RayProcess(tmp_path / "x.onnx", "onnx", OPTIONS, address="ray://x")
    command = script("say(refused=error_text(UsageError('no', fix='so')))")
    with pytest.raises(UsageError, match="no") as raised:
        RayProcess(tmp_path / "x.onnx", "onnx", OPTIONS, command=command)
    assert raised.value.fix == "so"


@pytest.mark.parametrize(
    ("line", "how"), [("sys.exit(4)", "exit code 4"), ("import os; os.abort()", "SIGABRT")]
)
def test_process_that_does_not_start_is_an_error(line: str, how: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match=how):
        RayProcess(tmp_path / "x.onnx", "onnx", OPTIONS, command=script(line))


def test_what_it_answers_is_checked_like_a_file(tmp_path: Path) -> None:
    answer = (
        'send(sys.stdout.buffer, {"contract": {}, "backend": "", "device": "", "best_batch": 1})'
    )
    with pytest.raises(ModelFileError):
        RayProcess(tmp_path / "x.onnx", "onnx", OPTIONS, command=script(answer))


def test_what_it_logs_is_in_our_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    command = script(
        'send(sys.stdout.buffer, {"log": "a worker died", "level": asked["log_level"]})'
    )
    with caplog.at_level(logging.INFO, "aasist_deploy"), pytest.raises(EnvironmentLacks):
        RayProcess(tmp_path / "x.onnx", "onnx", OPTIONS, command=command)
    assert [(r.getMessage(), r.levelname) for r in caplog.records] == [("a worker died", "INFO")]


@pytest.mark.parametrize("busy", [False, True], ids=["waiting for us", "waiting for Ray"])
def test_process_ends_with_its_parent(busy: bool) -> None:
    lines = "from aasist_deploy.pipeline import ray_child\n"
    if busy:
        lines += "import time; ray_child.serve = lambda talk: time.sleep(100)\n"
        lines += "ray_child._NOTICE_S = 0.1\n"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{lines}ray_child.main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (int(busy), b"")
