from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aasist_deploy.export.inference_aasist import InferenceAasist
from aasist_deploy.export.inference_graph import GraphPoolInference
from aasist_deploy.export.inference_layers import (
    SELU_ALPHA,
    SELU_LAMBDA,
    batch_norm_scale_and_offset,
)
from aasist_deploy.models import Aasist
from aasist_deploy.models.graph import GraphPool, NodeOrder, n_kept

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx
    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint

# Folding in float64 and rounding once to float32; measured max 2.9e-6 on these waves.
ATOL = 2e-5
FORMS: tuple[Literal["topk", "rank"], ...] = ("topk", "rank")


def test_selu_constants_are_those_of_pytorch() -> None:
    x = torch.linspace(-5, 5, 1_001, dtype=torch.float64)
    ours = SELU_LAMBDA * torch.nn.functional.elu(x, SELU_ALPHA)
    assert torch.allclose(ours, torch.nn.functional.selu(x), rtol=0, atol=1e-12)


def test_normalisation_folds_into_scale_and_offset() -> None:
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm1d(5)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    norm.train()(torch.randn(50, 5) * 3 + 1)
    norm.eval().double()
    scale, offset = batch_norm_scale_and_offset(norm)
    x = torch.randn(7, 5, dtype=torch.float64)
    assert torch.allclose(norm(x), scale * x + offset, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("first_bn_weight", [-0.8, 0.0, 0.7])
def test_rewrite_equals_the_network_whatever_the_sign_of_the_first_scale(
    method: Literal["topk", "rank"],
    first_bn_weight: float,
    small_checkpoint: Checkpoint,
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    trained = small_checkpoint.model
    assert isinstance(trained, Aasist)
    model = Aasist(trained.config)
    model.load_state_dict(trained.state_dict())
    model.eval()
    with torch.no_grad():
        model.first_bn.weight.fill_(first_bn_weight)
    waves = torch.from_numpy(noise(4))
    with torch.inference_mode():
        embedding, logits = model(waves)
        score, got_logits, got_embedding, *orders = InferenceAasist(model, method).eval()(waves)
    assert torch.equal(score, got_logits[:, 1])
    torch.testing.assert_close(got_logits, logits, rtol=0, atol=ATOL)
    torch.testing.assert_close(got_embedding, embedding, rtol=0, atol=ATOL)
    assert len(orders) == 6


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("n_samples", [6_689, 8_876, 30_000])
def test_rewrite_follows_the_length(
    method: Literal["topk", "rank"],
    n_samples: int,
    small_checkpoint: Checkpoint,
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    waves = torch.from_numpy(noise(2, n_samples))
    model = small_checkpoint.model
    assert isinstance(model, Aasist)
    with torch.inference_mode():
        expected = model(waves)[1]
        got = InferenceAasist(model, method).eval()(waves)[1]
    torch.testing.assert_close(got, expected, rtol=0, atol=ATOL)


def identity_pool(ratio: float) -> GraphPool:
    """A pool whose ranking scores are its input's only feature."""
    pool = GraphPool(ratio, 1).eval()
    with torch.no_grad():
        pool.proj.weight.fill_(1.0)
        pool.proj.bias.fill_(0.0)
    return pool


def kept_indices(method: str, order: Any, k: int) -> list[list[int]]:
    order = np.asarray(order)
    if method == "rank":
        order = np.argsort(order, axis=1)
    return [[int(i) for i in row] for row in order[:, :k]]


@settings(deadline=None, max_examples=60)
@given(
    scores=st.integers(2, 29).flatmap(
        lambda n: st.lists(st.lists(st.integers(-2, 2), min_size=n, max_size=n), min_size=1)
    ),
    ratio=st.sampled_from([0.4, 0.5, 0.7, 1.0]),
)
def test_equal_scores_are_broken_alike_by_both_forms_and_the_network(
    scores: list[list[int]], ratio: float
) -> None:
    nodes = torch.tensor(scores, dtype=torch.float32).unsqueeze(-1)
    pool = identity_pool(ratio)
    k = n_kept(nodes.shape[1], ratio)
    expected = NodeOrder()(nodes.squeeze(-1), k).tolist()
    with torch.inference_mode():
        kept = pool(nodes)
        for method in FORMS:
            got, order = GraphPoolInference(pool, method)(nodes)
            if method == "rank":  # PyTorch's topk does not define ties; ONNX's TopK does
                assert kept_indices(method, order, k) == expected
            torch.testing.assert_close(got, kept, rtol=0, atol=0)


TIES = np.array(
    [
        [1, 3, 1, 3, 2, 3, 1, 0, 3, 2],
        [0] * 10,
        [5, 5, 5, 5, 5, 4, 4, 4, 4, 4],
        [-1, 2, -1, 2, -1, 2, -1, 2, -1, 2],
        [0.0, -0.0, 0.0, -0.0, 1, 1, -1, 0.0, -0.0, 0.0],
        # The sigmoid of these is 1.0 in float32: only the score before it tells them apart.
        [30, 40, 31, 39, 32, 38, 33, 37, 34, 36],
    ],
    dtype=np.float32,
)


@pytest.mark.slow
@pytest.mark.parametrize("method", FORMS)
def test_equal_scores_are_broken_alike_in_onnx_runtime(
    method: Literal["topk", "rank"],
) -> None:
    ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    pool = GraphPoolInference(identity_pool(0.7), method).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's own deprecations
        program = torch.onnx.export(
            pool,
            (torch.zeros(len(TIES), TIES.shape[1], 1),),
            dynamo=True,
            opset_version=18,
            input_names=["h"],
            output_names=["kept", "order"],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    kept, order = session.run(None, {"h": TIES[:, :, None]})
    expected = NodeOrder()(torch.from_numpy(TIES), 7).numpy()
    assert kept_indices(method, order, 7) == expected.tolist()
    chosen = np.take_along_axis(TIES, expected, axis=1)
    np.testing.assert_allclose(kept[:, :, 0], chosen / (1 + np.exp(-chosen)), atol=1e-5)


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("n_nodes", [2, 3, 25])
def test_at_least_so_many_nodes_are_kept(method: Literal["topk", "rank"], n_nodes: int) -> None:
    pool = identity_pool(0.1)
    pool.at_least = 2
    nodes = torch.randn(3, n_nodes, 1, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        kept, _ = GraphPoolInference(pool, method)(nodes)
        torch.testing.assert_close(kept, pool(nodes), rtol=0, atol=0)
    assert kept.shape[1] == 2
