from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aasist_deploy.degradations import select
from aasist_deploy.errors import OutputError, TrialsError
from aasist_deploy.robustness import SCHEMA, RobustnessLimits, run_into, sweep
from aasist_deploy.robustness.measures import clean_figures, figures_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.trials import Dataset

LEVELS = {"good1": -20.0, "good2": -23.0, "good3": -26.0, "bad1": -29.0, "bad2": -32.0}
SCORES = arrays(np.float64, st.integers(2, 12), elements=st.integers(-5, 5))


def figures(clean: Any, changed: Any, genuine: Any, threshold: float | None = 0.0) -> Any:
    clean, changed = np.array(clean, float), np.array(changed, float)
    return figures_of(
        clean,
        changed,
        np.array(genuine, bool),
        threshold,
        utterances=[f"u{i}" for i in range(len(clean))],
        n_unchanged=0,
        n_not_applicable=0,
        n_failed=0,
        first_note=None,
    )


def test_figures_of_a_case_worked_by_hand() -> None:
    # Bona fide 3, 1 and spoof -1, -2; the first spoof gains 5 and the second bona fide loses 2.
    one = figures([3, 1, -1, -2], [3, -1, 4, -2], [1, 1, 0, 0])
    assert one.mean_abs_drift == pytest.approx(7 / 4)
    assert (one.max_abs_drift, one.max_drift_utterance) == (5.0, "u2")
    assert (one.mean_drift_bonafide, one.mean_drift_spoof) == (-1.0, 2.5)
    assert (one.flips, one.flips_to_spoof, one.flips_to_bonafide) == (2, 1, 1)
    assert (one.pmiss_percent, one.pfa_percent) == (50.0, 50.0)
    assert (one.eer_percent, one.eer_change) == (50.0, 50.0)
    # Ranks 4, 3, 2, 1 against 3, 2, 4, 1: 1 - 6 (1 + 1 + 4) / (4 * 15).
    assert one.rank_correlation == pytest.approx(1 - 36 / 60)


def test_trials_without_both_scores_are_left_out_on_both_sides() -> None:
    nan = np.nan
    one = figures([3, nan, -5, 1, 2], [2, 7, nan, -3, 2.5], [1, 1, 0, 0, 0])
    alone = figures([3, 1, 2], [2, -3, 2.5], [1, 0, 0])
    assert (one.n, alone.n) == (3, 3)
    assert one.max_drift_utterance == "u3"
    assert one.eer_change == alone.eer_change
    assert one.mean_abs_drift == alone.mean_abs_drift == pytest.approx(5.5 / 3)


def test_what_is_not_known_is_none() -> None:
    one_class = figures([1, 2], [1, 2], [1, 1])
    assert (one_class.eer_percent, one_class.eer_change, one_class.pfa_percent) == (None,) * 3
    assert one_class.mean_drift_spoof is None
    assert one_class.rank_correlation is None  # two trials have no rank correlation to speak of
    assert one_class.max_drift_utterance is None  # nothing moved
    assert figures([1, 2], [5, 6], [1, 1], None).flips is None
    nothing = figures([1.0], [np.nan], [1])
    assert (nothing.n, nothing.mean_abs_drift, nothing.flips) == (0, None, None)


def test_threshold_is_that_of_the_clean_eer_unless_given() -> None:
    clean, genuine = np.array([3.0, 1, -1, -2]), np.array([True, True, False, False])
    assert clean_figures(clean, genuine, None)[1] == 0.0
    given, threshold = clean_figures(clean, genuine, 2.0)
    assert threshold == 2.0
    assert (given["pmiss_percent"], given["pfa_percent"], given["eer_percent"]) == (50, 0, 0)
    assert clean_figures(clean[:2], genuine[:2], None)[1] is None


@given(SCORES, st.floats(-3, 3), st.integers(0, 99))
def test_flips_and_drift_are_what_a_loop_counts(clean: Any, threshold: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    changed = clean + random.integers(-3, 4, len(clean))
    genuine = random.random(len(clean)) < 0.5
    one = figures(clean, changed, genuine, threshold)
    pairs = list(zip(clean, changed, strict=True))
    assert one.flips == sum((a >= threshold) != (b >= threshold) for a, b in pairs)
    assert one.max_abs_drift == max(abs(b - a) for a, b in pairs)
    assert one.flips_to_spoof + one.flips_to_bonafide == one.flips


@pytest.fixture
def arguments(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> dict[str, Any]:
    return {
        "engine": loudness_engine(),
        "dataset": dataset(LEVELS),
        "conditions": select(["control", "gain"]),
    }


def test_limits_name_every_condition_that_breaks_them(arguments: dict[str, Any]) -> None:
    report = sweep(**arguments, threshold=-27.5)
    assert report.breaches(RobustnessLimits()) == ()
    assert report.breaches(RobustnessLimits(max_eer_increase=0.0, max_flips=3)) == ()
    found = report.breaches(RobustnessLimits(max_flips=1))
    assert "gain-6dB flips 2 decisions, over 1" in found
    assert not any("identity" in text for text in found)
    assert report.threshold_source == "given"


def test_increase_of_the_eer_is_a_breach(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    levels = {"good1": -20.0, "bad1": -30.0}
    louder = select(["gain+6dB"])[0]

    def swap(wave: Any, context: Any) -> Any:
        return wave * np.float32(0.01 if context.utterance == "good1" else 1)

    report = sweep(loudness_engine(), dataset(levels), [replace(louder, name="swap", apply=swap)])
    limits = RobustnessLimits(max_eer_increase=5.0)
    assert report.breaches(limits) == ("swap raises the EER by 100.00 points, over 5",)
    assert report.to_dict(limits)["limits"] == {"max_eer_increase": 5.0, "max_flips": None}
    assert report.worst()["eer"] == "swap"


def test_file_is_the_report_with_where_it_came_from(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "results"
    report, written = run_into(folder, **arguments, command="aasist-deploy robustness", batch=4)
    read = json.loads((folder / "robustness.json").read_text())
    assert read == json.loads(json.dumps(written, allow_nan=False))
    assert (read["schema"], read["complete"]) == (SCHEMA, True)
    assert read["command"] == "aasist-deploy robustness"
    assert read["dataset"]["n_trials"] == read["dataset"]["n_done"] == 5
    assert [one["name"] for one in read["conditions"]][:2] == ["identity", "gain-24dB"]
    assert read["conditions"][1]["parameters"] == {"gain_db": -24, "int16": False}
    assert read["conditions"][1]["flips"] == report.conditions[1].figures.flips
    assert read["threshold"]["source"] == "clean EER"
    assert read["backend"] == {"name": "fake", "device": "nothing"}
    assert "numpy" in read["environment"]
    assert [path.name for path in folder.iterdir()] == ["robustness.json"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError("the engine broke")])
def test_what_is_done_is_kept_when_a_run_is_stopped(
    stop: BaseException,
    arguments: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[str] = []

    def interrupt(item: Any) -> None:
        done.append(item.utterance)
        if len(done) == 2:
            raise stop

    old = tmp_path / "robustness.json"
    old.write_text("of an earlier run")
    with pytest.raises(type(stop)):
        run_into(tmp_path, **arguments, command="", batch=4, on_item=interrupt)
    partial = json.loads((tmp_path / "robustness.partial.json").read_text())
    assert partial["complete"] is False
    assert (partial["dataset"]["n_done"], partial["dataset"]["n_selected"]) == (2, 5)
    assert {one["n"] for one in partial["conditions"]} == {2}
    assert old.read_text() == "of an earlier run"
    assert "2 of 5 trials are in" in caplog.text


def test_partial_file_is_written_while_a_long_run_goes_on(
    arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aasist_deploy.robustness.files._PARTIAL_EVERY_SECONDS", 0.0)
    monkeypatch.setattr("aasist_deploy.robustness.files._PARTIAL_SHARE", 0)
    seen = []

    def look(_item: Any) -> None:
        seen.append(json.loads((tmp_path / "robustness.partial.json").read_text())["dataset"])

    run_into(tmp_path, **arguments, command="", batch=1, on_item=look)
    assert [one["n_done"] for one in seen] == [0, 1, 2, 3, 4]


def test_place_that_cannot_be_written_is_found_before_scoring(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/results cannot be made"):
        run_into(tmp_path / "file" / "results", **arguments, command="", batch=4)
    assert arguments["engine"].batches == []


def test_run_stopped_before_anything_is_done_leaves_nothing(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    arguments["dataset"].trials[0].path.unlink()
    with pytest.raises(TrialsError):
        run_into(tmp_path / "out", **arguments, command="", batch=4)
    assert list((tmp_path / "out").iterdir()) == []


def test_documented_keys_are_those_of_the_file(arguments: dict[str, Any], tmp_path: Path) -> None:
    _, written = run_into(tmp_path / "out", **arguments, command="", batch=4)
    page = (Path(__file__).parents[3] / "docs" / "robustness.md").read_text()
    whole, conditions = page.split("## robustness.json")[1].split("### conditions")

    def documented(text: str) -> set[str]:
        cells = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
        return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}

    assert documented(whole) == set(written)
    assert documented(conditions) == set(written["conditions"][0])
    for key in ("dataset", "backend", "threshold", "clean", "worst", "limits"):
        row = next(line for line in whole.splitlines() if line.startswith(f"| `{key}`"))
        assert set(written[key]) <= set(re.findall(r"`(\w+)`", row)), key
