"""PyTorch on one GPU: parity on real clips, then times of every way to run AASIST in it.

    PYTHONPATH=. python benchmarks/gpu/torch_bench.py ~/bench -o OUT.json

Parts: `parity` scores all clips with each variant; `timing` measures each variant at each batch;
`compile` measures torch.compile. Batches are the outer loop, smallest first, so that a failure at a
large one loses nothing.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path  # noqa: TC003  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
import torch
import typer
from torch import Tensor, nn

from aasist_deploy.export.inference_aasist import InferenceAasist
from aasist_deploy.models import Aasist, Checkpoint, load_checkpoint
from benchmarks.common import MODELS, Report, drift, repeat_ms, summary, timed_ms, turn
from benchmarks.published_structure import as_published

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aasist_deploy.export.inference_layers import TopK

Structure = Literal["published", "ours", "topk", "rank"]
Run = Callable[[Tensor], Tensor]  # waves to logits

PARITY_BATCH: Final = 52
HALF: Final = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run the network.

    Attributes:
        structure: "published" and "ours" are the eager networks; "topk" and "rank" are the two
            deployed forms.
        precision: Of the whole network, the waves too (fp32, tf32, fp16, bf16), or of the encoder's
            convolutions alone (fp16-encoder, bf16-encoder), the filters and the graph being fp32.
        graph: Replay a CUDA graph instead of launching kernels one by one.
        channels_last: Memory layout of the encoder.
        tuned: Let cuDNN measure its algorithms (`cudnn.benchmark`).
    """

    structure: Structure
    precision: str = "fp32"
    graph: bool = False
    channels_last: bool = False
    tuned: bool = True

    @property
    def name(self) -> str:
        """For tables."""
        parts = [self.structure, self.precision, "cuda-graph" if self.graph else "eager"]
        parts += ["channels-last"] * self.channels_last + ["cudnn-defaults"] * (not self.tuned)
        return " ".join(parts)


PUBLISHED: Final = Variant(structure="published")
FP32: Final = Variant(structure="topk")
HALF_ENCODER: Final = Variant(
    structure="topk", precision="fp16-encoder", graph=True, channels_last=True
)
# What is timed, most wanted first; a larger batch of a variant that failed is not tried.
TIMED: Final[tuple[tuple[str, Variant, tuple[int, ...]], ...]] = (
    ("AASIST", PUBLISHED, (1, 8, 32, 128)),
    ("AASIST", HALF_ENCODER, (1, 8, 32, 128, 512)),
    ("AASIST", replace(PUBLISHED, precision="fp16"), (1, 32, 128, 512)),
    ("AASIST", FP32, (1, 128)),
    ("AASIST", replace(FP32, graph=True), (1, 32, 128)),
    ("AASIST", replace(HALF_ENCODER, precision="bf16-encoder"), (128,)),
    ("AASIST", replace(HALF_ENCODER, structure="rank"), (1, 128)),
    ("AASIST", replace(HALF_ENCODER, precision="fp16", channels_last=False), (1, 128)),
    ("AASIST", replace(PUBLISHED, precision="tf32"), (128,)),
    ("AASIST", replace(FP32, precision="tf32", graph=True, channels_last=True), (1, 128)),
    ("AASIST", replace(PUBLISHED, tuned=False), (1, 128)),
    ("AASIST-L", PUBLISHED, (1, 128)),
    ("AASIST-L", HALF_ENCODER, (1, 128)),
    ("AASIST", Variant(structure="ours"), (1, 128)),
    ("AASIST", PUBLISHED, (256, 512)),
)
COMPILED: Final[tuple[tuple[str, Variant, tuple[int, ...]], ...]] = (
    ("AASIST", replace(HALF_ENCODER, graph=False), (128, 1)),
    ("AASIST", PUBLISHED, (128, 1)),
)


class Encoder(nn.Module):
    """The encoder in another precision or layout; what goes in and comes out stays float32."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype, *, channels_last: bool) -> None:
        super().__init__()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.inner = inner.to(dtype)
        if channels_last:
            self.inner = self.inner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 23, N') -> (B, C, 23, T) float32."""
        x = x.to(self.dtype).contiguous(memory_format=self.layout)
        out: Tensor = self.inner(x)
        return out.float()


def build(checkpoint: Checkpoint, variant: Variant, device: torch.device) -> nn.Module:
    """The network of a variant on the device."""
    if variant.structure == "ours":
        return checkpoint.model.to(device)
    if variant.structure == "published":
        dtype = HALF.get(variant.precision, torch.float32)
        return as_published(checkpoint.model).to(device, dtype)
    form: TopK = variant.structure
    assert isinstance(checkpoint.model, Aasist)
    network = InferenceAasist(checkpoint.model.cpu(), form).eval()
    kind, _, where = variant.precision.partition("-")
    if where or variant.channels_last:
        dtype = HALF.get(kind, torch.float32)
        network.encoder = Encoder(network.encoder, dtype, channels_last=variant.channels_last)  # type: ignore[assignment]
    elif kind in HALF:
        network = network.to(HALF[kind])
    return network.to(device)


def runner(network: nn.Module, variant: Variant) -> Run:
    """Waves to logits; the waves are brought to the network's own precision first."""
    dtype = HALF.get(variant.precision, torch.float32)

    def run(waves: Tensor) -> Tensor:
        logits: Tensor = network(waves.to(dtype))[1]  # second of every structure's outputs
        return logits

    return run


@contextlib.contextmanager
def settings(variant: Variant) -> Iterator[None]:
    """TF32 and cuDNN's tuning as the variant says, and inference mode."""
    tf32 = variant.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=variant.tuned, allow_tf32=tf32),
    ):
        yield


def captured(run: Run, waves: Tensor) -> tuple[Callable[[], None], Tensor]:
    """Record the run on these waves as a CUDA graph; (replay, the logits it fills)."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run(waves)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = run(waves)
    return graph.replay, logits


# torch leaves its constructor untyped.
new_event: Callable[..., Any] = torch.cuda.Event


def event_ms(call: Callable[[], object]) -> float:
    """Time of a call between two CUDA events."""
    start, end = (new_event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def still_works() -> bool:
    """Whether the device survived the last error; an illegal access ends the process's context."""
    try:
        return float(torch.ones(4, device="cuda").sum().item()) == 4.0
    except RuntimeError:
        return False


class Bench:
    """The clips, the models and the report."""

    def __init__(self, folder: Path, device: str, report: Report) -> None:
        self.device = torch.device(device)
        self.report = report
        clips = np.load(folder / "clips.npz")
        self.bonafide: NDArray[np.bool_] = clips["bonafide"]
        self.golden = {name: clips[f"logits.{name}"] for name in MODELS}
        self.pcm = np.load(folder / "waves.npy")
        self.checkpoints = {n: load_checkpoint(folder / "models" / f"{n}.pth") for n in MODELS}

    def waves(self, rows: NDArray[np.int64]) -> Tensor:
        """(B, 64_600) float32 windows of real clips on the device."""
        return torch.from_numpy(self.pcm[rows]).to(self.device).float() / 32768.0

    def free(self) -> None:
        """Give memory back between variants."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def parity(self, model: str, variant: Variant, reference: dict[str, Tensor]) -> None:
        """Score every clip; compare logits with the published ones and pooling orders with fp32."""
        network = build(self.checkpoints[model], variant, self.device)
        dtype = HALF.get(variant.precision, torch.float32)
        logits, orders = [], []
        n_clips = len(self.pcm)
        with settings(variant):
            for start in range(0, n_clips, PARITY_BATCH):
                rows = np.arange(start, min(start + PARITY_BATCH, n_clips))
                outputs = network(self.waves(rows).to(dtype))
                logits.append(outputs[1].float().cpu())
                orders.append([o.cpu() for o in outputs[3:]])
        found = drift(
            torch.cat(logits).numpy(), self.golden[model][:n_clips], self.bonafide[:n_clips]
        )
        if variant.structure in ("topk", "rank"):
            names = network.pool_names
            mine = {n: torch.cat([o[i] for o in orders]) for i, n in enumerate(names)}  # type: ignore[arg-type]
            if variant == FP32:
                reference.update(mine)
            if variant.structure == "topk" and reference:
                changed = {n: (mine[n] != reference[n]).any(dim=1) for n in mine}
                kept = {
                    n: (mine[n].sort().values != reference[n].sort().values).any(dim=1)
                    for n in mine
                }
                found["clips_with_changed_order"] = int(
                    torch.stack([*changed.values()]).any(0).sum()
                )
                found["clips_with_changed_nodes"] = int(torch.stack([*kept.values()]).any(0).sum())
        self.report.row(part="parity", model=model, variant=variant.name, **found)

    def timing(self, model: str, variant: Variant, batch: int, seconds: float, rounds: int) -> None:
        """Median time of one batch, peak memory, and the difference from the published logits."""
        rows = np.arange(batch) % len(self.pcm)
        waves = self.waves(rows)
        run = runner(build(self.checkpoints[model], variant, self.device), variant)
        with settings(variant):
            self._time(model, variant.name, run, waves, variant.graph, seconds, rounds)

    def compiled(
        self, model: str, variant: Variant, batch: int, seconds: float, rounds: int
    ) -> None:
        """The same through torch.compile, launched and replayed."""
        rows = np.arange(batch) % len(self.pcm)
        waves = self.waves(rows)
        network = build(self.checkpoints[model], variant, self.device)
        torch._dynamo.reset()  # noqa: SLF001  # the documented way to forget earlier graphs
        run = runner(torch.compile(network, dynamic=False), variant)  # type: ignore[arg-type]
        with settings(variant):
            first_s = timed_ms(lambda: run(waves)) / 1000  # on the CPU for most of it
            for graph in (False, True) if self.device.type == "cuda" else (False,):
                name = f"{variant.name} compiled".replace(
                    "eager", "cuda-graph" if graph else "eager"
                )
                with turn():
                    self._time(
                        model,
                        name,
                        run,
                        waves,
                        graph,
                        seconds,
                        rounds,
                        first_call_s=round(first_s, 1),
                    )

    def _time(
        self,
        model: str,
        name: str,
        run: Run,
        waves: Tensor,
        graph: bool,
        seconds: float,
        rounds: int,
        **more: object,
    ) -> None:
        on_gpu = self.device.type == "cuda"
        logits = run(waves)
        call: Callable[[], object] = lambda: run(waves)  # noqa: E731
        if graph:
            call, logits = captured(run, waves)
            logits.zero_()  # what is compared below was written by a replay
        timer = event_ms if on_gpu else timed_ms
        for _ in range(2):
            call()
        times = repeat_ms(lambda: timer(call), seconds=seconds, at_least=rounds)
        batch = len(waves)
        golden = self.golden[model][np.arange(batch) % len(self.pcm)]
        difference = float(np.abs(logits.float().cpu().numpy() - golden).max())
        memory = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None
        self.report.row(
            part="timing",
            model=model,
            variant=name,
            **summary(times, batch),
            peak_memory_mib=None if memory is None else round(memory),
            max_difference=difference,
            **more,
        )


def main(
    folder: Annotated[Path, typer.Argument(help="Made by prepare.py and unpack_clips.py.")],
    output: Annotated[Path, typer.Option("-o", "--output")],
    device: str = "cuda",
    parts: str = "parity,timing",
    batches: Annotated[str, typer.Option(help="Only these; by default those of the tables.")] = "",
    models: str = ",".join(MODELS),
    clips: Annotated[int | None, typer.Option(help="Use only the first N clips.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for one figure.")] = 0.3,
    rounds: Annotated[int, typer.Option(help="Fewest repeats of one figure.")] = 5,
    limit_s: Annotated[float, typer.Option(help="Start nothing after this long.")] = 400,
) -> None:
    """Measure and write one JSON report."""
    stop = time.perf_counter() + limit_s
    on_gpu = device.startswith("cuda")
    facts: dict[str, Any] = {"device": torch.cuda.get_device_name() if on_gpu else device}
    if on_gpu:
        facts["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        facts["cuda"] = torch.version.cuda
    report = Report(output, ("torch", "triton", "numpy"), **facts)
    bench = Bench(folder.expanduser(), device, report)
    bench.pcm = bench.pcm[:clips]
    chosen, wanted = models.split(","), parts.split(",")
    only = {int(b) for b in batches.split(",") if b}
    jobs: list[tuple[str, Callable[[], None]]] = []
    for part, table, measure in (
        ("timing", TIMED, bench.timing),
        ("compile", COMPILED, bench.compiled),
    ):
        jobs += [
            (f"{part} {m} {v.name} batch {b}", partial(measure, m, v, b, seconds, rounds))
            for m, v, sizes in table
            for b in sizes
            if part in wanted
            and m in chosen
            and (on_gpu or not v.graph)
            and (not only or b in only)
        ]
    if "parity" in wanted:
        # Launched or replayed, the kernels are the same. The deployed form in fp32 is first: its
        # orders are what the others are compared with. It comes after the times of the baseline
        # and of what is compared with it.
        at = min(len(jobs), 9)
        first: list[tuple[str, Callable[[], None]]] = []
        for model in chosen:
            reference: dict[str, Tensor] = {}
            kinds = [replace(v, graph=False) for m, v, _ in TIMED if m == model and v.tuned]
            for v in dict.fromkeys([FP32, *kinds]):
                job = partial(bench.parity, model, v, reference)
                first.append((f"parity {model} {v.name}", job))
        jobs[at:at] = first
    too_large: set[str] = set()
    for where, run_job in jobs:
        if time.perf_counter() > stop:
            report.error(
                where, f"not run, nor what follows: the limit of {limit_s:g} s was reached"
            )
            sys.exit(1)
        key = where.partition(" batch ")[0]
        if key in too_large:
            continue
        try:
            bench.free()
            run_job()
        except Exception as error:  # noqa: BLE001  # recorded, whatever it is
            report.error(where, error)
            too_large.add(key)
            if on_gpu and not still_works():
                sys.exit(1)
    report.fact("finished", True)


if __name__ == "__main__":
    typer.run(main)
