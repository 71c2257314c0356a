"""TensorRT plans through the product: built, compared with published logits, timed.

    python -m benchmarks.gpu.trt_bench FOLDER -o OUT.json

FOLDER is made by prepare.py and unpack_clips.py. Plans are built by `build_plan` and run by
`TrtEngine`, from host memory to host memory (`score`) and with waves on the device (`timing`).
`Bench` needs numpy and the standard library beside the engine, and runs under Python 3.10 too.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.common import MODELS, Report, drift, repeat_ms, summary
from benchmarks.gpu.driver import Driver, OnDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

# One profile for single calls, one for folders. 128 is the last power of two at which the widest
# map, 32 x 23 x 21,490 values a window, has fewer than 2^31 values; larger batches run in pieces.
PROFILES: Final = ((1, 1, 8), (1, 128, 128))
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
END_TO_END: Final = (1, 8, 64, 128, 512)
# fp16: islands by rule, of which the emulation says that they do not hold the limit on all clips.
# fp16-gated: with the layers that it moved to fp32 until they did.
PLANS: Final = (
    ("AASIST", "rank", "fp16-gated"),
    ("AASIST", "rank", "fp16"),
    ("AASIST", "rank", "fp32"),
    ("AASIST", "topk", "fp16"),
    ("AASIST-L", "rank", "fp16-gated"),
    ("AASIST-L", "rank", "fp16"),
    ("AASIST-L", "rank", "fp32"),
)
PARITY_BATCHES: Final = (512, 52, 1)
LEAK_CALLS: Final = 10_000
LEAK_SIZES: Final = (1, 2, 3, 9)
# Of a logit, and no decision flipped. fp32 with TF32 off: a GPU sums in another order than a CPU.
# fp16: the limit of the export's gate, for graphs that held it in emulation.
LIMITS: Final = {"fp32": 1e-3, "fp16-gated": 0.05, "fp16": None}


class Bench:
    """The clips and the report; measures whatever engine it is given."""

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder, self.report = folder, report
        clips = np.load(folder / "clips.npz")
        self.bonafide = clips["bonafide"]
        self.golden = {name: clips[f"logits.{name}"] for name in MODELS}
        self.waves = np.load(folder / "waves.npy").astype(np.float32) / np.float32(32768)

    def parity(self, engine: Any, model: str, about: dict[str, Any], limit: float | None) -> None:  # noqa: ANN401
        """All clips at several batches, against the published logits; fails beyond the limit."""
        for batch in PARITY_BATCHES:
            found = [
                engine.run(self.waves[i : i + batch])["logits"]
                for i in range(0, len(self.waves), batch)
            ]
            facts = drift(np.concatenate(found), self.golden[model], self.bonafide)
            flips = facts["flipped_at_eer_threshold"] + facts["not_finite"]
            holds = bool(flips == 0 and (limit is None or facts["max_difference"] <= limit))
            self.report.row(part="parity", **about, batch=batch, limit=limit, holds=holds, **facts)
            if not holds:
                said = f"{facts['max_difference']:.2e} of at most {limit}, {flips} flips"
                self.report.error(f"parity {about}", said)

    def end_to_end(self, engine: Any, about: dict[str, Any]) -> None:  # noqa: ANN401
        """`engine.score` from host memory to host memory, wall-clock."""
        for batch in END_TO_END:
            waves = np.ascontiguousarray(self.waves[np.arange(batch) % len(self.waves)])
            for _ in range(6):
                engine.score(waves)
            times = repeat_ms(lambda w=waves: wall_ms(engine, w), seconds=0.5, at_least=5)  # type: ignore[misc]
            self.report.row(part="score", **about, **summary(times, batch))

    def on_device(self, engine: Any, model: str, about: dict[str, Any], driver: Driver) -> None:  # noqa: ANN401
        """`engine.run_on_device` between two CUDA events: nothing is copied."""
        widest, samples = max(BATCHES), self.waves.shape[1]
        given, taken = driver.allocate(widest * samples * 4), driver.allocate(widest * 2 * 4)
        stream = int(driver.stream.value or 0)
        for batch in (b for b in BATCHES if b <= engine.max_batch):
            rows = np.arange(batch) % len(self.waves)
            driver.upload(given, self.waves[rows])
            wave = OnDevice(given, (batch, samples))
            logits = {"logits": OnDevice(taken, (batch, 2))}

            def once(wave: OnDevice = wave, logits: dict[str, OnDevice] = logits) -> float:
                driver.start()
                engine.run_on_device(wave, logits, stream=stream)
                return driver.stop_ms()

            for _ in range(6):
                once()
            driver.upload(taken, np.full((batch, 2), np.nan, np.float32))
            times = repeat_ms(once, seconds=0.3, at_least=8)
            found = np.empty((batch, 2), np.float32)
            driver.download(found, taken)
            difference = float(np.abs(found - self.golden[model][rows]).max())
            self.report.row(
                part="timing", **about, **summary(times, batch), max_difference=difference
            )
        driver.free(given)
        driver.free(taken)

    def threads(self, engine: Any, model: str, about: dict[str, Any]) -> None:  # noqa: ANN401
        """Eight threads, mixed batches: each gets the scores of its own rows."""
        differences: list[float] = []

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(20):
                rows = rng.integers(0, len(self.waves), rng.integers(1, 40))
                found = engine.score(self.waves[rows])
                differences.append(float(np.abs(found - self.golden[model][rows, 1]).max()))

        started = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        calls, worst = len(differences), max(differences)
        self.report.row(part="threads", **about, calls=calls, max_difference=worst)

    def leak(self, engine: Any, driver: Driver, about: dict[str, Any], calls: int) -> None:  # noqa: ANN401
        """Device memory and host memory before and after many calls."""
        for batch in LEAK_SIZES * 4:
            engine.score(self.waves[:batch])
        before, host = driver.free_mib(), resident_mib()
        for call in range(calls):
            engine.score(self.waves[: LEAK_SIZES[call % len(LEAK_SIZES)]])
        self.report.row(
            part="leak",
            **about,
            calls=calls,
            device_mib_lost=before - driver.free_mib(),
            host_mib_grown=round(resident_mib() - host, 1),
        )


def measure_plan(bench: Bench, plan: Sequence[str], leak_calls: int) -> None:
    """Build one plan with the product, open it, and measure."""
    from aasist_deploy.engines.trt import TrtEngine
    from aasist_deploy.export.engine_from_onnx import BuildOptions, build_plan

    model, form, precision = plan
    about = {"model": model, "variant": f"{form} {precision}"}
    suffix = "" if precision == "fp32" else f".{precision}"
    source = bench.folder / "onnx" / f"{model}.{form}{suffix}.onnx"
    path = bench.folder / "plans" / f"{model}.{form}.{precision}.plan"
    path.parent.mkdir(exist_ok=True)
    layers = path.with_suffix(".layers.json")
    options = BuildOptions(profiles=PROFILES, detailed=True)
    built = build_plan(source, path, options, cache=False, report=layers)
    driver = Driver()
    bench.report.row(
        part="build",
        **about,
        build_seconds=round(built.seconds, 1),
        bytes=built.contract.plan_bytes,
        built_for=built.contract.built_for(),
        profiles=built.contract.profiles,
    )
    free, start = driver.free_mib(), time.perf_counter()
    with TrtEngine(path) as engine:
        opened = round(time.perf_counter() - start, 2)
        memory = free - driver.free_mib()
        bench.report.row(
            part="open", **about, seconds=opened, device=engine.device, device_memory_mib=memory
        )
        bench.parity(engine, model, about, LIMITS[precision])
        bench.on_device(engine, model, about, driver)
        bench.end_to_end(engine, about)
        if leak_calls:
            bench.threads(engine, model, about)
            bench.leak(engine, driver, about, leak_calls)
    bench.report.row(part="close", **about, mib_not_given_back=free - driver.free_mib())


def main() -> None:
    """Every plan, in the order of what is most wanted; one JSON report that grows row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--limit-s", type=float, default=600.0, help="start no plan after this")
    parser.add_argument("--plans", default="", help="only these, e.g. AASIST.rank.fp16,...")
    parser.add_argument("--leak-calls", type=int, default=LEAK_CALLS, help="of the first plan")
    given = parser.parse_args()
    from aasist_deploy.engines.tensorrt_runtime import load_tensorrt, require_gpu

    gpu, here = require_gpu(0), load_tensorrt()
    report = Report(given.output, ("pycuda", "cuda-bindings", "numpy", "aasist-deploy"))
    report.fact("tensorrt", here.title)
    report.fact("gpu", {"name": gpu.name, "sm": gpu.sm_text, "driver_cuda": gpu.driver_cuda})
    bench = Bench(given.folder.expanduser(), report)
    stop = time.perf_counter() + given.limit_s
    wanted = [tuple(p.rsplit(".", 2)) for p in given.plans.split(",") if p] or PLANS
    for index, plan in enumerate(wanted):
        where = " ".join(plan)
        if time.perf_counter() > stop:
            report.error(where, f"not run: the limit of {given.limit_s:g} s was reached")
            continue
        with report.step(where):
            measure_plan(bench, plan, given.leak_calls if index == 0 else 0)
    report.fact("finished", True)
    if report.content["errors"]:
        raise SystemExit(1)


def wall_ms(engine: Any, waves: Any) -> float:  # noqa: ANN401
    """Wall-clock time of one call of `score`."""
    start = time.perf_counter()
    engine.score(waves)
    return (time.perf_counter() - start) * 1000.0


def resident_mib() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    main()
