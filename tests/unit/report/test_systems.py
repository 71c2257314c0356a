"""Earlier evaluations read again, alone and side by side."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.errors import ScoresError, UsageError
from aasist_deploy.metrics import eer
from aasist_deploy.report import read_system, write_comparison, write_page
from aasist_deploy.scores import ScoreRow, write_scores_txt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N_BONAFIDE, N_SPOOF = 120, 360
TRUTH = np.arange(N_BONAFIDE + N_SPOOF) < N_BONAFIDE
HOSTILE = "<script>alert(1)</script>\u202e"
COMMAND = "aasist-deploy report a b"


@pytest.fixture
def folder(write: Any, tmp_path: Path) -> Callable[..., Path]:
    """(name, shift of the spoofs, keys to change) -> the folder of an evaluation."""

    def make(name: str, shift: float = -1.0, first: int = 0, **changes: Any) -> Path:
        random = np.random.default_rng(11)
        scores = random.normal(np.where(TRUTH, 2.0, shift))
        scores[~TRUTH] += np.random.default_rng(len(name)).normal(0, 0.3, N_SPOOF)
        names = [f"u{first + index}" for index in range(len(scores))]
        attacks = ["-" if t else f"A{7 + i % 3:02d}" for i, t in enumerate(TRUTH)]
        rates = {
            attack: {"eer_percent": 1.0 + index, "n_spoof": 120}
            for index, attack in enumerate(sorted(set(attacks) - {"-"}))
        }
        place = tmp_path / name
        write(
            place, scores[TRUTH], scores[~TRUTH], utterances=names, trial_attacks=attacks,
            **({"attacks": rates} | changes),
        )  # fmt: skip
        rows = (
            ScoreRow(utterance=u, attack=a, label="bonafide" if t else "spoof", score=float(s))
            for u, a, t, s in zip(names, attacks, TRUTH, scores, strict=True)
        )
        write_scores_txt(place / "report" / "scores.txt", rows)
        return place / "report"

    return make


def test_page_made_again_is_the_same_page(folder: Callable[..., Path], tmp_path: Path) -> None:
    made = folder("a")
    write_page(read_system(made), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == (made / "report.html").read_text()


def test_report_without_added_keys_has_its_hardest_trials(folder: Callable[..., Path]) -> None:
    made = folder("a")
    report = json.loads((made / "report.json").read_text())
    expected = [row["utterance"] for row in report.pop("hardest")]
    (made / "report.json").write_text(json.dumps(report))
    system = read_system(made)
    assert [row["utterance"] for row in system.report["hardest"]] == expected


@pytest.mark.parametrize("name", ["report.json", "scores.txt"])
def test_folder_without_a_file_is_refused_with_a_fix(
    folder: Callable[..., Path], name: str
) -> None:
    made = folder("a")
    (made / name).unlink()
    with pytest.raises(UsageError, match=f"holds no {name}") as caught:
        read_system(made)
    assert "eval" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("schema", "aasist-deploy/report/2", "report/2"),
        ("schema", None, "schema"),
        ("eer_percent", "low", "eer_percent is 'low'"),
        ("eer_percent", True, "eer_percent is True"),
        ("failures", {}, "failures"),
        ("failures", [{"utterance": 1, "path": "", "error": ""}], r"failures\[0\].utterance"),
        ("polarity", {}, "polarity.reversed"),
        ("timing", {"seconds": None}, "timing.seconds"),
        ("n_bonafide", 121, "not of one evaluation"),
    ],
)
def test_report_that_was_changed_is_refused(
    folder: Callable[..., Path], key: str, value: object, said: str
) -> None:
    made = folder("a")
    report = json.loads((made / "report.json").read_text())
    (made / "report.json").write_text(json.dumps(report | {key: value}))
    with pytest.raises(ScoresError, match=said):
        read_system(made)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": NaN}', "[" * 100_000])
def test_damaged_json_is_refused(folder: Callable[..., Path], text: str) -> None:
    made = folder("a")
    (made / "report.json").write_text(text)
    with pytest.raises(ScoresError, match=r"report\.json"):
        read_system(made)


def test_robustness_of_something_else_is_refused(folder: Callable[..., Path]) -> None:
    made = folder("a")
    (made / "robustness.json").write_text('{"schema": "else"}')
    with pytest.raises(ScoresError, match="no robustness sweep"):
        read_system(made)


def test_comparison_holds_each_system_and_their_difference(
    folder: Callable[..., Path], page_of: Any, tmp_path: Path
) -> None:
    systems = [read_system(folder("a"), "good"), read_system(folder("bb", 0.3), "bad")]
    found = write_comparison(systems, tmp_path / "both.html", command=COMMAND)
    rates = [eer(s.bonafide, s.spoof).eer * 100 for s in systems]
    assert [s["eer_percent"] for s in found["systems"]] == rates
    (pair,) = found["pairs"]
    assert pair["test"]["eer_percent"]["difference"] == pytest.approx(rates[1] - rates[0])
    assert sum(pair["decisions"].values()) == pair["n_common"] == N_BONAFIDE + N_SPOOF
    mcnemar = pair["test"]["mcnemar"]
    assert pair["decisions"]["only_second_wrong"] == mcnemar["only_first_right"]
    page = page_of((tmp_path / "both.html").read_text())
    assert f"EER: good {rates[0]:.2f} %, bad {rates[1]:.2f} %" in page.words
    assert "good has a lower EER than bad beyond chance" in page.words
    assert page.count("table") == page.count("caption") > 3
    assert page.count("script") == 0
    assert all(a.get("scope") in {"row", "col"} for tag, a in page.elements if tag == "th")


def test_a_system_and_itself_cannot_be_told_apart(
    folder: Callable[..., Path], page_of: Any, tmp_path: Path
) -> None:
    made = folder("a")
    systems = [read_system(made, "one"), read_system(made, "two")]
    write_comparison(systems, tmp_path / "both.html", command=COMMAND)
    page = page_of((tmp_path / "both.html").read_text())
    assert "By EER one and two cannot be told apart on these trials." in page.words
    assert "best" not in {a.get("class") for _, a in page.elements}


def test_order_of_the_trials_does_not_matter(folder: Callable[..., Path], tmp_path: Path) -> None:
    first, second = folder("a"), folder("bb", 0.0)
    found = []
    for _ in range(2):
        systems = [read_system(first, "a"), read_system(second, "b")]
        pair = write_comparison(systems, tmp_path / "x.html", command=COMMAND)["pairs"][0]
        found.append((pair["decisions"], pair["test"]["eer_percent"]["difference"]))
        lines = (second / "scores.txt").read_text().splitlines(keepends=True)
        (second / "scores.txt").write_text("".join(reversed(lines)))
    assert found[0] == found[1]


def test_other_trials_are_refused_with_counts(folder: Callable[..., Path], tmp_path: Path) -> None:
    systems = [read_system(folder("a"), "a"), read_system(folder("b", first=100), "b")]
    with pytest.raises(ScoresError, match=r"480 and 480 they share 380; 100 are only in a") as e:
        write_comparison(systems, tmp_path / "x.html", command=COMMAND)
    assert "--allow-different" in str(e.value.fix)
    assert not (tmp_path / "x.html").exists()


def test_other_trials_are_told_when_they_are_allowed(
    folder: Callable[..., Path], page_of: Any, tmp_path: Path
) -> None:
    # Trials 0 to 479 and 120 to 599: the keys of the common ones must agree, so only one class
    # is shared when the second set is shifted; a shift within the spoofs keeps both.
    first, second = folder("a"), folder("b")
    lines = (second / "scores.txt").read_text().splitlines(keepends=True)
    (second / "scores.txt").write_text("".join(lines[:-60]))
    report = json.loads((second / "report.json").read_text())
    (second / "report.json").write_text(json.dumps(report | {"n_spoof": N_SPOOF - 60}))
    systems = [read_system(first, "a"), read_system(second, "b")]
    found = write_comparison(
        systems, tmp_path / "x.html", command=COMMAND, allow_different=True, n_bootstrap=50
    )
    assert found["pairs"][0]["n_common"] == N_BONAFIDE + N_SPOOF - 60
    page = page_of((tmp_path / "x.html").read_text())
    assert "on trials that are not the same" in page.words
    assert "The trials differ." in page.words


def test_other_truth_of_a_trial_is_refused(folder: Callable[..., Path], tmp_path: Path) -> None:
    first, second = folder("a"), folder("b")
    text = (second / "scores.txt").read_text()
    text = text.replace("u0 - bonafide", "u0 A07 spoof").replace("u479 A", "u479 - bonafide 1 #A")
    text = re.sub(r" #.*", "", text).replace("bonafide 1\n", "bonafide 1.0\n")
    (second / "scores.txt").write_text(text)
    systems = [read_system(first, "a"), read_system(second, "b")]
    with pytest.raises(ScoresError, match="2 of 480 common trials different keys"):
        write_comparison(systems, tmp_path / "x.html", command=COMMAND)


def test_two_systems_of_one_name_are_refused(folder: Callable[..., Path], tmp_path: Path) -> None:
    systems = [read_system(folder("a")), read_system(folder("b"))]  # both folders are "report"
    with pytest.raises(UsageError, match="called 'report'") as caught:
        write_comparison(systems, tmp_path / "x.html", command=COMMAND)
    assert "--labels" in str(caught.value.fix)


def test_hostile_names_stay_text_side_by_side(
    folder: Callable[..., Path], page_of: Any, tmp_path: Path
) -> None:
    attacks = {HOSTILE: {"eer_percent": 1.0, "n_spoof": 9}}
    made = folder("a", attacks=attacks, command=HOSTILE, compat=HOSTILE)
    systems = [read_system(made, HOSTILE), read_system(made, HOSTILE + "2")]
    write_comparison(systems, tmp_path / "x.html", command=HOSTILE, n_bootstrap=20)
    page = page_of((tmp_path / "x.html").read_text())
    assert page.count("script") == 0
    assert "\u202e" not in page.html
    assert page.words.count("<script>alert(1)</script>\\u202e") > 15


def test_robustness_of_two_systems_is_side_by_side(
    folder: Callable[..., Path], page_of: Any, tmp_path: Path
) -> None:
    places = [folder("a"), folder("b")]
    for place, change in zip(places, (0.5, 9.5), strict=True):
        conditions = [{"name": "mp3-8k", "status": "measured", "eer_change": change}]
        sweep = {"schema": "aasist-deploy/robustness/1", "conditions": conditions}
        (place / "robustness.json").write_text(json.dumps(sweep))
    systems = [read_system(place, name) for place, name in zip(places, "ab", strict=True)]
    write_comparison(systems, tmp_path / "x.html", command=COMMAND, n_bootstrap=20)
    assert "mp3-8k+0.50 +9.50" in page_of((tmp_path / "x.html").read_text()).words.replace(
        "mp3-8k ", "mp3-8k"
    )
