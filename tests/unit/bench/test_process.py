from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aasist_deploy.bench.machine import machine, peak_memory_bytes
from aasist_deploy.bench.process import WorkerProcess
from aasist_deploy.bench.variants import OPEN_ENGINE
from aasist_deploy.errors import EnvironmentLacks, ModelFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("m.onnx", 1) as process:
        yield process


def test_an_engine_in_a_fresh_process_scores(
    small_onnx: Callable[..., Path], worker: WorkerProcess
) -> None:
    opened = worker.ask(
        "open", opener=OPEN_ENGINE, path=str(small_onnx()), backend="onnx", options={"threads": 1}
    )
    assert opened["n_samples"] == 16_000
    assert opened["load_s"] > 0
    found = worker.ask("score", batch=2, n_samples=16_000, calls=3)
    assert found["finite"]
    assert len(found["wall_s"]) == len(found["cpu_s"]) == 3
    assert min(found["wall_s"]) > 0
    memory = worker.ask("memory")
    assert memory["torch"] is False
    if sys.platform == "linux":
        assert memory["peak_bytes"] > opened["memory_before_bytes"] > 10_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_of_a_worker_is_its_own_and_not_that_of_its_parent(worker: WorkerProcess) -> None:
    before = worker.ask("memory")["peak_bytes"]
    held = np.ones(60_000_000)  # 480 MB here, before the next one starts
    with WorkerProcess("another", 1) as other:
        there = other.ask("memory")["peak_bytes"]
    assert there < 150_000_000 < held.nbytes < (peak_memory_bytes() or 0)  # 40 MB: numpy alone
    assert worker.ask("memory")["peak_bytes"] == pytest.approx(before, rel=0.2)


def test_an_error_of_ours_keeps_its_class_message_and_fix(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "none.onnx"
    with pytest.raises(ModelFileError, match="cannot be read") as raised:
        worker.ask("open", opener=OPEN_ENGINE, path=str(path), backend="onnx", options={})
    assert raised.value.fix == "check the path and its permissions"


def test_an_error_of_a_runtime_is_said_in_its_words(worker: WorkerProcess) -> None:
    with pytest.raises(EnvironmentLacks, match=r"m\.onnx failed: ModuleNotFoundError"):
        worker.ask("open", opener="nowhere:open", path="x", backend="onnx", options={})


def test_a_process_that_ends_is_said_to_have_ended() -> None:
    with WorkerProcess("m.onnx", 1) as process:
        process.ask("memory")
        os.kill(process._process.pid, 9)
        with pytest.raises(EnvironmentLacks, match=r"of m\.onnx was killed by signal 9"):
            process.ask("memory")


def test_threads_reach_the_libraries_that_read_them_from_the_environment() -> None:
    with WorkerProcess("x", 1) as process:
        ready = process.ask("open_products", threads=1, size=32)
        assert ready["operations"] == 2 * 32**3
        assert process.ask("product", name=ready["names"][0])["wall_s"] > 0


def test_machine_says_what_a_time_depends_on() -> None:
    here = machine()
    assert here["cpu"]
    assert here["cores"] >= 1
    assert here["affinity"] is None or len(here["affinity"]) == here["cores"]
