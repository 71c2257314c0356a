"""Graph pooling alone, on scores that tie or nearly tie: which nodes does a runtime keep?

`write_cases` writes pooling in both forms, each a graph of its own, and inputs whose ranking scores
are known to the last bit; `kept_wrongly` compares what a runtime kept with the definition: higher
score first, of equal scores the lower index.

The ranking score of a node is its first feature: the projection is (1, 0, ...), so that every
runtime that computes in float32 has exactly these scores, whatever its order of summation.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

FORMS: Final = ("topk", "rank")
# Nodes, kept part and features of pool_S, pool_T, pool_hS and pool_hT of published AASIST.
SHAPES: Final = ((23, 0.5, 64), (29, 0.7, 64), (11, 0.5, 32), (20, 0.5, 32))
PER_KIND: Final = 24


def scores_that_tie(n_nodes: int, seed: int = 0) -> NDArray[np.float32]:
    """(n, n_nodes) float32 scores: equal, equal in groups, one unit in the last place apart.

    Every kind is drawn `PER_KIND` times at scales from 1e-6 to 100, the sigmoid of the largest
    being 1.0 in float32.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for scale in np.geomspace(1e-6, 100, PER_KIND).astype(np.float32):
        some = (rng.standard_normal(n_nodes) * scale).astype(np.float32)
        one = np.full(n_nodes, some[0])
        steps = rng.integers(-1, 2, n_nodes)
        rows += [
            one,  # all equal
            rng.choice(some[:2], n_nodes),  # two values
            rng.choice(some[:4], n_nodes),  # groups that straddle the border of what is kept
            np.where(steps > 0, np.nextafter(one, np.float32(np.inf)), one),  # one bit up, or equal
            np.where(steps == 0, one, one + steps * np.spacing(one)),  # up, down or equal
            np.where(steps > 0, np.float32(0.0), np.float32(-0.0)),  # equal, in both signs
            some,  # no ties
            np.sort(some)[::-1],
        ]
    return np.stack(rows).astype(np.float32)


def expected_order(scores: NDArray[np.float32], n_kept: int) -> NDArray[np.int64]:
    """(n, n_kept) indices by the definition; a stable sort keeps equal scores in their order."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :n_kept]


def nodes_of(scores: NDArray[np.float32], n_features: int) -> NDArray[np.float32]:
    """(n, nodes, n_features): the score first, then features that name the node."""
    names = np.arange(scores.shape[1], dtype=np.float32) + 1.0
    rest = np.broadcast_to(names[None, :, None], (*scores.shape, n_features - 1))
    return np.concatenate([scores[..., None], rest], axis=2).astype(np.float32)


def write_cases(folder: Path, opset: int = 18) -> list[Path]:
    """Write `pool.NODES.FORM.onnx` for the published poolings; needs PyTorch."""
    import onnx
    import torch

    from aasist_deploy.export.inference_graph import GraphPoolInference
    from aasist_deploy.models.graph import GraphPool

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for n_nodes, ratio, n_features in SHAPES:
        pool = GraphPool(ratio, n_features).eval()
        with torch.no_grad():
            pool.proj.weight.zero_()
            pool.proj.weight[0, 0] = 1.0
            pool.proj.bias.zero_()
        for form in FORMS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the tracer's own deprecations
                program = torch.onnx.export(
                    GraphPoolInference(pool, form).eval(),
                    (torch.zeros(2, n_nodes, n_features),),
                    dynamo=True,
                    opset_version=opset,
                    input_names=["nodes"],
                    output_names=["kept", "order"],
                    dynamic_shapes=({0: torch.export.Dim("batch")},),
                    external_data=False,
                    verbose=False,
                )
            assert program is not None
            path = folder / f"pool.{n_nodes}.{form}.onnx"
            onnx.save(program.model_proto, path)
            paths.append(path)
    return paths


def kept_wrongly(path: Path, run: Callable[..., Any]) -> dict[str, Any]:
    """How often a runtime kept other nodes than the definition, or in another order.

    Args:
        path: A graph that `write_cases` wrote; its name says what it is.
        run: (path, nodes (n, N, D)) -> (kept (n, k, D), order).
    """
    _, count, form, _ = path.name.split(".")
    n_nodes, ratio, n_features = next(s for s in SHAPES if s[0] == int(count))
    n_kept = max(int(n_nodes * ratio), 1)
    scores = scores_that_tie(n_nodes)
    kept, order = run(path, nodes_of(scores, n_features))
    order = np.asarray(order)
    if form == "rank":
        order = np.argsort(order, axis=1, kind="stable")
    expected = expected_order(scores, n_kept)
    # Kept features are scaled by the sigmoid of the score; the ratio of two of them is not.
    sigmoid = 1.0 / (1.0 + np.exp(-np.take_along_axis(scores, expected, axis=1).astype(np.float64)))
    names = np.rint(kept[..., 1] / np.maximum(sigmoid, 1e-300)) - 1.0
    readable = sigmoid > 1e-6  # below, the features themselves vanish
    return {
        "form": form,
        "nodes": n_nodes,
        "kept": n_kept,
        "rows": len(scores),
        "rows_with_another_order": int((order[:, :n_kept] != expected).any(axis=1).sum()),
        "rows_with_other_features": int(((names != expected) & readable).any(axis=1).sum()),
    }
