from __future__ import annotations

import numpy as np
import pytest

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics import Bootstrap, eer, metrics_by_condition
from aasist_deploy.metrics.conditions import NO_ERRORS

SCORES = np.array([3.0, 1.0, 2.5, 2.0, 0.0, -1.0])
TRUTH = np.array([True, True, True, False, False, False])


def test_condition_of_both_classes_splits_both() -> None:
    found = metrics_by_condition(SCORES, TRUTH, {"codec": ["c1", "c1", "c2", "c1", "c2", "c2"]})
    codecs = found["codec"]
    assert (codecs["c1"].n_bonafide, codecs["c1"].n_spoof) == (2, 1)
    assert (codecs["c2"].n_bonafide, codecs["c2"].n_spoof) == (1, 2)
    assert codecs["c1"].eer == eer([3.0, 1.0], [2.0]).eer
    assert codecs["c2"].eer == 0.0


@pytest.mark.parametrize("none", ["-", "bonafide", ""])
def test_condition_of_spoofs_alone_pools_all_bona_fide(none: str) -> None:
    found = metrics_by_condition(SCORES, TRUTH, {"vocoder": [none] * 3 + ["v1", "v2", "v2"]})
    vocoders = found["vocoder"]
    assert list(vocoders) == ["v1", "v2"]
    assert (vocoders["v2"].n_bonafide, vocoders["v2"].n_spoof) == (3, 2)
    assert vocoders["v1"].eer == eer(SCORES[:3], [2.0]).eer


def test_value_without_a_class_is_null_with_a_note() -> None:
    found = metrics_by_condition(SCORES, TRUTH, {"codec": ["c1", "c1", "c3", "c1", "c1", "c2"]})
    assert found["codec"]["c2"].to_dict() == {
        "eer_percent": None,
        "n_bonafide": 0,
        "n_spoof": 1,
        "confidence": None,
        "note": "There are no bona fide trials of this value.",
    }
    assert found["codec"]["c3"].note == "There are no spoofed trials of this value."


def test_the_value_dash_counts_where_bona_fide_and_spoof_share_it() -> None:
    found = metrics_by_condition(SCORES, TRUTH, {"codec": ["-", "-", "c", "-", "-", "c"]})
    assert list(found["codec"]) == ["-", "c"]


def test_attack_without_a_value_does_not_take_bona_fide_trials_from_the_others() -> None:
    found = metrics_by_condition(SCORES, TRUTH, {"vocoder": ["-"] * 3 + ["v1", "-", "v2"]})
    assert {name: of.n_bonafide for name, of in found["vocoder"].items()} == {"v1": 3, "v2": 3}


def test_intervals_are_given_when_asked_for() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(200) < 100
    scores = random.normal(0, 1, 200) + truth
    codec = ["a", "b"] * 100
    found = metrics_by_condition(scores, truth, {"codec": codec}, how=Bootstrap(n=50))
    for of in found["codec"].values():
        assert of.confidence is not None
        assert of.eer is not None
        low, high = of.confidence.intervals["eer_percent"]
        assert low <= 100 * of.eer <= high
        assert of.note is None


def test_interval_without_errors_says_what_it_does_not_say() -> None:
    found = metrics_by_condition(SCORES, TRUTH, {"c": ["x", "y", "x", "y", "x", "x"]},
                                 how=Bootstrap(n=5))  # fmt: skip
    assert found["c"]["x"].eer == 0
    assert found["c"]["x"].note == NO_ERRORS


def test_value_with_one_speaker_has_a_rate_and_no_interval() -> None:
    how = Bootstrap(n=5, unit="speaker")
    codec, speakers = ["a", "a", "b", "a", "a", "b"], ["s", "s", "s", "s", "t", "s"]
    found = metrics_by_condition(SCORES, TRUTH, {"c": codec}, how=how, speakers=speakers)
    assert found["c"]["b"].eer == 0
    assert found["c"]["b"].confidence is None
    assert "There is 1 speaker" in str(found["c"]["b"].note)
    assert found["c"]["a"].confidence is not None


def test_condition_of_another_length_is_refused_with_counts() -> None:
    with pytest.raises(MetricError, match="'codec' has 2 values for 6 trials"):
        metrics_by_condition(SCORES, TRUTH, {"codec": ["a", "b"]})
