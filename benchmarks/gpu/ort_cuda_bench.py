"""ONNX Runtime on the GPU through our engine, and beside it with the waves already there.

    PYTHONPATH=.:$HOME/ort/site \
        python benchmarks/gpu/ort_cuda_bench.py ~/bench -o OUT.json

First what must hold: the provider is really taken, one that cannot be had is refused, and the
logits are the published ones. Then times. Needs no torch.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
import onnxruntime as ort
import typer

from aasist_deploy import AasistDeployError, open_engine
from benchmarks.common import MODELS, Report, Waves, drift, repeat_ms, summary, timed_ms

if TYPE_CHECKING:
    from collections.abc import Callable

PARITY_BATCH: Final = 16
FORMS: Final = ("topk", "rank")
GRAPH_BATCHES: Final = (1, 8, 32)


class Bench:
    """The clips, the files and the report."""

    def __init__(self, folder: Path, provider: str, report: Report, clips: int | None) -> None:
        self.folder, self.provider, self.report = folder, provider, report
        loaded = np.load(folder / "clips.npz")
        self.pcm = np.load(folder / "waves.npy")[:clips]
        self.bonafide = loaded["bonafide"][:clips]
        self.golden = {name: loaded[f"logits.{name}"][:clips] for name in MODELS}

    def waves(self, batch: int, start: int = 0) -> Waves:
        """(B, 64_600) float32 windows of real clips."""
        rows = (start + np.arange(batch)) % len(self.pcm)
        waves: Waves = self.pcm[rows].astype(np.float32) / np.float32(32768)
        return waves

    def file(self, model: str, form: str) -> Path:
        """An exported file."""
        return self.folder / "onnx" / f"{model}.{form}.onnx"

    def refusal(self, provider: str) -> None:
        """Record what a user sees who asks for a provider that this machine cannot give."""
        try:
            with open_engine(self.file(MODELS[0], "topk"), "onnx", provider=provider) as engine:
                self.report.fact(f"asked_for_{provider}", {"taken": engine.device})
        except AasistDeployError as error:
            said = {"error": type(error).__name__, "message": str(error), "fix": error.fix}
            self.report.fact(f"asked_for_{provider}", said)

    def parity(self, model: str, form: str) -> None:
        """Every clip through the engine, against the published logits."""
        with open_engine(self.file(model, form), "onnx", provider=self.provider) as engine:
            self.report.fact(f"device_of_{model}.{form}", engine.device)
            logits = [
                engine.run(self.waves(min(PARITY_BATCH, len(self.pcm) - i), i))["logits"]
                for i in range(0, len(self.pcm), PARITY_BATCH)
            ]
        found = drift(np.concatenate(logits), self.golden[model], self.bonafide)
        self.report.row(part="parity", model=model, variant=f"engine {form}", **found)

    def engine(self, model: str, form: str, batches: list[int], seconds: float) -> None:
        """Our engine: host memory in, host memory out, copies included."""
        options: dict[str, Any] = {"provider": self.provider, "max_batch": max(batches)}
        with open_engine(self.file(model, form), "onnx", **options) as engine:
            for batch in batches:
                waves = self.waves(batch)

                def run(waves: Waves = waves) -> Waves:
                    return engine.run(waves)["logits"]

                self._time(model, f"engine {form}", waves, run, seconds)

    def bound(
        self, model: str, form: str, batches: list[int], seconds: float, *, tf32: bool
    ) -> None:
        """ONNX Runtime itself, input and output staying on the device."""
        session = self._session(self.file(model, form), tf32=tf32, graph=False)
        for batch in batches:
            self._bound(session, model, form, batch, seconds, tf32=tf32, graph=False)

    def replayed(self, model: str, form: str, batch: int, seconds: float) -> None:
        """The same with the runtime's own CUDA graph; a session records one batch size."""
        session = self._session(self.file(model, form), tf32=False, graph=True)
        self._bound(session, model, form, batch, seconds, tf32=False, graph=True)

    def _bound(
        self,
        session: ort.InferenceSession,
        model: str,
        form: str,
        batch: int,
        seconds: float,
        *,
        tf32: bool,
        graph: bool,
    ) -> None:
        waves = self.waves(batch)
        where = "cuda" if self.provider == "cuda" else "cpu"
        given = ort.OrtValue.ortvalue_from_numpy(waves, where, 0)
        taken = ort.OrtValue.ortvalue_from_numpy(np.full((batch, 2), np.nan, np.float32), where, 0)
        binding = session.io_binding()
        binding.bind_ortvalue_input("wave", given)
        binding.bind_ortvalue_output("logits", taken)
        if graph:  # every output of a recorded graph needs a fixed address
            for output in session.get_outputs():
                if output.name != "logits":
                    shape = [batch, *(d for d in output.shape[1:] if isinstance(d, int))]
                    value = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32), where, 0)
                    binding.bind_ortvalue_output(output.name, value)

        def run() -> Waves:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return taken  # type: ignore[no-any-return]  # read below, after the clock stopped

        name = f"bound {form}{' tf32' * tf32}{' cuda-graph' * graph}"
        self._time(model, name, waves, run, seconds)

    def _session(self, path: Path, *, tf32: bool, graph: bool) -> ort.InferenceSession:
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.provider == "cuda":
            ort.preload_dlls()
            settings = {"device_id": 0, "use_tf32": int(tf32), "enable_cuda_graph": int(graph)}
            providers.insert(0, ("CUDAExecutionProvider", settings))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(path, options, providers=providers)
        if self.provider == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
            raise RuntimeError(f"taken: {session.get_providers()}")
        return session

    def _time(
        self, model: str, name: str, waves: Waves, run: Callable[[], Any], seconds: float
    ) -> None:
        batch = len(waves)
        first_s = timed_ms(run) / 1000
        for _ in range(2):
            run()
        times = repeat_ms(lambda: timed_ms(run), seconds=seconds, at_least=5)
        found = run()
        logits = found if isinstance(found, np.ndarray) else found.numpy()
        golden = self.golden[model][np.arange(batch) % len(self.pcm)]
        self.report.row(
            part="timing",
            model=model,
            variant=name,
            **summary(times, batch),
            first_call_s=round(first_s, 2),
            max_difference=float(np.abs(logits - golden).max()),
        )


def main(
    folder: Annotated[Path, typer.Argument(help="Made by prepare.py and unpack_clips.py.")],
    output: Annotated[Path, typer.Option("-o", "--output")],
    provider: Literal["cuda", "cpu"] = "cuda",
    batches: str = "1,2,4,8,16,32,64,128,256",
    models: str = ",".join(MODELS),
    clips: Annotated[int | None, typer.Option(help="Use only the first N clips.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for one figure.")] = 0.4,
    limit_s: Annotated[float, typer.Option(help="Start nothing after this long.")] = 240,
) -> None:
    """Check, measure and write one JSON report."""
    stop = time.perf_counter() + limit_s
    report = Report(output, ("onnxruntime", "onnxruntime-gpu", "numpy"))
    report.fact("onnxruntime", ort.__version__)
    report.fact("available_providers", ort.get_available_providers())
    bench = Bench(folder.expanduser(), provider, report, clips)
    with report.step("refusal"):
        bench.refusal("tensorrt")
    chosen = models.split(",")
    for model in chosen:
        for form in FORMS:
            with report.step(f"parity {model} {form}"):
                bench.parity(model, form)
    sizes = [int(b) for b in batches.split(",")]
    jobs: list[tuple[str, Callable[[], None]]] = []
    for model in chosen:
        for form in FORMS:
            job = partial(bench.engine, model, form, sizes, seconds)
            jobs.append((f"engine {model} {form}", job))
        for form, tf32 in (("plain", False), ("topk", False), ("rank", False), ("topk", True)):
            job = partial(bench.bound, model, form, sizes, seconds, tf32=tf32)
            jobs.append((f"bound {model} {form} tf32={tf32}", job))
        if provider == "cuda":
            for form in FORMS:
                jobs += [
                    (
                        f"cuda-graph {model} {form} batch {b}",
                        partial(bench.replayed, model, form, b, seconds),
                    )
                    for b in sizes
                    if b in GRAPH_BATCHES
                ]
    for where, measure in jobs:
        if time.perf_counter() > stop:
            report.error(where, f"not run: the limit of {limit_s:g} s was reached")
            continue
        with report.step(where):  # batches ascend, so a large one that fails loses nothing
            measure()
    report.fact("finished", True)


if __name__ == "__main__":
    typer.run(main)
