"""TensorRT 8.5 on the GPU: build the exported graphs, compare with the published logits, time them.

    cd ~/trt85/site
    LD_LIBRARY_PATH=$PWD/tensorrt PYTHONHOME=$PWD/py310 PYTHONPATH=$PWD:REPOSITORY \
        ./py310/bin/python3.10 REPOSITORY/benchmarks/gpu/trt85_bench.py ~/bench -o OUT.json

Runs under Python 3.10 with numpy alone: device memory and events come from the driver through
ctypes. TensorRT 8.5 is weakly typed: precision is a flag of the builder, and layers that must stay
in float32 are named here. That, and the graphs' older opset, is why this is no engine of the
product.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.common import Report, drift, repeat_ms, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
PARITY_BATCH: Final = 52
MARK: Final = "RESULT "
# fp32: TF32 cleared. fp16: the flag alone. fp16-encoder: the flag, and everything but the encoder's
# convolutions kept in float32.
PRECISIONS: Final = ("fp32", "tf32", "fp16", "fp16-encoder")
PLANS: Final = (
    ("AASIST", "topk", "fp32"),
    ("AASIST", "topk", "fp16-encoder"),
    ("AASIST", "topk", "fp16"),
    ("AASIST-L", "topk", "fp32"),
    ("AASIST-L", "topk", "fp16-encoder"),
    ("AASIST", "rank", "fp32"),
    ("AASIST", "rank", "fp16-encoder"),
    ("AASIST", "topk", "tf32"),
    ("AASIST-L", "topk", "fp16"),
)


class Driver:
    """The few calls of libcuda that a benchmark needs, in the context that TensorRT shares."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._do("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._do("cuDeviceGet", ctypes.byref(device), 0)
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._do("cuCtxSetCurrent", context)
        self.device = device
        self.stream = ctypes.c_void_p()
        self._do("cuStreamCreate", ctypes.byref(self.stream), 1)
        self.events = [ctypes.c_void_p() for _ in range(2)]
        for event in self.events:
            self._do("cuEventCreate", ctypes.byref(event), 0)

    def _do(self, name: str, *values: Any) -> None:  # noqa: ANN401
        code = getattr(self._cuda, name)(*values)
        if code != 0:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(code, ctypes.byref(text))
            raise RuntimeError(f"{name} failed with {code}: {(text.value or b'?').decode()}")

    def facts(self) -> dict[str, Any]:
        """Name, compute capability, driver version."""
        name = ctypes.create_string_buffer(128)
        self._do("cuDeviceGetName", name, 128, self.device)
        major, minor, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._do("cuDeviceGetAttribute", ctypes.byref(major), 75, self.device)
        self._do("cuDeviceGetAttribute", ctypes.byref(minor), 76, self.device)
        self._do("cuDriverGetVersion", ctypes.byref(version))
        sm = [major.value, minor.value]
        return {"device": name.value.decode(), "sm": sm, "cuda_of_driver": version.value}

    def allocate(self, n_bytes: int) -> int:
        """Device memory; it lives as long as the process."""
        address = ctypes.c_uint64()
        self._do("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(n_bytes))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back."""
        self._do("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, array: Any) -> None:  # noqa: ANN401
        """Host to device, blocking."""
        data = np.ascontiguousarray(array)
        size = ctypes.c_size_t(data.nbytes)
        self._do(
            "cuMemcpyHtoD_v2", ctypes.c_uint64(address), ctypes.c_void_p(data.ctypes.data), size
        )
        self._do("cuCtxSynchronize")  # that call may return while the last piece is on its way

    def download(self, array: Any, address: int) -> None:  # noqa: ANN401
        """Device to host, blocking."""
        size = ctypes.c_size_t(array.nbytes)
        self._do(
            "cuMemcpyDtoH_v2", ctypes.c_void_p(array.ctypes.data), ctypes.c_uint64(address), size
        )

    def free_mib(self) -> int:
        """Device memory that is not in use."""
        left, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._do("cuMemGetInfo_v2", ctypes.byref(left), ctypes.byref(total))
        return left.value // 2**20

    def start(self) -> None:
        """Mark the begin of a timed region on the stream."""
        self._do("cuEventRecord", self.events[0], self.stream)

    def stop_ms(self) -> float:
        """Mark its end, wait for it, and give the time between."""
        self._do("cuEventRecord", self.events[1], self.stream)
        self._do("cuEventSynchronize", self.events[1])
        took = ctypes.c_float()
        self._do("cuEventElapsedTime", ctypes.byref(took), *self.events)
        return float(took.value)

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._do("cuStreamSynchronize", self.stream)

    def begin_capture(self) -> None:
        """Record what follows on the stream instead of running it."""
        self._do("cuStreamBeginCapture_v2", self.stream, 1)  # thread-local: allocations stay legal

    def end_capture(self) -> Any:  # noqa: ANN401
        """The recorded CUDA graph, ready to launch."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._do("cuStreamEndCapture", self.stream, ctypes.byref(graph))
        self._do("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_uint64(0))
        return ready

    def launch(self, ready: Any) -> None:  # noqa: ANN401
        """Replay a recorded graph."""
        self._do("cuGraphLaunch", ready, self.stream)


def main() -> None:
    """Each plan in a process of its own; one JSON report that grows with every step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--max-batch", type=int, default=128)
    parser.add_argument(
        "--limit-s", type=float, default=420.0, help="start nothing after this long"
    )
    parser.add_argument(
        "--plan-limit-s", type=float, default=180.0, help="stop one plan after this"
    )
    parser.add_argument("--parse-only", action="store_true", help="import and read; needs no GPU")
    parser.add_argument("--plan", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder: Path = given.folder.expanduser()
    if given.plan:
        measure(folder, given.plan, given.max_batch)
        return
    report = Report(given.output, ("tensorrt", "numpy"))
    stop = time.perf_counter() + given.limit_s
    if given.parse_only:
        with report.step("import"):
            import tensorrt as trt  # type: ignore[import-not-found]

            report.fact("tensorrt", trt.__version__)
            report.fact("builder", str(trt.Builder(trt.Logger())))
        return
    for plan in PLANS:
        where = " ".join(plan)
        left = stop - time.perf_counter()
        if left < 10:
            report.error(where, f"not run: the limit of {given.limit_s:g} s was reached")
            continue
        command = [sys.executable, __file__, str(folder), "--max-batch", str(given.max_batch)]
        limit = min(given.plan_limit_s, left)
        # Rows are passed on as they come, so that a plan that is stopped keeps those it has.
        with subprocess.Popen(
            [*command, "--plan", *plan], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            end = time.perf_counter() + limit
            tail = follow(process, report, where, end)
            if process.returncode != 0:
                report.error(where, f"exit code {process.returncode}\n" + "\n".join(tail[-25:]))
    report.fact("finished", True)


def follow(process: subprocess.Popen[str], report: Report, where: str, end: float) -> list[str]:
    """Put the rows of a child into the report until it ends or its time is up; its other lines."""
    import threading

    timer = threading.Timer(max(end - time.perf_counter(), 0.1), process.kill)
    timer.start()
    others: list[str] = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith(MARK):
                row = json.loads(line.removeprefix(MARK))
                if "failed" in row:
                    report.error(f"{where} {row['part']}", row["failed"])
                else:
                    report.row(**row)
            else:
                others.append(line.rstrip())
        process.wait()
    finally:
        timer.cancel()
    return others


def measure(folder: Path, plan: Sequence[str], max_batch: int) -> None:
    """Build one plan, check it, time it; rows go to standard output."""
    import tensorrt as trt

    model, form, precision = plan
    about = {"model": model, "variant": f"{form} {precision}"}

    def tell(**values: Any) -> None:  # noqa: ANN401
        print(MARK + json.dumps({**about, **values}), flush=True)

    driver = Driver()
    tell(part="device", tensorrt=trt.__version__, **driver.facts())
    free = driver.free_mib()
    logger = trt.Logger(trt.Logger.WARNING)
    start = time.perf_counter()
    serialized, facts = build(
        trt, logger, folder / "onnx17" / f"{model}.{form}.onnx", precision, max_batch
    )
    tell(
        part="build",
        build_seconds=round(time.perf_counter() - start, 1),
        bytes=len(serialized),
        **facts,
        profile=[1, min(32, max_batch), max_batch],
    )
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(serialized)
    if engine is None:
        raise SystemExit("deserialize_cuda_engine gave None")
    context = engine.create_execution_context()
    if context is None:
        raise SystemExit("create_execution_context gave None")

    clips = np.load(folder / "clips.npz")
    pcm = np.load(folder / "waves.npy")
    golden = clips[f"logits.{model}"]
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    widest = max(max_batch, PARITY_BATCH)
    held = {n: driver.allocate(widest * 4 * (pcm.shape[1] if n == "wave" else 2)) for n in names}
    for name in names:
        context.set_tensor_address(name, held[name])
    stream: int = driver.stream.value or 0

    def give(rows: Any) -> None:  # noqa: ANN401
        waves = pcm[rows].astype(np.float32) / np.float32(32768)
        driver.upload(held["wave"], waves)
        driver.upload(held["logits"], np.full((len(rows), 2), np.nan, np.float32))
        if not context.set_input_shape("wave", waves.shape):
            raise SystemExit(f"the plan refuses the shape {waves.shape}")

    def take(n_rows: int) -> Any:  # noqa: ANN401
        logits = np.empty((n_rows, 2), np.float32)
        driver.download(logits, held["logits"])
        return logits

    def run() -> None:
        if not context.execute_async_v3(stream):
            raise SystemExit("execute_async_v3 refused")

    found = []
    step = min(PARITY_BATCH, max_batch)
    for first in range(0, len(pcm), step):
        rows = np.arange(first, min(first + step, len(pcm)))
        give(rows)
        run()
        driver.synchronize()
        found.append(take(len(rows)))
    tell(part="parity", **drift(np.concatenate(found), golden, clips["bonafide"]))

    for batch in (b for b in BATCHES if b <= max_batch):
        rows = np.arange(batch) % len(pcm)
        give(rows)
        for _ in range(5):
            run()
        driver.synchronize()
        memory = free - driver.free_mib()

        def launched() -> float:
            driver.start()
            run()
            return driver.stop_ms()

        times = repeat_ms(launched, seconds=0.4, at_least=10)
        difference = float(np.abs(take(batch) - golden[rows]).max())
        tell(
            part="timing",
            launch="kernels",
            **summary(times, batch),
            max_difference=difference,
            device_memory_mib=memory,
        )
        try:
            driver.begin_capture()
            try:
                run()
            finally:
                ready = driver.end_capture()
            driver.upload(held["logits"], np.full((batch, 2), np.nan, np.float32))

            def replayed(ready: Any = ready) -> float:  # noqa: ANN401
                driver.start()
                driver.launch(ready)
                return driver.stop_ms()

            replayed()
            times = repeat_ms(replayed, seconds=0.4, at_least=10)
            difference = float(np.abs(take(batch) - golden[rows]).max())
            tell(
                part="timing",
                launch="cuda-graph",
                **summary(times, batch),
                max_difference=difference,
            )
        except (RuntimeError, AttributeError) as error:
            tell(part=f"cuda-graph batch {batch}", failed=f"{type(error).__name__}: {error}")


def build(
    trt: Any,  # noqa: ANN401
    logger: Any,  # noqa: ANN401
    path: Path,
    precision: str,
    max_batch: int,
) -> tuple[bytes, dict[str, Any]]:
    """Parse and build; the plan, and what to report of it."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(path.read_bytes()):
        raise SystemExit("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    for i in reversed(range(network.num_outputs)):  # logits are enough, and score is one of them
        if network.get_output(i).name != "logits":
            network.unmark_output(network.get_output(i))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 16 << 30)
    if precision != "tf32":
        config.clear_flag(trt.BuilderFlag.TF32)
    kept = 0
    if precision.startswith("fp16"):
        config.set_flag(trt.BuilderFlag.FP16)
        if precision == "fp16-encoder":
            config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
            kept = keep_in_fp32(trt, network)
    profile = builder.create_optimization_profile()
    samples = network.get_input(0).shape[1]
    profile.set_shape("wave", (1, samples), (min(32, max_batch), samples), (max_batch, samples))
    config.add_optimization_profile(profile)
    # cuBLAS 11 and cuDNN 8 are not on the machine; TensorRT's own kernels are.
    masks, compiled = (
        1 << int(getattr(trt.TacticSource, name))
        for name in ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
    )
    for sources in (masks | compiled, masks, 0):
        config.set_tactic_sources(sources)
        serialized = builder.build_serialized_network(network, config)
        if serialized is not None:
            about = {"layers": network.num_layers, "layers_kept_in_fp32": kept}
            return bytes(serialized), {**about, "tactic_sources": sources}
        print(f"no plan with tactic sources {sources}", flush=True)
    raise SystemExit("build_serialized_network gave None")


def keep_in_fp32(trt: Any, network: Any) -> int:  # noqa: ANN401
    """Hold every floating-point layer outside the encoder to float32; how many that were."""
    floats = (trt.float32, trt.float16)
    fixed = (trt.LayerType.CONSTANT, trt.LayerType.SHAPE)
    kept = 0
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if layer.name.startswith("encoder") or layer.type in fixed:
            continue
        outputs = [layer.get_output(j) for j in range(layer.num_outputs)]
        read = layer.get_input(0) if layer.num_inputs else None
        if read is None or any(t.dtype not in floats for t in (read, *outputs)):
            continue  # comparisons, casts of them, shapes, and TopK, which follows its input
        with contextlib.suppress(Exception):  # a layer that takes no constraint needs none
            layer.precision = trt.float32
            for j in range(layer.num_outputs):
                layer.set_output_type(j, trt.float32)
            kept += 1
    return kept


if __name__ == "__main__":
    main()
