"""Does TensorRT-RTX take this GPU, and what does it say if it does not?

    PYTHONPATH=.:$HOME/rtx/site \
        python benchmarks/gpu/trt_rtx_probe.py ~/bench -o OUT.json

Each risky step runs in a process of its own: a crash becomes a line of the report.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.common import MODELS, Report, drift, summary

BATCHES: Final = (1, 8, 32, 128)
MARK: Final = "RESULT "


def main() -> None:
    """Run the steps one after the other and write one JSON report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, default=Path("/tmp/trt_rtx"))
    parser.add_argument("--max-batch", type=int, default=128)
    given = parser.parse_args()
    folder: Path = given.folder.expanduser()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.step:
        found = run_step(given.step, folder, given.work, given.max_batch)
        print(MARK + json.dumps(found), flush=True)
        return
    report = Report(given.output, ("tensorrt-rtx-cu13", "torch", "numpy"))
    steps = ["device"]
    for model in MODELS:
        for capability in ("default", "current"):
            steps += [f"build:{model}:topk:{capability}", f"run:{model}:topk:{capability}"]
    for step in steps:
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu.trt_rtx_probe",
            str(folder),
            "--step",
            step,
        ]
        command += ["--work", str(given.work), "--max-batch", str(given.max_batch)]
        start = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        except subprocess.TimeoutExpired:
            report.error(step, "stopped after 150 s")
            continue
        lines = done.stdout.splitlines()
        said = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
        output = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        if done.returncode != 0 or not said:
            report.error(step, f"exit code {done.returncode}\n{output}")
            continue
        for row in json.loads(said[-1]):
            report.row(step=step, seconds=round(time.perf_counter() - start, 1), **row)
    report.fact("finished", True)


def run_step(step: str, folder: Path, work: Path, max_batch: int) -> list[dict[str, Any]]:
    """One step in this process; its rows."""
    kind, _, rest = step.partition(":")
    if kind == "device":
        return [device_facts()]
    model, form, capability = rest.split(":")
    plan = work / f"{model}.{form}.{capability}.plan"
    if kind == "build":
        return [build(folder / "onnx" / f"{model}.{form}.onnx", plan, capability, max_batch)]
    return execute(plan, folder, model, max_batch)


def device_facts() -> dict[str, Any]:
    """What the driver and PyTorch say of the GPU, and which capabilities TensorRT-RTX names."""
    import tensorrt_rtx as trt  # type: ignore[import-untyped,import-not-found,unused-ignore]

    facts: dict[str, Any] = {"tensorrt_rtx": trt.__version__}
    facts["capabilities"] = [c for c in dir(trt.ComputeCapability) if c.isupper()]
    try:
        import torch

        facts["torch"] = torch.__version__
        if torch.cuda.is_available():
            facts["device"] = torch.cuda.get_device_name()
            facts["sm"] = list(torch.cuda.get_device_capability())
    except ImportError:
        facts["torch"] = None
    return facts


class Log:
    """Keeps what TensorRT says; its own words are the result when it refuses."""

    def __init__(self, trt: Any) -> None:  # noqa: ANN401  # tensorrt has no types
        lines: list[str] = []

        class Logger(trt.ILogger):  # type: ignore[misc]
            def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
                if severity <= trt.ILogger.WARNING:
                    lines.append(f"{severity.name}: {message}")

            def __init__(self) -> None:
                trt.ILogger.__init__(self)

        self.lines, self.logger = lines, Logger()


def build(path: Path, plan: Path, capability: str, max_batch: int) -> dict[str, Any]:
    """Parse and build one file with a dynamic batch."""
    import tensorrt_rtx as trt

    log = Log(trt)
    builder = trt.Builder(log.logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse(path.read_bytes()):
        reasons = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        return {"built": False, "parser": reasons, "log": log.lines[-20:]}
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    taken = True
    if capability == "current":
        config.num_compute_capabilities = 1
        taken = bool(config.set_compute_capability(trt.ComputeCapability.CURRENT, 0))
    profile = builder.create_optimization_profile()
    samples = network.get_input(0).shape[1]
    profile.set_shape("wave", (1, samples), (min(32, max_batch), samples), (max_batch, samples))
    config.add_optimization_profile(profile)
    start = time.perf_counter()
    serialized = builder.build_serialized_network(network, config)
    seconds = round(time.perf_counter() - start, 1)
    if serialized is not None:
        plan.write_bytes(bytes(serialized))
    return {
        "built": serialized is not None,
        "capability_taken": taken,
        "layers": network.num_layers,
        "build_seconds": seconds,
        "bytes": plan.stat().st_size if serialized is not None else 0,
        "log": log.lines[-20:],
    }


def execute(plan: Path, folder: Path, model: str, max_batch: int) -> list[dict[str, Any]]:
    """Deserialize, compare every clip with the published logits, and time batches."""
    import tensorrt_rtx as trt
    import torch

    if not plan.is_file():
        return [{"ran": False, "reason": "there is no plan"}]
    log = Log(trt)
    runtime = trt.Runtime(log.logger)
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        return [
            {"ran": False, "reason": "deserialize_cuda_engine gave None", "log": log.lines[-20:]}
        ]
    context = engine.create_execution_context()
    if context is None:
        return [{"ran": False, "reason": "no execution context", "log": log.lines[-20:]}]
    clips = np.load(folder / "clips.npz")
    pcm = np.load(folder / "waves.npy")
    golden = clips[f"logits.{model}"]
    new_event: Any = torch.cuda.Event
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def bind(rows: Any) -> Any:  # noqa: ANN401
        waves = torch.from_numpy(pcm[rows]).cuda().float() / 32768.0
        outputs = {
            name: torch.full(
                (len(rows), *tuple(engine.get_tensor_shape(name))[1:]), torch.nan
            ).cuda()
            for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors))
            if name != "wave"
        }
        context.set_input_shape("wave", tuple(waves.shape))
        context.set_tensor_address("wave", waves.data_ptr())
        for name, value in outputs.items():
            context.set_tensor_address(name, value.data_ptr())
        torch.cuda.synchronize()
        return waves, outputs

    def once() -> float:
        start, end = (new_event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(stream):
            start.record()
            if not context.execute_async_v3(stream.cuda_stream):
                raise RuntimeError(f"execute_async_v3 refused: {log.lines[-5:]}")
            end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    found = []
    for i in range(0, len(pcm), 32):
        waves, outputs = bind(np.arange(i, min(i + 32, len(pcm))))
        once()
        found.append(outputs["logits"].cpu().numpy())
        del waves
    rows: list[dict[str, Any]] = [
        {"ran": True, "part": "parity", **drift(np.concatenate(found), golden, clips["bonafide"])}
    ]
    for batch in (b for b in BATCHES if b <= max_batch):
        chosen = np.arange(batch) % len(pcm)
        waves, outputs = bind(chosen)
        for _ in range(5):
            once()
        times = [once() for _ in range(30)]
        difference = float(np.abs(outputs["logits"].cpu().numpy() - golden[chosen]).max())
        rows.append({"part": "timing", **summary(times, batch), "max_difference": difference})
        del waves
    return rows


if __name__ == "__main__":
    main()
