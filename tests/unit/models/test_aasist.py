from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from aasist_deploy.errors import CheckpointError
from aasist_deploy.models import Aasist, AasistConfig, build_model
from aasist_deploy.models.graph import GraphPool, NodeOrder, PublishedOrder, n_kept
from aasist_deploy.models.sinc import SincFrontEnd, sinc_filters
from aasist_deploy.published import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint


def published_network(name: str) -> Aasist:
    return Aasist(AasistConfig.from_mapping(PUBLISHED[name].model_config))


def test_sinc_filters_are_band_passes_between_mel_spaced_edges() -> None:
    filters = sinc_filters(70, 128)
    assert filters.shape == (70, 129)
    assert filters.dtype == np.float32
    np.testing.assert_allclose(filters, filters[:, ::-1], atol=1e-9)  # linear phase
    edges_mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 71)
    centres_hz = 700 * (10 ** ((edges_mel[1:] + edges_mel[:-1]) / 2 / 2595) - 1)
    response = np.abs(np.fft.rfft(filters, 16_000, axis=1))  # 1 Hz a bin
    # A Hamming window of 129 taps blurs an edge by about 2 * 16000 / 129 Hz.
    assert np.abs(response.argmax(axis=1) - centres_hz).max() < 250


def test_masked_filters_are_one_band_of_at_most_nineteen() -> None:
    torch.manual_seed(0)
    front_end = SincFrontEnd(70, 128)
    wave = torch.randn(1, 400)
    plain = front_end(wave)
    widths = set()
    for _ in range(200):
        masked = front_end(wave, mask_filters=True)
        silent = (masked[0] == 0).all(dim=1).nonzero().flatten()
        kept = [i for i in range(70) if i not in set(silent.tolist())]
        assert torch.equal(masked[0, kept], plain[0, kept])
        if len(silent):
            assert torch.equal(silent, torch.arange(int(silent[0]), int(silent[-1]) + 1))
        widths.add(len(silent))
    assert min(widths) == 0
    assert 15 < max(widths) <= 19
    assert torch.equal(front_end(wave), plain)  # the filters themselves are untouched


@pytest.mark.parametrize(
    ("n_nodes", "ratio", "expected"), [(29, 0.7, 20), (23, 0.5, 11), (23, 0.4, 9), (2, 0.4, 1)]
)
def test_pooling_keeps_the_whole_part_and_at_least_one(
    n_nodes: int, ratio: float, expected: int
) -> None:
    assert n_kept(n_nodes, ratio) == expected


def test_pooling_at_ninety_nodes_is_counted_in_double_precision() -> None:
    assert int(90 * 0.7) == 62  # float32 would give 63
    assert int(np.float32(90) * np.float32(0.7)) == 63
    assert n_kept(90, 0.7) == 62


def test_equal_scores_keep_the_lower_index_first() -> None:
    scores = torch.tensor([[1.0, 3.0, 1.0, 3.0, 2.0], [0.5, 0.5, 0.5, 0.5, 0.5]])
    assert NodeOrder()(scores, 4).tolist() == [[1, 3, 4, 0], [0, 1, 2, 3]]


def test_published_order_is_that_of_torch_topk() -> None:
    scores = torch.cat([torch.ones(1, 23), torch.arange(23.0).unsqueeze(0)])
    assert torch.equal(PublishedOrder()(scores, 14), torch.topk(scores, 14, dim=1).indices)
    assert PublishedOrder()(scores, 3)[1].tolist() == [22, 21, 20]


def test_pooling_can_be_told_to_keep_at_least_two() -> None:
    nodes = torch.randn(1, 3, 4)
    assert GraphPool(0.4, 4).eval()(nodes).shape == (1, 1, 4)
    assert GraphPool(0.4, 4, at_least=2).eval()(nodes).shape == (1, 2, 4)


def test_pooling_keeps_the_best_nodes_in_descending_order_times_their_score() -> None:
    pool = GraphPool(0.5, 1).eval()
    with torch.no_grad():
        pool.proj.weight.fill_(1.0)
        pool.proj.bias.fill_(0.0)
    nodes = torch.tensor([[[0.1], [2.0], [-1.0], [1.0]]])
    kept = pool(nodes)
    expected = torch.tensor([2.0, 1.0])
    assert torch.allclose(kept.flatten(), expected * torch.sigmoid(expected))


def test_node_counts_at_the_published_length(noise: Callable[..., NDArray[np.float32]]) -> None:
    counts: dict[str, int] = {}
    for name, expected in (
        ("aasist", {"pool_S": 11, "pool_T": 20, "pool_hS1": 5, "pool_hT1": 10}),
        ("aasist-l", {"pool_S": 9, "pool_T": 14, "pool_hS1": 6, "pool_hT1": 9}),
    ):
        model = published_network(name).eval()
        for pool in expected:

            def count(_m: object, _i: object, kept: Any, pool: str = pool) -> None:
                counts[pool] = kept.shape[1]

            model.get_submodule(pool).register_forward_hook(count)
        with torch.inference_mode():
            model(torch.from_numpy(noise(1, 64_600)))
        assert counts == expected


def test_unused_normalisation_has_no_effect_but_follows_the_training_data(
    small_checkpoint: Checkpoint, noise: Callable[..., NDArray[np.float32]]
) -> None:
    waves = torch.from_numpy(noise(2))
    model = build_model(small_checkpoint.config)
    model.load_state_dict(small_checkpoint.model.state_dict())
    model.eval()
    with torch.inference_mode():
        before = model(waves)[1].clone()
    bn1: Any = model.get_submodule("encoder.3.0.bn1")
    with torch.no_grad():
        bn1.weight.fill_(float("nan"))
        bn1.running_mean.fill_(7.0)
    with torch.inference_mode():
        assert torch.equal(model(waves)[1], before)
    model.train()
    model(waves)
    assert not torch.equal(bn1.running_mean, torch.full_like(bn1.running_mean, 7.0))
    assert bn1.num_batches_tracked > 0


def test_training_step_works_at_exactly_the_length_of_a_crop(
    small_config: dict[str, Any], noise: Callable[..., NDArray[np.float32]]
) -> None:
    model = Aasist(AasistConfig.from_mapping(small_config)).train()
    embedding, logits = model(torch.from_numpy(noise(2, 64_600)), mask_filters=True)
    assert embedding.shape == (2, 20)
    loss: Any = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    used = {n: p.grad for n, p in model.named_parameters() if ".bn1." not in n}
    assert [n for n, gradient in used.items() if gradient is None] == []
    assert any(float(g.abs().max()) > 0 for g in used.values() if g is not None)


def test_unused_part_of_a_configuration_may_be_longer(small_config: dict[str, Any]) -> None:
    config = AasistConfig.from_mapping({**small_config, "temperatures": [2, 3, 4, 5, 6]})
    assert config.temperatures == (2.0, 3.0, 4.0, 5.0, 6.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filts": [70, [1, 4], [5, 4], [4, 6], [6, 6]]}, "do not chain: block 1 takes 5"),
        ({"filts": [70, [1, 4]]}, "has 2 filts"),
        ({"filts": {"a": 1}}, "wrong form"),
        ({"gat_dims": ["x", 4]}, "wrong form"),
        ({"gat_dims": [0, 4]}, "size below 1"),
        ({"gat_dims": [6.5, 4]}, "6.5 is no whole number"),
        ({"first_conv": True}, "True is no whole number"),
        ({"nb_samp": 6_688}, "nb_samp is 6688; AASIST with this first_conv takes at least 6689"),
        ({"pool_ratios": [0.5, 0.7]}, "2 pool_ratios and 4 temperatures"),
        ({"nb_samp": float("inf")}, "wrong form"),
        ({"temperatures": [2.0, 0.0, 100.0]}, "temperatures above 0"),
        ({"pool_ratios": [0.5, 1.7, 0.5]}, "must be in"),
        ({"architecture_version": 2}, "unknown are architecture_version"),
    ],
)
def test_bad_configuration_is_refused(
    change: dict[str, Any], message: str, small_config: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match=message):
        AasistConfig.from_mapping({**small_config, **change})


def test_missing_key_of_a_configuration_is_named(small_config: dict[str, Any]) -> None:
    config = {key: value for key, value in small_config.items() if key != "gat_dims"}
    with pytest.raises(CheckpointError, match="missing are gat_dims"):
        AasistConfig.from_mapping(config)
