from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aasist_deploy.errors import UsageError
from aasist_deploy.metrics.rank_correlation import spearman
from aasist_deploy.parity import ParityLimits, compare


@pytest.fixture
def waves() -> Any:
    levels = np.linspace(-0.5, 0.5, 12, dtype=np.float32)[:, None]
    return np.repeat(levels, 800, axis=1)


class Shifted:
    """Adds something to the scores of an engine."""

    def __init__(self, engine: Any, shift: Any) -> None:
        self.engine, self.shift = engine, shift
        self.contract = engine.contract

    def score(self, waves: Any) -> Any:
        return self.engine.score(waves) + np.float32(self.shift(waves))


def test_engine_equals_itself(waves: Any, fake_engine: Any) -> None:
    report = compare(fake_engine(), fake_engine(), waves)
    assert report.holds
    assert report.n_clips == 12
    assert report.max_difference == report.mean_difference == report.batch_difference == 0.0
    assert report.rank_correlation == 1.0
    assert report.flips == 0
    assert report.topk_agreement is None


def test_difference_is_measured_and_breaks_parity(waves: Any, fake_engine: Any) -> None:
    shifted = Shifted(fake_engine(), lambda w: 0.25 if w[0, 0] > 0.49 else 0.0)
    report = compare(shifted, fake_engine(), waves)  # type: ignore[arg-type]
    assert report.max_difference == pytest.approx(0.25, abs=1e-5)
    assert report.mean_difference == pytest.approx(0.25 / 12, abs=1e-5)
    assert not report.holds
    assert any("a score differs by 2.50e-01, over 1e-04" in text for text in report.breaches)
    wide = ParityLimits(difference=0.3)
    assert compare(shifted, fake_engine(), waves, limits=wide).holds  # type: ignore[arg-type]


def test_decisions_that_flip_are_counted_at_the_threshold(waves: Any, fake_engine: Any) -> None:
    shifted = Shifted(fake_engine(), lambda _w: 1.0)
    limits = ParityLimits(difference=2.0)
    report = compare(shifted, fake_engine(), waves, limits=limits)  # type: ignore[arg-type]
    assert report.flips == 1  # -0.4545 becomes 0.5454
    assert report.breaches == ("1 decisions at 0.0 flip, over 0",)
    allowed = ParityLimits(difference=2.0, flips=1)
    assert compare(shifted, fake_engine(), waves, limits=allowed).holds  # type: ignore[arg-type]
    elsewhere = compare(
        shifted,  # type: ignore[arg-type]
        fake_engine(),
        waves,
        limits=limits,
        threshold=50.0,
    )
    assert elsewhere.flips == 0


def test_batches_that_change_a_score_break_parity(waves: Any, fake_engine: Any) -> None:
    shifted = Shifted(fake_engine(), lambda w: 0.01 * (len(w) > 1))
    report = compare(shifted, fake_engine(), waves)  # type: ignore[arg-type]
    assert report.max_difference == 0.0
    assert report.batch_difference == pytest.approx(0.01, abs=1e-5)
    assert any("batches change a score" in text for text in report.breaches)


def test_ranks_turned_round_break_parity(waves: Any, fake_engine: Any) -> None:
    limits = ParityLimits(difference=100.0, flips=100)
    report = compare(fake_engine(sign=-1.0), fake_engine(), waves, limits=limits)
    assert report.rank_correlation == pytest.approx(-1.0)
    assert any("rank correlation is -1.00000" in text for text in report.breaches)


def test_nan_is_a_breach_and_null_in_json(waves: Any, fake_engine: Any) -> None:
    broken = Shifted(fake_engine(), lambda w: np.nan if w[0, 0] > 0.49 else 0.0)
    report = compare(broken, fake_engine(), waves)  # type: ignore[arg-type]
    assert not report.holds
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert json.loads(text)["max_difference"] is None
    assert json.loads(text)["holds"] is False


@pytest.mark.parametrize("bad", [0, 5, 11])
def test_nan_at_another_length_is_a_breach_whichever_clip_has_it(
    bad: int, waves: Any, fake_engine: Any
) -> None:
    variable = {"n_samples": None, "min_samples": 400}
    level = waves[bad, 0]
    broken = Shifted(
        fake_engine(**variable),
        lambda w: np.nan if w.shape[1] == 400 and w[0, 0] == level else 0.0,
    )
    report = compare(broken, fake_engine(**variable), waves, lengths=[400, 900])  # type: ignore[arg-type]
    assert any("at 400 samples" in text for text in report.breaches)
    assert not any("at 900 samples" in text for text in report.breaches)
    json.dumps(report.to_dict(), allow_nan=False)


def test_lengths_are_compared_one_by_one(waves: Any, fake_engine: Any) -> None:
    variable = {"n_samples": None, "min_samples": 400}
    shifted = Shifted(fake_engine(**variable), lambda w: 0.5 * (w.shape[1] == 400))
    report = compare(shifted, fake_engine(**variable), waves, lengths=[400, 2_000])  # type: ignore[arg-type]
    assert report.length_differences[400] == pytest.approx(0.5, abs=1e-5)
    assert report.length_differences[2_000] == 0.0
    assert [text for text in report.breaches if "at 400 samples" in text]
    assert set(report.to_dict()["length_differences"]) == {"400", "2000"}


def test_length_that_a_model_does_not_take_is_refused(waves: Any, fake_engine: Any) -> None:
    with pytest.raises(UsageError, match="The length 400 cannot be compared"):
        compare(fake_engine(), fake_engine(), waves, lengths=[400])


def test_different_sample_rates_and_no_audio_are_refused(waves: Any, fake_engine: Any) -> None:
    with pytest.raises(UsageError, match="8000 and 16000 Hz"):
        compare(fake_engine(sample_rate_hz=8_000), fake_engine(), waves)
    with pytest.raises(UsageError, match="no audio"):
        compare(fake_engine(), fake_engine(), waves[:0])


def test_model_of_fixed_batch_is_compared_in_its_batches(waves: Any, fake_engine: Any) -> None:
    model = fake_engine(batch=(5, 5))
    assert compare(model, fake_engine(), waves).holds
    assert set(model.batches) == {5}


class Observed(Shifted):
    def __init__(self, engine: Any, orders: Any) -> None:
        super().__init__(engine, lambda _w: 0.0)
        self.orders = orders

    def pooling_orders(self, waves: Any) -> Any:
        return self.orders(waves)


def test_nodes_kept_are_compared_pool_by_pool(waves: Any, fake_engine: Any) -> None:
    def ours(wave: Any) -> Any:
        last = 3 if wave[0, 0] > 0 else 2
        return {"pool_S": np.array([[0, 1]]), "pool_T": np.array([[1, last]])}

    def theirs(_wave: Any) -> Any:
        return {"pool_S": np.array([[0, 1]]), "pool_T": np.array([[1, 2]])}

    report = compare(Observed(fake_engine(), ours), Observed(fake_engine(), theirs), waves)  # type: ignore[arg-type]
    assert report.topk_agreement == {"pool_S": 1.0, "pool_T": 0.5}
    assert report.breaches == ("pool_T keeps the same nodes on 50.0% of clips, below 99.0%",)


class Following(Observed):
    """Keeps nodes of equal scores in an order of its own, which decides over its score."""

    def __init__(self, engine: Any, orders: Any, *, contradiction: float = 0.0) -> None:
        super().__init__(engine, orders)
        self.contradiction = contradiction
        self.followed: list[Any] = []

    def score(self, waves: Any) -> Any:
        return self.score_in_order(waves, self.orders(waves))[0]

    def score_in_order(self, waves: Any, orders: Any) -> tuple[Any, float]:
        self.followed.append(orders)
        places = orders["pool_T"][:, 0].astype(np.float32)
        return self.engine.score(waves) + places, self.contradiction


def kept(first: Any, second: Any) -> Any:
    """Orders: pool_S alike everywhere, pool_T other nodes above level zero."""

    def orders(waves: Any) -> Any:
        return {
            "pool_S": np.array([[0, 1] for _ in waves]),
            "pool_T": np.array([first if wave[0] > 0 else second for wave in waves]),
        }

    return orders


def test_another_choice_among_equal_scores_is_compared_with_the_nodes_of_the_model(
    waves: Any, fake_engine: Any
) -> None:
    model = Following(fake_engine(), kept([3, 2], [2, 3]))
    reference = Following(fake_engine(), kept([2, 3], [2, 3]))
    report = compare(model, reference, waves)  # type: ignore[arg-type]
    assert report.holds, report.breaches
    assert report.max_difference == 0.0
    assert report.topk_agreement == {"pool_S": 1.0, "pool_T": 1.0}
    assert report.equal_scores is not None
    assert report.equal_scores.n_clips == 6
    assert report.equal_scores.pools == {"pool_T": 6}
    assert report.equal_scores.max_difference == pytest.approx(1.0, abs=1e-5)
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["equal_scores"]["n_clips"] == 6


def test_decisions_that_only_equal_scores_turn_are_told_and_do_not_count(
    waves: Any, fake_engine: Any
) -> None:
    model = Following(fake_engine(), kept([-9, 2], [0, 2]))
    reference = Following(fake_engine(), kept([0, 2], [0, 2]))
    report = compare(model, reference, waves)  # type: ignore[arg-type]
    assert report.flips == 0
    assert report.holds, report.breaches
    assert report.equal_scores is not None
    assert report.equal_scores.flips == 6  # levels of 0.045 to 0.5 score 0.45 to 5


def test_nodes_that_the_scores_of_the_reference_forbid_break_parity(
    waves: Any, fake_engine: Any
) -> None:
    model = Following(fake_engine(), kept([3, 2], [2, 3]))
    reference = Following(fake_engine(), kept([2, 3], [2, 3]), contradiction=1e-3)
    report = compare(model, reference, waves)  # type: ignore[arg-type]
    assert report.equal_scores is None
    assert report.topk_agreement == {"pool_S": 1.0, "pool_T": 0.5}
    assert report.max_difference == pytest.approx(1.0, abs=1e-5)
    assert len(report.breaches) == 2


def test_difference_that_stays_with_the_same_nodes_breaks_parity(
    waves: Any, fake_engine: Any
) -> None:
    model = Shifted(Following(fake_engine(), kept([3, 2], [2, 3])), lambda _w: 0.25)
    observed = Observed(model, kept([3, 2], [2, 3]))
    reference = Following(fake_engine(), kept([2, 3], [2, 3]))
    report = compare(observed, reference, waves)  # type: ignore[arg-type]
    assert report.equal_scores is not None
    assert report.max_difference == pytest.approx(0.25, abs=1e-5)
    assert any("a score differs by 2.50e-01" in text for text in report.breaches)


def test_reference_is_not_asked_to_follow_nodes_that_are_its_own_or_of_other_pools(
    waves: Any, fake_engine: Any
) -> None:
    reference = Following(fake_engine(), kept([2, 3], [2, 3]))
    asked = len(waves)  # for its own score
    compare(Observed(fake_engine(), kept([2, 3], [2, 3])), reference, waves)  # type: ignore[arg-type]
    assert len(reference.followed) == asked
    fewer = Observed(fake_engine(), lambda _w: {"pool_S": np.array([[1, 0]])})
    report = compare(fewer, reference, waves)  # type: ignore[arg-type]
    assert len(reference.followed) == 2 * asked
    assert report.topk_agreement == {"pool_S": 0.0}


def test_equal_scores_at_another_length_are_followed(waves: Any, fake_engine: Any) -> None:
    variable = {"n_samples": None, "min_samples": 400}
    orders = kept([3, 2], [2, 3])
    model = Following(fake_engine(**variable), lambda w: orders(w if w.shape[1] == 400 else -w))
    same = Following(fake_engine(**variable), kept([2, 3], [2, 3]))
    report = compare(model, same, waves, lengths=[400])  # type: ignore[arg-type]
    assert report.length_differences == {400: 0.0}
    strict = Following(fake_engine(**variable), same.orders, contradiction=1.0)
    report = compare(model, strict, waves, lengths=[400])  # type: ignore[arg-type]
    assert any("at 400 samples a score differs by 1.00e+00" in text for text in report.breaches)


def test_spearman_shares_ranks_between_equal_values() -> None:
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([10.0, 20, 20, 30])) == pytest.approx(1.0)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
    expected = 4.5 / np.sqrt(4.5 * 5)
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4])) == pytest.approx(expected)
    assert spearman(np.ones(3), np.ones(3)) == 1.0
    assert spearman(np.ones(3), np.arange(3.0)) == 0.0


@given(arrays(np.float64, st.integers(3, 20), elements=st.integers(-9, 9)))
def test_spearman_of_a_monotone_change_is_one(x: Any) -> None:
    assert spearman(x, 3 * x + 1) == pytest.approx(1.0)
    assert spearman(x, x[::-1]) == pytest.approx(spearman(x[::-1], x))
