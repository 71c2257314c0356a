from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics import (
    ASVSPOOF5_ASV,
    Bootstrap,
    act_dcf,
    asv_error_rates,
    cllr,
    min_cllr,
    min_dcf,
    min_tdcf_2019,
    min_tdcf_2021,
    summarize,
)

TABLE = SimpleNamespace(
    scores=np.array([3.0, 1.0, 2.0, 0.0, -1.0]),
    is_bonafide=np.array([True, True, False, False, False]),
    attacks=("-", "-", "A08", "A07", "-"),
)
ASV = SimpleNamespace(
    target=np.array([1.0, 2.0, 3.0, 4.0]),
    nontarget=np.array([-2.0, -1.0, 0.0, 1.5]),
    spoof=np.array([0.5, 1.2, 9.0]),
)


def test_summary_as_json_has_these_names() -> None:
    result = json.loads(json.dumps(summarize(TABLE, ASV).to_dict(), allow_nan=False))
    assert list(result) == [
        "compat",
        "n_bonafide",
        "n_spoof",
        "eer_percent",
        "eer_threshold",
        "auc",
        "min_dcf",
        "min_dcf_threshold",
        "act_dcf",
        "act_dcf_threshold",
        "cllr_bits",
        "min_cllr_bits",
        "scores_are_llr",
        "calibration_note",
        "min_tdcf_2019",
        "min_tdcf_2019_note",
        "min_tdcf_2019_costs",
        "min_tdcf_2021",
        "min_tdcf_2021_note",
        "min_tdcf_2021_costs",
        "attacks",
        "polarity",
        "asv",
        "asv_fixed_rates",
        "confidence",
        "conditions",
    ]
    assert result["min_tdcf_2019_costs"].keys() == {"c1", "c2"}
    assert result["min_tdcf_2021_costs"].keys() == {"c0", "c1", "c2"}
    assert (result["confidence"], result["conditions"]) == (None, {})
    assert (result["compat"], result["n_bonafide"], result["n_spoof"]) == ("corrected", 2, 3)
    assert result["polarity"].keys() == {"reversed", "negated_eer_percent", "message"}
    assert result["asv"].keys() == {"threshold", "pfa", "pmiss", "pmiss_spoof", "eer_percent"}
    assert result["min_tdcf_2019_note"] is None


def test_attacks_take_all_bona_fide_and_the_spoofs_of_one_attack() -> None:
    attacks = summarize(TABLE).to_dict()["attacks"]
    assert attacks == {
        "A07": {"eer_percent": 0.0, "n_spoof": 1, "confidence": None},
        "A08": {"eer_percent": 50.0, "n_spoof": 1, "confidence": None},
    }


def test_without_asv_scores_the_tdcf_is_null_and_says_why() -> None:
    result = summarize(TABLE).to_dict()
    assert result["min_tdcf_2019"] is None
    assert result["min_tdcf_2019_note"] == "There are no ASV scores, which the t-DCF needs."
    assert result["min_tdcf_2021"] is None
    assert result["min_tdcf_2021_note"] == "There are no ASV scores, which the t-DCF needs."
    assert result["min_tdcf_2021_costs"] is None
    assert result["asv"] is None


def test_without_attack_names_there_is_no_breakdown() -> None:
    table = SimpleNamespace(scores=TABLE.scores, is_bonafide=TABLE.is_bonafide, attacks=None)
    assert summarize(table).attacks == {}


def test_scores_without_truth_ask_for_the_protocol() -> None:
    table = SimpleNamespace(scores=TABLE.scores, is_bonafide=None, attacks=None)
    with pytest.raises(MetricError, match="truth of the 5 scores is not known") as error:
        summarize(table)
    assert error.value.fix is not None
    assert "--protocol" in error.value.fix


def test_one_class_alone_is_refused_with_the_counts() -> None:
    table = SimpleNamespace(scores=np.ones(3), is_bonafide=np.ones(3, dtype=bool), attacks=None)
    with pytest.raises(MetricError, match="3 bona fide and 0 spoofed"):
        summarize(table)


def test_each_figure_is_that_of_its_own_metric() -> None:
    result = summarize(TABLE, ASV)
    bonafide, spoof = [3.0, 1.0], [2.0, 0.0, -1.0]
    assert result.auc == 5 / 6
    assert result.min_dcf == min_dcf(bonafide, spoof)
    assert result.act_dcf == act_dcf(bonafide, spoof)
    assert result.cllr_bits == cllr(bonafide, spoof)
    assert result.min_cllr_bits == min_cllr(bonafide, spoof)
    rates = asv_error_rates(ASV)
    assert result.min_tdcf_2019 == min_tdcf_2019(bonafide, spoof, rates)
    assert result.min_tdcf_2021 == min_tdcf_2021(bonafide, spoof, rates)


def test_scores_are_not_called_ratios_unless_the_caller_says_so() -> None:
    result = summarize(TABLE).to_dict()
    assert result["scores_are_llr"] is False
    assert "nothing says that these are" in result["calibration_note"]
    said = summarize(TABLE, scores_are_llr=True).to_dict()
    assert (said["scores_are_llr"], said["calibration_note"]) == (True, None)


def test_fixed_asv_rates_stand_in_for_scores_and_are_shown() -> None:
    result = summarize(TABLE, ASVSPOOF5_ASV).to_dict()
    assert result["asv"] is None
    assert result["asv_fixed_rates"]["pfa_spoof"] == ASVSPOOF5_ASV.pfa_spoof
    assert result["min_tdcf_2021"] > 0
    assert result["min_tdcf_2021_note"] is None


def test_bootstrap_gives_intervals_of_all_metrics_attacks_and_conditions() -> None:
    result = summarize(
        TABLE,
        ASV,
        bootstrap=Bootstrap(n=20, seed=3),
        conditions={"codec": ["a", "b", "a", "b", "a"]},
    ).to_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    intervals = result["confidence"]
    assert (intervals["n_bootstrap"], intervals["seed"]) == (20, 3)
    for name in set(intervals) - {"level", "n_bootstrap", "unit", "seed"}:
        assert intervals[name][0] <= intervals[name][1]
    assert {"eer_percent", "auc", "min_dcf", "min_tdcf_2019", "min_tdcf_2021"} <= set(intervals)
    assert result["attacks"]["A08"]["confidence"]["eer_percent"][0] >= 0
    assert result["conditions"]["codec"]["a"]["n_spoof"] == 2
    assert result["conditions"]["codec"]["a"]["confidence"] is not None


def test_speakers_are_one_for_each_trial() -> None:
    with pytest.raises(MetricError, match="2 speakers for 5 trials"):
        summarize(TABLE, bootstrap=Bootstrap(n=2, unit="speaker"), speakers=["a", "b"])
    result = summarize(
        TABLE, bootstrap=Bootstrap(n=5, unit="speaker"), speakers=["a", "b", "a", "b", "c"]
    )
    assert result.confidence is not None
    assert result.confidence.unit == "speaker"
