from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics import summarize

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
        "min_tdcf_2019",
        "min_tdcf_2019_note",
        "attacks",
        "polarity",
        "asv",
    ]
    assert (result["compat"], result["n_bonafide"], result["n_spoof"]) == ("corrected", 2, 3)
    assert result["polarity"].keys() == {"reversed", "negated_eer_percent", "message"}
    assert result["asv"].keys() == {"threshold", "pfa", "pmiss", "pmiss_spoof", "eer_percent"}
    assert result["min_tdcf_2019_note"] is None


def test_attacks_take_all_bona_fide_and_the_spoofs_of_one_attack() -> None:
    attacks = summarize(TABLE).to_dict()["attacks"]
    assert attacks == {
        "A07": {"eer_percent": 0.0, "n_spoof": 1},
        "A08": {"eer_percent": 50.0, "n_spoof": 1},
    }


def test_without_asv_scores_the_tdcf_is_null_and_says_why() -> None:
    result = summarize(TABLE).to_dict()
    assert result["min_tdcf_2019"] is None
    assert result["min_tdcf_2019_note"] == "There are no ASV scores, which the t-DCF needs."
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
