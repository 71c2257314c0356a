from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import pytest
import torch

from aasist_deploy import open_engine
from aasist_deploy.contract import LOG_PROBABILITY_SCORE
from aasist_deploy.engines.torch import run_in_order
from aasist_deploy.errors import UsageError
from aasist_deploy.export import ExportOptions, ExportResult, export_onnx
from aasist_deploy.export.deployed import deployed_form
from aasist_deploy.export.inference_rawnet2 import GruLayer
from aasist_deploy.export.self_check import SELF_CHECK_ATOL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint

# Folding in float64 and rounding once to float32.
ATOL = 2e-5
OUTPUTS = ("score", "logits", "embedding")


@pytest.fixture(scope="session")
def exported_of(
    checkpoint_of: Callable[[str], Checkpoint], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ExportResult]:
    folder = tmp_path_factory.mktemp("exported-architectures")
    made: dict[tuple[str, ExportOptions], ExportResult] = {}

    def get(name: str, **options: Any) -> ExportResult:
        given = ExportOptions(outputs=OUTPUTS, **options)
        key = name, given
        if key not in made:
            made[key] = export_onnx(checkpoint_of(name), folder / f"{len(made)}.onnx", given)
        return made[key]

    return get


@pytest.mark.parametrize(
    ("name", "topk"), [("RawGAT-ST", "topk"), ("RawGAT-ST", "rank"), ("RawNet2", "topk")]
)
def test_deployed_form_equals_the_network(
    name: str,
    topk: Literal["topk", "rank"],
    checkpoint_of: Callable[[str], Checkpoint],
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    waves = torch.from_numpy(noise(4))
    model = checkpoint_of(name).model
    with torch.inference_mode():
        embedding, output = model(waves)
        score, got, got_embedding, *_ = deployed_form(model, topk)(waves)
    assert torch.equal(score, got[:, 1])
    torch.testing.assert_close(got, output, rtol=0, atol=ATOL)
    torch.testing.assert_close(got_embedding, embedding, rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    ("name", "topk"), [("RawGAT-ST", "topk"), ("RawGAT-ST", "rank"), ("RawNet2", "topk")]
)
def test_exported_file_equals_eager_at_batch_one_and_five(
    name: str,
    topk: str,
    exported_of: Callable[..., ExportResult],
    checkpoint_of: Callable[[str], Checkpoint],
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    waves = noise(5)
    with torch.inference_mode():
        embedding, output = checkpoint_of(name).model(torch.from_numpy(waves))
    with open_engine(exported_of(name, topk=topk).path) as engine:
        together = engine.run(waves)
        apart = [engine.run(wave[None]) for wave in waves]
    for key, expected in (("logits", output), ("embedding", embedding), ("score", output[:, 1])):
        np.testing.assert_allclose(together[key], expected.numpy(), rtol=0, atol=ATOL)
        one_by_one = np.concatenate([piece[key] for piece in apart])
        np.testing.assert_allclose(one_by_one, expected.numpy(), rtol=0, atol=ATOL)


def test_gru_is_one_operator_a_layer_and_nothing_is_left_of_the_trainer(
    exported_of: Callable[..., ExportResult],
) -> None:
    graph = onnx.load(exported_of("RawNet2").path).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["GRU"] == 3
    assert kinds["LogSoftmax"] == 1
    assert kinds["Selu"] == 2
    assert kinds["LeakyRelu"] == 6
    gone = {"BatchNormalization", "Loop", "Scan", "If", "Shape", "Range", "Slice", "ScatterND"}
    assert not gone & set(kinds)
    assert not [i.name for i in graph.initializer if "bn1" in i.name]


def test_rawgat_has_no_operator_whose_ties_a_runtime_could_break(
    exported_of: Callable[..., ExportResult],
) -> None:
    kinds = {
        topk: Counter(
            n.op_type for n in onnx.load(exported_of("RawGAT-ST", topk=topk).path).graph.node
        )
        for topk in ("topk", "rank")
    }
    assert kinds["topk"]["TopK"] == 3
    assert not {"TopK", "GatherElements", "GatherND"} & set(kinds["rank"])
    for counted in kinds.values():
        assert counted["Elu"] == 13  # one in the front end, one in each block of two encoders
        gone = {"BatchNormalization", "ScatterND", "NonZero", "Range", "Shape", "Loop", "If"}
        assert not gone & set(counted)


def test_contract_calls_log_probabilities_by_their_name(
    exported_of: Callable[..., ExportResult],
) -> None:
    contract = exported_of("RawNet2").contract
    assert contract.architecture == "RawNet2"
    assert contract.score == LOG_PROBABILITY_SCORE
    assert contract.outputs["score"].startswith("log-probability of bona fide")
    assert contract.outputs["logits"].startswith("log-probabilities of spoof and bona fide")
    assert contract.topk == {}


@pytest.mark.parametrize("topk", ["topk", "rank"])
def test_rawgat_exports_within_its_bound_and_its_contract_leads_to_the_nodes_that_were_kept(
    topk: str,
    exported_of: Callable[..., ExportResult],
    checkpoint_of: Callable[[str], Checkpoint],
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    result = exported_of("RawGAT-ST", topk=topk)
    assert result.max_difference <= SELF_CHECK_ATOL  # small and not saturated: it needs no more
    assert result.contract.topk["at_least"] == 2
    waves = noise(3)
    file: Any = open_engine(result.path)
    eager: Any = open_engine(checkpoint_of("RawGAT-ST").path)
    with file, eager:
        ours, theirs = file.pooling_orders(waves), eager.pooling_orders(waves)
    assert set(ours) == set(theirs) == {"pool_T", "pool_S", "pool_ST"}
    for name, order in theirs.items():
        assert np.array_equal(ours[name], order), name


def test_any_length_of_rawnet2_equals_eager(
    exported_of: Callable[..., ExportResult],
    checkpoint_of: Callable[[str], Checkpoint],
    noise: Callable[..., NDArray[np.float32]],
) -> None:
    result = exported_of("RawNet2", n_samples=None)
    shortest = checkpoint_of("RawNet2").model.min_samples
    assert (result.contract.n_samples, result.contract.min_samples) == (None, shortest)
    with open_engine(result.path) as engine:
        for n_samples in (shortest, 16_001, 30_000):
            waves = noise(2, n_samples)
            with torch.inference_mode():
                expected = checkpoint_of("RawNet2").model(torch.from_numpy(waves))[1]
            got = engine.run(waves)["logits"]
            np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=ATOL)


@pytest.mark.parametrize("n_samples", [None, 16_001])
def test_rawgat_of_another_length_is_refused_with_the_reason(
    n_samples: int | None, checkpoint_of: Callable[[str], Checkpoint], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="RawGAT-ST takes waves of 16000 samples alone"):
        export_onnx(
            checkpoint_of("RawGAT-ST"), tmp_path / "m.onnx", ExportOptions(n_samples=n_samples)
        )


def test_gru_layers_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    gru = torch.nn.GRU(5, 4, 2, batch_first=True)
    x = torch.randn(3, 7, 5)
    y = x.transpose(0, 1)
    for layer in range(2):
        y = GruLayer(gru, layer)(y)
    torch.testing.assert_close(y, gru(x)[0][:, -1], rtol=0, atol=1e-6)


def test_order_that_the_scores_forbid_is_told_from_one_among_equals(
    checkpoint_of: Callable[[str], Checkpoint], noise: Callable[..., NDArray[np.float32]]
) -> None:
    model = checkpoint_of("RawGAT-ST").model
    waves = torch.from_numpy(noise(1))
    engine: Any = open_engine(checkpoint_of("RawGAT-ST").path)
    with engine, torch.inference_mode():
        orders = engine.pooling_orders(waves.numpy())
        output, contradiction = run_in_order(model, waves, orders)
        assert contradiction <= 0.0
        torch.testing.assert_close(output, model(waves)[1], rtol=0, atol=0)
        wrong = {**orders, "pool_S": orders["pool_S"][:, ::-1].copy()}
        _, contradiction = run_in_order(model, waves, wrong)
        assert contradiction > 1e-3
        twice = {
            **orders,
            "pool_T": np.repeat(orders["pool_T"][:, :1], orders["pool_T"].shape[1], 1),
        }
        assert run_in_order(model, waves, twice)[1] == float("inf")
