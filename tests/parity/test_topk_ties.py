"""Both forms of graph pooling keep the same nodes in the same order, however scores tie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.gpu import tie_cases

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    paths = tie_cases.write_cases(tmp_path_factory.mktemp("ties"))
    return {path.name: path for path in paths}


def on_onnx_runtime(path: Path, nodes: NDArray[np.float32]) -> Any:
    ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["kept", "order"], {"nodes": nodes})


@pytest.mark.slow
@pytest.mark.parametrize("form", tie_cases.FORMS)
@pytest.mark.parametrize("n_nodes", [shape[0] for shape in tie_cases.SHAPES])
def test_ties_and_near_ties_are_kept_in_the_defined_order(
    cases: dict[str, Path], n_nodes: int, form: str
) -> None:
    found = tie_cases.kept_wrongly(cases[f"pool.{n_nodes}.{form}.onnx"], on_onnx_runtime)
    assert found["rows"] > 100
    assert found["rows_with_another_order"] == 0
    assert found["rows_with_other_features"] == 0


@pytest.mark.slow
def test_a_runtime_that_breaks_ties_its_own_way_is_found(cases: dict[str, Path]) -> None:
    def later_index_first(path: Path, nodes: NDArray[np.float32]) -> Any:
        kept, order = on_onnx_runtime(path, nodes[:, ::-1])
        return kept, nodes.shape[1] - 1 - order

    found = tie_cases.kept_wrongly(cases["pool.23.topk.onnx"], later_index_first)
    n_without_ties = 2 * tie_cases.PER_KIND  # two kinds of rows have no equal scores
    assert found["rows_with_another_order"] >= found["rows"] - n_without_ties - 10


@pytest.mark.slow
def test_scores_rounded_to_half_precision_are_found(cases: dict[str, Path]) -> None:
    def in_half(path: Path, nodes: NDArray[np.float32]) -> Any:
        with np.errstate(over="ignore"):
            return on_onnx_runtime(path, nodes.astype(np.float16).astype(np.float32))

    found = tie_cases.kept_wrongly(cases["pool.29.rank.onnx"], in_half)
    assert found["rows_with_another_order"] > tie_cases.PER_KIND
