"""The scores of a graph on real audio, and the nodes that its graph poolings keep."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from aasist_deploy.contract import BONA_FIDE
from aasist_deploy.engines.onnx import import_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract

_ERRORS_ONLY = 3  # ONNX Runtime's log level


@dataclass(frozen=True, slots=True)
class Measured:
    """What a graph gave.

    Attributes:
        scores: (n,) score of each wave.
        orders: Pool name -> (n, k) kept nodes, best first; empty where there is no graph pooling.
    """

    scores: NDArray[np.float64]
    orders: dict[str, NDArray[np.int64]]

    def __getitem__(self, clips: NDArray[Any]) -> Measured:
        """The same of some of the waves."""
        return Measured(self.scores[clips], {n: order[clips] for n, order in self.orders.items()})


def measure(
    model: onnx.ModelProto,
    contract: ModelContract,
    waves: NDArray[np.float32],
    *,
    threads: int | None = None,
    on_clip: Callable[[], None] | None = None,
) -> Measured:
    """Run an fp32 graph (or an emulated one) on the CPU, one wave at a time.

    Args:
        model: The graph.
        contract: What it gives and where its orders are.
        waves: (n, N) windows.
        threads: Threads of ONNX Runtime; all cores this process may use by default.
        on_clip: Called after each wave.
    """
    output = "score" if "score" in contract.outputs else "logits"
    values: dict[str, str] = contract.topk.get("values", {})
    session = open_session(model, [output, *values.values()], threads)
    scores = []
    orders: dict[str, list[NDArray[np.int64]]] = {name: [] for name in values}
    for wave in waves:
        given, *kept = session.run([output, *values.values()], {contract.input_name: wave[None]})
        scores.append(float(given[0] if output == "score" else given[0, BONA_FIDE]))
        for name, order in zip(values, kept, strict=True):
            orders[name].append(_best_first(name, order[0], contract))
        if on_clip is not None:
            on_clip()
    return Measured(np.array(scores, np.float64), {n: np.stack(o) for n, o in orders.items()})


def open_session(model: onnx.ModelProto, outputs: list[str], threads: int | None = None) -> Any:  # noqa: ANN401  # onnxruntime has no types
    """A session on the CPU that gives these values, whether they are outputs of the graph or not.

    Names that the graph already gives stay as they are.
    """
    ort = import_onnxruntime()
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=n) for n in outputs if n not in known)
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _best_first(name: str, order: NDArray[Any], contract: ModelContract) -> NDArray[np.int64]:
    """The kept nodes, from indices (topk) or from the rank of every node (rank)."""
    if contract.topk["method"] == "topk":
        return np.asarray(order, np.int64)
    kept = max(int(len(order) * contract.topk["ratios"][name]), contract.topk.get("at_least", 1))
    return np.argsort(order, kind="stable")[:kept]
