"""OpenVINO: exported files on the CPU in fp32, bf16, or the int8 of the file.

Thread-safety: several threads may call `score` and `run` at once; what waits for what is said in
`openvino_graph`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from aasist_deploy.contract import read_contract
from aasist_deploy.engines.base import BaseEngine, Waves, check_threads, usable_cores
from aasist_deploy.engines.cpu_features import lacks_bf16, lacks_int8
from aasist_deploy.engines.exported import check_names, failures_of, kept_nodes
from aasist_deploy.engines.openvino_cache import cache_folder
from aasist_deploy.engines.openvino_graph import HINTS, Hint, OpenvinoGraph, openvino_core
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.engines.openvino_graph import Arithmetic

Precision = Literal["fp32", "bf16", "int8", "int8+bf16"]

PRECISIONS: Final = ("fp32", "bf16", "int8", "int8+bf16")
# A contract's precision -> what a file of it can be computed in; the first is what it is opened in.
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "fp32": ("fp32", "bf16"),
    "int8": ("int8", "int8+bf16"),
}


class OpenvinoEngine(BaseEngine):
    """An exported file compiled by OpenVINO, one model for every batch size.

    Scores are bit for bit the same in any batch and with either hint (measured, AASIST).

    Args:
        path: The `.onnx` file; it is checked against its contract before the runtime sees it.
        precision: "fp32" or "bf16" for a file in fp32; "int8" or "int8+bf16" (bf16 where the file
            is not quantized) for one in int8. None: the file's own, fp32 or int8.
        hint: "latency" gives one batch all threads; "throughput" runs the windows of a batch beside
            one another, one for each stream.
        threads: In all; by default all cores this process may use.
        max_batch: Larger batches are run in pieces of this size.
        cache_dir: Folder for compiled models, the user's own; None: none is kept, for compiling
            takes 0.3 s.
        allow_slow_precision: Open in a precision that this CPU emulates, slower than fp32; and a
            file in fp16 or bf16 for GPUs, which is computed in fp32 then.

    Raises:
        UsageError: an unknown precision or hint, one that is not the file's, or one that this CPU
            does not compute.
        ModelFileError: not a model, damaged, altered, or without a contract.
        EnvironmentLacks: openvino cannot be used here.
        OutputError: the cache folder cannot be made, or is not the user's own.
    """

    backend = "openvino"

    def __init__(
        self,
        path: Path,
        *,
        precision: Precision | None = None,
        hint: Hint = "latency",
        threads: int | None = None,
        max_batch: int | None = None,
        cache_dir: Path | str | None = None,
        allow_slow_precision: bool = False,
    ) -> None:
        contract, file = read_contract(path)
        if hint not in HINTS:
            raise UsageError(f"There is no hint '{hint}'; known are: {', '.join(HINTS)}.")
        check_threads(threads)
        taken = _precision(contract.precision, precision, path, allow_slow=allow_slow_precision)
        arithmetic: Arithmetic = "bf16" if taken.endswith("bf16") else "fp32"
        n_threads = threads or usable_cores()
        self._path, self._content, self._hint = path, file.content, hint
        self._settings: dict[str, Any] = {
            "arithmetic": arithmetic,
            "hint": hint,
            "threads": n_threads,
        }
        folder = None
        if cache_dir is not None:
            folder = cache_folder(cache_dir, file.content, self._settings)
        self._graph = OpenvinoGraph(file.content, path, cache_dir=folder, **self._settings)
        check_names(self._graph.inputs, self._graph.outputs, contract, path)
        self._observer: OpenvinoGraph | None = None
        streams = "" if self._graph.n_streams == 1 else f", {self._graph.n_streams} streams"
        of_file = "" if contract.precision in _CHOICES else f" of a {contract.precision} file"
        super().__init__(
            contract, f"CPU, {taken}{of_file}, {n_threads} threads, {hint}{streams}", max_batch
        )

    def pooling_orders(self, waves: Waves) -> dict[str, NDArray[np.int64]]:
        """Which nodes each graph pooling kept, best first: pool name -> (B, k) indices.

        The values are inside the graph, so this compiles the model a second time with them among
        its outputs.
        """
        waves = self._checked(waves)
        values: dict[str, str] = self.contract.topk.get("values", {})
        if not values:
            return {}
        if self._observer is None:
            self._observer = OpenvinoGraph(
                self._content, self._path, show=list(values.values()), **self._settings
            )
        observer = self._observer

        def observe(piece: Waves) -> dict[str, NDArray[Any]]:
            found = observer.run({self.contract.input_name: piece})
            return {pool: found[value] for pool, value in values.items()}

        return kept_nodes(self.contract.topk, self._in_pieces(waves, observe))

    def _run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        name = self.contract.input_name
        smallest = self.contract.batch[0]
        starts = range(0, len(waves) - smallest + 1, smallest)
        if self._hint == "latency" or len(starts) == 1:
            with failures_of("OpenVINO", self._path):
                found = self._graph.run({name: waves})
        else:
            ends = [*starts[1:], len(waves)]
            pieces = ({name: waves[i:j]} for i, j in zip(starts, ends, strict=True))
            with failures_of("OpenVINO", self._path):
                results = self._graph.run_all(pieces)
            found = {out: np.concatenate([r[out] for r in results]) for out in results[0]}
        return {out: found[out] for out in self.contract.outputs}

    def _close(self) -> None:
        self._graph.close()
        if self._observer is not None:
            self._observer.close()
            self._observer = None


def _precision(held: str, asked: str | None, path: Path, *, allow_slow: bool) -> str:
    """What a file of the precision `held` is computed in.

    Raises:
        UsageError: it cannot be what was asked for, or not natively.
    """
    if asked is not None and asked not in PRECISIONS:
        raise UsageError(
            f"There is no precision '{asked}' in OpenVINO; known are: {', '.join(PRECISIONS)}."
        )
    if held not in _CHOICES:
        if not allow_slow:
            raise UsageError(
                f"{path} is written in {held} for GPUs; OpenVINO would compute it in another "
                f"precision on a CPU.",
                fix="open an export in fp32, with --precision bf16 where that is wanted; or use a "
                "GPU (--backend onnx --provider cuda, or a plan with --backend trt)",
            )
        held = "fp32"
    taken = _CHOICES[held][0] if asked is None else asked
    if taken not in _CHOICES[held]:
        raise UsageError(
            f"{path} is a file in {held}, which can be computed in {' or '.join(_CHOICES[held])}; "
            f"asked was {taken}.",
            fix=_other_file(held),
        )
    reason = (lacks_int8() if "int8" in taken else None) or (
        _lacks_bf16() if "bf16" in taken else None
    )
    if reason is not None and not allow_slow:
        raise UsageError(
            f"{taken} would be emulated, slower than fp32: {reason}.",
            fix="use fp32; from Python, allow_slow_precision=True accepts it",
        )
    return taken


def _other_file(held: str) -> str:
    if held == "int8":
        return "give the export in fp32 that it was made from"
    return "an int8 file is made from a checkpoint: aasist-deploy export --precision int8"


def _lacks_bf16() -> str | None:
    if (reason := lacks_bf16()) is not None:
        return reason
    listed = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return None if "BF16" in listed else f"OpenVINO lists {', '.join(listed)}"


ENGINE = OpenvinoEngine
