from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from aasist_deploy import open_engine
from aasist_deploy.contract import ModelContract, read_contract
from aasist_deploy.engines import onnx as onnx_engine
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, ShapeError, UsageError
from aasist_deploy.onnx_file import parse_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# float32 rounding of one graph at several batch sizes; measured max 4.8e-7 over the waves here.
BATCH_ATOL = 5e-6

Noise = "Callable[..., NDArray[np.float32]]"


@pytest.fixture(scope="module")
def engine(small_onnx: Callable[..., Path]) -> Iterator[Any]:
    with open_engine(small_onnx(), backend="onnx") as opened:
        yield opened


@pytest.fixture(scope="module")
def waves(noise: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
    return noise(10)


def test_score_is_the_logit_of_bona_fide_and_fresh(engine: Any, waves: NDArray[np.float32]) -> None:
    scores, outputs = engine.score(waves), engine.run(waves)
    assert set(outputs) == {"score", "logits", "embedding"}
    assert np.array_equal(scores, outputs["logits"][:, 1])
    assert scores.shape == (10,)
    assert scores.dtype == np.float32
    assert np.ptp(scores) > 0.1  # the waves tell something
    scores[:] = 0
    assert np.array_equal(engine.score(waves), outputs["score"])


@pytest.mark.parametrize("max_batch", [1, 3, 10, None])
def test_size_of_the_batch_does_not_change_scores(
    max_batch: int | None,
    engine: Any,
    waves: NDArray[np.float32],
    small_onnx: Callable[..., Path],
) -> None:
    one_by_one = np.concatenate([engine.score(wave[None]) for wave in waves])
    with open_engine(small_onnx(), "onnx", max_batch=max_batch) as other:
        assert np.abs(other.score(waves) - one_by_one).max() <= BATCH_ATOL


def test_four_threads_get_the_scores_of_one(engine: Any, waves: NDArray[np.float32]) -> None:
    expected = [engine.score(wave[None]) for wave in waves]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: engine.score(waves[i % 10][None]), range(40)))
    for index, score in enumerate(got):
        assert np.abs(score - expected[index % 10]).max() <= BATCH_ATOL


def test_device_says_what_runs(small_onnx: Callable[..., Path]) -> None:
    with open_engine(small_onnx(), "onnx", threads=1) as engine:
        assert engine.device == "CPUExecutionProvider, 1 threads"
        assert engine.backend == "onnx"


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_below_one_are_refused(threads: int, small_onnx: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=f"number of threads is {threads}"):
        open_engine(small_onnx(), "onnx", threads=threads)


def test_closed_engine_refuses_every_use(
    small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    engine: Any = open_engine(small_onnx(), "onnx")
    engine.close()
    for method in (engine.score, engine.run, engine.pooling_orders):
        with pytest.raises(ShapeError, match="closed"):
            method(waves)


def test_unknown_provider_is_refused(small_onnx: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="known are: cpu, cuda, tensorrt"):
        open_engine(small_onnx(), "onnx", provider="rocm")


def test_provider_that_this_build_lacks_is_an_error_and_no_fallback(
    small_onnx: Callable[..., Path],
) -> None:
    ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this build of ONNX Runtime has the CUDA provider")
    with pytest.raises(EnvironmentLacks, match="has no CUDAExecutionProvider") as raised:
        open_engine(small_onnx(), "onnx", provider="cuda")
    assert "onnx-gpu" in str(raised.value.fix)
    assert raised.value.exit_code == 3


def test_empty_folder_of_onnxruntime_is_explained(
    small_onnx: Callable[..., Path], fake_onnxruntime: Any
) -> None:
    path = small_onnx()
    fake_onnxruntime(None, [])
    with pytest.raises(EnvironmentLacks, match="cannot be used") as raised:
        open_engine(path, "onnx")
    assert "never both" in str(raised.value.fix)


def rewritten(path: Path, target: Path, change: Callable[[onnx.ModelProto], Any]) -> Path:
    """The model changed, with a contract whose hash fits."""
    contract, _ = read_contract(path)
    model = onnx.load(path)
    fields = change(model) or {}
    graph_sha256 = parse_onnx(model.SerializeToString(), target).graph_sha256
    changed: ModelContract = replace(contract, graph_sha256=graph_sha256, **fields)
    onnx.helper.set_model_props(model, changed.to_metadata())
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"input_name": "audio"},
            "says audio -> .*; the graph has wave -> score, logits, embedding",
        ),
        ({"outputs": {"score": "x", "posterior": "y"}}, "says wave -> posterior, score"),
        ({"n_samples": 64_600, "min_samples": 64_600}, "waves of 64600 samples.*takes 16000"),
        ({"n_samples": None}, "waves of any number of samples.*takes 16000"),
    ],
)
def test_contract_that_speaks_of_another_graph_is_refused(
    fields: dict[str, Any], message: str, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    path = rewritten(small_onnx(), tmp_path / "x.onnx", lambda _model: fields)
    with pytest.raises(ModelFileError, match=message):
        open_engine(path, "onnx")


def test_graph_that_the_runtime_refuses_is_a_model_file_error(
    small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    def break_it(model: onnx.ModelProto) -> None:
        model.graph.node[3].op_type = "NoSuchOperator"

    path = rewritten(small_onnx(), tmp_path / "x.onnx", break_it)
    with pytest.raises(ModelFileError, match=r"ONNX Runtime .* cannot open"):
        open_engine(path, "onnx")


def test_altered_truncated_and_foreign_files_are_refused(
    small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    content = small_onnx().read_bytes()
    path = tmp_path / "x.onnx"
    position = content.index(b"encoder.0")
    path.write_bytes(content[:position] + b"E" + content[position + 1 :])
    with pytest.raises(ModelFileError, match="altered after export"):
        open_engine(path, "onnx")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match="damaged or cut short"):
        open_engine(path, "onnx")
    model = onnx.load_model_from_string(content)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match="carries no contract"):
        open_engine(path, "onnx")


def test_pooling_orders_agree_between_the_two_forms_and_pytorch(
    small_onnx: Callable[..., Path], small_checkpoint: Any, waves: NDArray[np.float32]
) -> None:
    def orders(path: Path) -> dict[str, NDArray[np.int64]]:
        engine: Any = open_engine(path, "onnx" if path.suffix == ".onnx" else "torch")
        with engine:
            found: dict[str, NDArray[np.int64]] = engine.pooling_orders(waves)
            return found

    eager = orders(small_checkpoint.path)
    assert set(eager) == {"pool_S", "pool_T", "pool_hS1", "pool_hT1", "pool_hS2", "pool_hT2"}
    for method in ("topk", "rank"):
        exported = orders(small_onnx(topk=method))
        assert set(exported) == set(eager)
        for name, order in exported.items():
            assert order.dtype == np.int64
            assert np.array_equal(order, eager[name]), (method, name)


def test_pooling_orders_without_the_onnx_package_say_what_is_missing(
    engine: Any, waves: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_observer", None)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(EnvironmentLacks, match="needs the package onnx"):
        engine.pooling_orders(waves)


@pytest.mark.parametrize(
    ("precision", "reason"), [("fp16", "slower than fp32"), ("bf16", "does not run")]
)
def test_lower_precision_on_a_cpu_is_refused_unless_allowed(
    precision: str,
    reason: str,
    small_onnx: Callable[..., Path],
    tmp_path: Path,
    waves: NDArray[np.float32],
) -> None:
    # Only the contract says so here; the graph computes in fp32, so that it runs when allowed.
    path = rewritten(small_onnx(), tmp_path / "low.onnx", lambda _model: {"precision": precision})
    with pytest.raises(UsageError, match=f"computes in {precision}, which .*{reason}") as raised:
        open_engine(path, "onnx")
    assert "--provider cuda" in str(raised.value.fix)
    with open_engine(path, "onnx", allow_slow_precision=True) as engine:
        assert np.isfinite(engine.score(waves)).all()


@pytest.mark.parametrize("reason", [None, "this made-up CPU has neither VNNI nor AMX"])
def test_int8_runs_on_a_cpu_that_computes_it_and_is_refused_on_others(
    reason: str | None,
    small_onnx: Callable[..., Path],
    tmp_path: Path,
    waves: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = rewritten(small_onnx(), tmp_path / "low.onnx", lambda _model: {"precision": "int8"})
    monkeypatch.setattr(onnx_engine, "lacks_int8", lambda: reason)
    if reason is not None:
        with pytest.raises(UsageError, match=f"slower than fp32 here: {reason}"):
            open_engine(path, "onnx")
    with open_engine(path, "onnx", allow_slow_precision=reason is not None) as engine:
        assert np.isfinite(engine.score(waves)).all()


def test_registry_row_and_engine_agree() -> None:
    assert onnx_engine.ENGINE.backend == "onnx"
