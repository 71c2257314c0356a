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
