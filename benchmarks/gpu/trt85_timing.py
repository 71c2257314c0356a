"""A plan of TensorRT 8.5 timed on the device, as a whole and layer by layer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.engines.tensorrt_runtime import Messages
from benchmarks.common import repeat_ms, summary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.engines.tensorrt_runtime import TensorRt
    from benchmarks.common import Report
    from benchmarks.gpu.driver import Driver

BATCHES: Final = (1, 8, 32, 64, 128)
PROFILED: Final = (1, 128)  # batches whose layers are timed


def time_on_device(
    path: Path,
    waves: NDArray[np.float32],
    golden: NDArray[np.float32],
    *,
    here: TensorRt,
    driver: Driver,
    report: Report,
    about: dict[str, Any],
) -> None:
    """Times between two CUDA events with waves on the device, kernels launched and replayed.

    Args:
        path: The plan.
        waves: (n, samples) of the clips.
        golden: (n, 2) logits of these clips.
        here: TensorRT 8.5.
        driver: Of the GPU.
        report: Gets a row for each batch and way of launching.
        about: What its rows say of the plan.
    """
    messages = Messages(here)
    runtime = here.module.Runtime(messages.logger)
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    context = engine.create_execution_context()
    stream = driver.stream.value or 0
    wide = max(BATCHES)
    held = {
        name: driver.allocate(wide * 4 * (waves.shape[1] if name == "wave" else 2))
        for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors))
    }
    for name, address in held.items():
        context.set_tensor_address(name, address)
    for batch in BATCHES:
        rows = np.arange(batch) % len(waves)
        driver.upload(held["wave"], waves[rows])
        context.set_input_shape("wave", (batch, waves.shape[1]))

        def run() -> None:
            if not context.execute_async_v3(stream):
                raise RuntimeError(messages.said())

        def timed(call: Any) -> float:  # noqa: ANN401
            driver.start()
            call()
            return driver.stop_ms()

        for launch in ("kernels", "cuda-graph"):
            call: Callable[[], object] = run
            if launch == "cuda-graph":
                run()
                driver.synchronize()
                driver.begin_capture()
                run()
                ready = driver.end_capture()
                call = partial(driver.launch, ready)
            for _ in range(3):
                call()
            driver.synchronize()
            driver.upload(held["logits"], np.full((batch, 2), np.nan, np.float32))
            times = repeat_ms(partial(timed, call), seconds=0.2, at_least=8)
            logits = np.empty((batch, 2), np.float32)
            driver.download(logits, held["logits"])
            difference = float(np.abs(logits - golden[rows]).max())
            report.row(
                part="timing",
                launch=launch,
                **about,
                **summary(times, batch),
                max_difference=difference,
            )
        if batch in PROFILED:
            _time_layers(context, run, batch, here=here, driver=driver, report=report, about=about)
    for address in held.values():
        driver.free(address)


def _time_layers(
    context: Any,  # noqa: ANN401  # TensorRT has no types
    run: Callable[[], None],
    batch: int,
    *,
    here: TensorRt,
    driver: Driver,
    report: Report,
    about: dict[str, Any],
) -> None:
    """Time of each layer of the plan, by TensorRT's own profiler; the slowest 30."""
    total: dict[str, float] = {}

    class Profiler(here.module.IProfiler):  # type: ignore[misc,name-defined]
        def __init__(self, base: Any) -> None:  # noqa: ANN401
            base.__init__(self)

        def report_layer_time(self, name: str, ms: float) -> None:
            total[name] = total.get(name, 0.0) + ms

    context.profiler = profiler = Profiler(here.module.IProfiler)
    run()
    driver.synchronize()
    total.clear()
    for _ in range(3):
        run()
        driver.synchronize()
    rows = sorted(((ms / 3, name) for name, ms in total.items()), reverse=True)
    report.row(
        part="layers",
        **about,
        batch=batch,
        sum_ms=round(sum(ms for ms, _ in rows), 4),
        n_layers=len(rows),
        slowest=[[round(ms, 4), name[:200]] for ms, name in rows[:30]],
    )
    del profiler
