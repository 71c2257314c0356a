"""The product's engine class on TensorRT 8.5: parity, times, memory, ties.

    bash benchmarks/gpu/run_trt85.sh -o OUT.json

`aasist_deploy.engines.trt` runs as it is, under Python 3.10, with device memory through
cuda-python. What TensorRT 8.5 lacks is made up here and only here: it is weakly typed, so each
layer is held to the type that the graph gives its outputs; and its plans are built here, because
the product's builder asks for the strongly typed networks of TensorRT 10.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import threading
import time
import typing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

typing.Self = typing.Any  # type: ignore[assignment]  # Python 3.11 has it; annotations alone
setattr(np, "bool", bool)  # noqa: B010  # numpy 1.24 dropped the name, TensorRT 8.5 asks for it

from aasist_deploy.contract import ModelContract  # noqa: E402
from aasist_deploy.engines import tensorrt_runtime, trt  # noqa: E402
from aasist_deploy.plan_file import PlanContract, write_plan  # noqa: E402
from benchmarks.common import Report, drift, repeat_ms, summary  # noqa: E402
from benchmarks.gpu import tie_cases  # noqa: E402
from benchmarks.gpu.driver import Driver  # noqa: E402
from benchmarks.gpu.trt85_build import PROFILES, build  # noqa: E402
from benchmarks.gpu.trt85_timing import time_on_device  # noqa: E402

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

# Without cuBLAS 11, which is not on the machine, TensorRT 8.5 has no kernels for the form `rank`.
PLANS: Final = (
    ("AASIST", "topk", "fp16"),
    ("AASIST", "topk", "fp32"),
    ("AASIST-L", "topk", "fp16"),
    ("AASIST-L", "topk", "fp32"),
)
LEAK_CALLS: Final = 10_000


def main() -> None:
    """Build, open, compare and time every plan; one JSON report that grows row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--limit-s", type=float, default=150.0, help="start no plan after this")
    parser.add_argument("--plans", default="", help="only these, e.g. AASIST.rank.fp16,...")
    parser.add_argument("--leak-calls", type=int, default=LEAK_CALLS)
    parser.add_argument("--graphs", action="store_true", help="also with and without CUDA graphs")
    given = parser.parse_args()
    tensorrt = import_module("tensorrt")
    here = tensorrt_runtime.TensorRt(tensorrt, "tensorrt", tensorrt.__version__)
    for module in (tensorrt_runtime, trt):
        setattr(module, "load_tensorrt", lambda _name=None: here)  # noqa: B010  # not for mypy
    report = Report(given.output, ("tensorrt", "numpy", "cuda-bindings"))
    gpu = tensorrt_runtime.require_gpu(0)
    report.fact("gpu", {"name": gpu.name, "sm": gpu.sm_text, "driver_cuda": gpu.driver_cuda})
    bench = Bench(given.folder.expanduser(), report, here, gpu)
    stop = time.perf_counter() + given.limit_s
    with report.step("ties"):
        bench.ties()
    wanted = [tuple(p.rsplit(".", 2)) for p in given.plans.split(",") if p] or PLANS
    for index, plan in enumerate(wanted):
        where = " ".join(plan)
        if time.perf_counter() > stop:
            report.error(where, f"not run: the limit of {given.limit_s:g} s was reached")
            continue
        with report.step(where):
            bench.plan(*plan, leak_calls=given.leak_calls if index == 0 else 0)
    if given.graphs:
        with report.step("graphs"):
            bench.graphs(*wanted[0])
    report.fact("finished", True)


class Bench:
    """The clips, the graphs and the report."""

    def __init__(self, folder: Path, report: Report, here: Any, gpu: Any) -> None:  # noqa: ANN401
        self.folder, self.report, self.here, self.gpu = folder, report, here, gpu
        self.messages = tensorrt_runtime.Messages(here)
        clips = np.load(folder / "clips.npz")
        self.bonafide = clips["bonafide"]
        self.golden = {n: clips[f"logits.{n}"] for n in ("AASIST", "AASIST-L")}
        self.waves = np.load(folder / "waves.npy").astype(np.float32) / np.float32(32768)

    def plan(self, model: str, form: str, precision: str, *, leak_calls: int) -> None:
        """Everything about one plan."""
        about = {"model": model, "variant": f"{form} {precision}"}
        path = self.written(model, form, precision, PROFILES, about)
        driver = Driver()
        free = driver.free_mib()
        start = time.perf_counter()
        with trt.TrtEngine(path, contexts=1) as engine:
            opened = time.perf_counter() - start
            self.report.row(
                part="open",
                **about,
                seconds=round(opened, 2),
                device=engine.device,
                device_memory_mib=free - driver.free_mib(),
            )
            self.parity(engine, model, about)
            self.end_to_end(engine, about)
            if leak_calls:
                self.threads(engine, model, about)
                self.leak(engine, driver, about, leak_calls)
        self.report.row(part="close", **about, mib_not_given_back=free - driver.free_mib())
        time_on_device(
            path,
            self.waves,
            self.golden[model],
            here=self.here,
            driver=driver,
            report=self.report,
            about=about,
        )

    def graphs(self, model: str, form: str, precision: str) -> None:
        """The engine with and without CUDA graphs, in small batches.

        Before 8.6 each context needs a profile of its own, and each graph has a context.
        """
        about = {"model": model, "variant": f"{form} {precision}"}
        path = self.written(model, form, precision, ((1, 1, 8),) * 5, about)
        for cuda_graphs in (False, True):
            with trt.TrtEngine(path, cuda_graphs=cuda_graphs, contexts=1) as engine:
                for batch in (1, 8):
                    waves = self.waves[:batch]
                    for _ in range(6):
                        found = engine.score(waves)
                    times = repeat_ms(partial(wall_ms, engine, waves), seconds=0.4)
                    difference = float(np.abs(found - self.golden[model][:batch, 1]).max())
                    self.report.row(
                        part="score",
                        cuda_graphs=cuda_graphs,
                        graphs_alive=engine._cuda.alive()["graphs"],  # noqa: SLF001
                        **about,
                        **summary(times, batch),
                        max_difference=difference,
                    )

    def written(
        self,
        model: str,
        form: str,
        precision: str,
        profiles: Sequence[tuple[int, int, int]],
        about: dict[str, Any],
    ) -> Path:
        """A plan on disk, with its JSON."""
        suffix = "" if precision == "fp32" else f".{precision}"
        source = self.folder / "onnx17" / f"{model}.{form}{suffix}.onnx"
        contract = json.loads(source.with_suffix(".contract.json").read_text())
        start = time.perf_counter()
        content, facts = build(self.here, source, mixed=precision != "fp32", profiles=profiles)
        seconds = time.perf_counter() - start
        path = self.folder / "plans" / f"{model}.{form}.{precision}.plan"
        path.parent.mkdir(exist_ok=True)
        held = PlanContract(
            contract=ModelContract.from_dict(contract, source),
            plan_sha256=hashlib.sha256(content).hexdigest(),
            plan_bytes=len(content),
            onnx_sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
            runtime="tensorrt",
            tensorrt_version=self.here.version,
            sm=self.gpu.sm_text,
            profiles=tuple(profiles),
            tf32=False,
            build={},
            gpu_name=self.gpu.name,
        )
        write_plan(content, held, path)
        self.report.row(
            part="build",
            **about,
            build_seconds=round(seconds, 1),
            bytes=len(content),
            profiles=profiles,
            **facts,
        )
        return path

    def parity(self, engine: Any, model: str, about: dict[str, Any]) -> None:  # noqa: ANN401
        """All clips, at batches that divide nothing evenly, and one by one."""
        golden = self.golden[model]
        for batch in (128, 52, 1):
            found = [
                engine.run(self.waves[i : i + batch])["logits"]
                for i in range(0, len(self.waves), batch)
            ]
            logits = np.concatenate(found)
            self.report.row(
                part="parity", **about, batch=batch, **drift(logits, golden, self.bonafide)
            )

    def end_to_end(self, engine: Any, about: dict[str, Any]) -> None:  # noqa: ANN401
        """`engine.score` from host memory to host memory, wall-clock."""
        for batch in (1, 8, 128, 512):
            waves = np.ascontiguousarray(self.waves[np.arange(batch) % len(self.waves)])
            for _ in range(6):
                engine.score(waves)
            times = repeat_ms(partial(wall_ms, engine, waves), seconds=0.5, at_least=5)
            self.report.row(part="score", **about, **summary(times, batch))

    def threads(self, engine: Any, model: str, about: dict[str, Any]) -> None:  # noqa: ANN401
        """Eight threads, mixed batches: each gets the scores of its own rows."""
        worst = []

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(20):
                rows = rng.integers(0, len(self.waves), rng.integers(1, 40))
                found = engine.score(self.waves[rows])
                worst.append(float(np.abs(found - self.golden[model][rows, 1]).max()))

        started = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        self.report.row(part="threads", **about, calls=len(worst), max_difference=max(worst))

    def leak(self, engine: Any, driver: Driver, about: dict[str, Any], calls: int) -> None:  # noqa: ANN401
        """Device memory and host memory before and after many calls."""
        waves = self.waves[:9]
        for batch in (1, 2, 3, 9):
            for _ in range(4):
                engine.score(waves[:batch])
        before, host = driver.free_mib(), resident_mib()
        for call in range(calls):
            engine.score(waves[: (1, 2, 3, 9)[call % 4]])
        self.report.row(
            part="leak",
            **about,
            calls=calls,
            device_mib_lost=before - driver.free_mib(),
            host_mib_grown=round(resident_mib() - host, 1),
        )

    def ties(self) -> None:
        """Graph pooling alone, on scores that tie or nearly tie, in both forms."""
        driver = Driver()
        for path in sorted((self.folder / "ties17").glob("pool.*.topk.onnx")):
            content, _ = build(self.here, path, mixed=False)
            runtime = self.here.module.Runtime(self.messages.logger)
            engine = runtime.deserialize_cuda_engine(content)
            context = engine.create_execution_context()

            def run(_: Path, nodes: Any, engine: Any = engine, context: Any = context) -> Any:  # noqa: ANN401
                context.set_input_shape("nodes", nodes.shape)
                outputs: dict[str, Any] = {}
                held = {"nodes": driver.allocate(nodes.nbytes)}
                driver.upload(held["nodes"], nodes)
                for name in ("kept", "order"):
                    dtype = np.dtype(self.here.module.nptype(engine.get_tensor_dtype(name)))
                    outputs[name] = np.empty(tuple(context.get_tensor_shape(name)), dtype)
                    held[name] = driver.allocate(outputs[name].nbytes)
                for name, address in held.items():
                    context.set_tensor_address(name, address)
                if not context.execute_async_v3(driver.stream.value or 0):
                    raise RuntimeError(self.messages.said())
                driver.synchronize()
                for name, array in outputs.items():
                    driver.download(array, held[name])
                return outputs["kept"], outputs["order"]

            self.report.row(part="ties", **tie_cases.kept_wrongly(path, run))


def wall_ms(engine: Any, waves: Any) -> float:  # noqa: ANN401
    """Wall-clock time of one call of `score`."""
    start = time.perf_counter()
    engine.score(waves)
    return (time.perf_counter() - start) * 1000.0


def resident_mib() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    main()
