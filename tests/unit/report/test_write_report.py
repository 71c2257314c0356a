"""report.json and report.html as `write_report` leaves them."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray

from aasist_deploy.errors import MetricError, OutputError
from aasist_deploy.metrics import eer
from aasist_deploy.report import write_report

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=\"alert('2')\"> & {{ 7 * 7 }}"
MAX_BYTES = 400_000
MAX_SECONDS = 15.0  # measured 0.6 to 1.2 s on two cores; machines under load are slower

Scores = tuple[NDArray[np.float64], NDArray[np.float64]]


def test_json_holds_the_report_as_given(
    write: Any, report_of: Any, tmp_path: Path, overlapping: Scores
) -> None:
    write(tmp_path, *overlapping)
    written = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    hardest = written.pop("hardest")
    assert written == report_of(*overlapping)
    assert len(hardest) == 50


def test_verdict_names_the_numbers_the_model_and_the_backend(
    write: Any, tmp_path: Path, overlapping: Scores
) -> None:
    words = write(tmp_path, *overlapping).words
    rate = f"{eer(*overlapping).eer * 100:.2f}"
    assert (
        f"EER {rate} % and min t-DCF 0.0275 over 300 trials, "
        "scored by AASIST in fp32 with onnx on CPU." in words
    )
    assert "Few trials" not in words
    assert "could not be scored" not in words


def test_page_needs_nothing_from_elsewhere(write: Any, tmp_path: Path, overlapping: Scores) -> None:
    page = write(tmp_path, *overlapping)
    for tag in ("script", "link", "img", "iframe", "object", "image"):
        assert not page.count(tag)
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "data"}:
                assert (value or "").startswith("#")
    assert "@import" not in page.html
    assert not re.findall(r"url\((?!#)", page.html)
    assert any("default-src 'none'" in (a.get("content") or "") for _, a in page.elements)


def test_page_is_readable_by_a_screen_reader(
    write: Any, tmp_path: Path, overlapping: Scores
) -> None:
    failures = [{"utterance": "u", "path": "p", "error": "e"}]
    page = write(tmp_path, *overlapping, failures=failures)
    assert ("html", {"lang": "en"}) in page.elements
    assert page.count("h1") == 1
    assert page.count("table") == page.count("caption") > 4
    assert page.count("figure") == page.count("figcaption") == 4
    assert all(a.get("scope") in {"row", "col"} for tag, a in page.elements if tag == "th")
    pictures = [a for tag, a in page.elements if tag == "svg"]
    assert len(pictures) == 4
    assert all(
        a["role"] == "img" and "equal error rate" in (a["aria-label"] or "") for a in pictures
    )


def test_ids_are_unique_and_references_resolve(
    write: Any, tmp_path: Path, overlapping: Scores
) -> None:
    page = write(tmp_path, *overlapping)
    ids = Counter(a["id"] for _, a in page.elements if "id" in a)
    assert max(ids.values()) == 1
    targets = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', page.html)
    assert targets
    assert set(targets) <= set(ids)


def test_figures_take_their_colours_from_the_page(
    write: Any, tmp_path: Path, overlapping: Scores
) -> None:
    svg = write(tmp_path, *overlapping).html.split("<figure>", 1)[1]
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000"}  # in matplotlib's defaults only
    for variable in ("ink", "muted", "rule", "bonafide", "spoof"):
        assert f"var(--{variable})" in svg


def test_hostile_names_stay_text(write: Any, tmp_path: Path, overlapping: Scores) -> None:
    benign = write(tmp_path, *overlapping)
    bonafide, spoof = overlapping
    page = write(
        tmp_path,
        bonafide,
        spoof,
        utterances=[HOSTILE] * 300,
        trial_attacks=[HOSTILE] * 300,
        attacks={HOSTILE: {"eer_percent": 1.0, "n_spoof": 200}},
        command=HOSTILE,
        created=HOSTILE,
        schema=HOSTILE,
        min_tdcf_2019_note=HOSTILE,
        compat=HOSTILE,
        asv={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE},
        model={"architecture": HOSTILE, "precision": HOSTILE, "config": {HOSTILE: [HOSTILE]}},
        backend={"name": HOSTILE, "device": HOSTILE, "details": {HOSTILE: HOSTILE}},
        dataset={"n_trials": 300, **dict.fromkeys(("name", "split", "root", HOSTILE), HOSTILE)},
        polarity={"reversed": True, "negated_eer_percent": 1.0, "message": HOSTILE},
        failures=[{"utterance": HOSTILE, "path": HOSTILE, "error": HOSTILE}],
        decoding=[{"utterance": HOSTILE, "second_decoder": HOSTILE, "note": HOSTILE}],
        confidence={"level": 0.95, "n_bootstrap": 9, "unit": HOSTILE, "eer_percent": [1, 9]},
        conditions={HOSTILE: {HOSTILE: {"eer_percent": 2.0, "n_spoof": 5, "n_bonafide": 5}}},
        cells=[{"rows": HOSTILE, "columns": HOSTILE, "cells": {HOSTILE: {HOSTILE: {}}}}],
        cllr_bits=0.5,
        calibration_note=HOSTILE,
    )
    assert not page.count("script")
    assert not page.count("img")
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in benign.elements} | {
        "strong", "div", "br"
    }  # fmt: skip
    assert page.words.count(HOSTILE) > 30
    assert "{{ 7 * 7 }}" in page.html


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("evil\u202egpj.exe", "evil\\u202egpj.exe"),  # draws as evilexe.jpg
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("bell\x07", "bell\\u0007"),
        ("latin-1 \udce9", "latin-1 \\udce9"),  # how Python reads a file name that is not UTF-8
        ("müller 語", "müller 語"),
    ],
)
def test_characters_that_draw_nothing_are_shown_by_code(
    write: Any, tmp_path: Path, overlapping: Scores, name: str, shown: str
) -> None:
    failures = [{"utterance": name, "path": name, "error": "no samples"}]
    page = write(tmp_path, *overlapping, failures=failures)
    assert shown in page.words
    text = (tmp_path / "report" / "report.json").read_text(encoding="utf-8")
    assert json.loads(text)["failures"] == failures


def test_perfect_scores_say_that_there_is_no_curve(write: Any, tmp_path: Path) -> None:
    page = write(tmp_path, np.linspace(3, 5, 14), np.linspace(-6, 0, 15))
    assert page.count("svg") == 2  # the histogram and the error rates by threshold
    assert "not one error of either kind" in page.words
    assert "both error rates are below 19 %, at 95 % confidence" in page.words  # 1 - 0.05**(1/14)
    assert "EER 0.00 %" in page.words


def test_scores_that_are_all_equal_have_a_curve(write: Any, tmp_path: Path) -> None:
    page = write(tmp_path, np.zeros(40), np.zeros(50))
    assert page.count("svg") == 4
    assert "EER 50.00 %" in page.words


def test_one_trial_of_each_class_on_the_wrong_side_has_a_report(write: Any, tmp_path: Path) -> None:
    page = write(tmp_path, np.array([-1.0]), np.array([1.0]))
    assert "EER 100.00 %" in page.words
    assert page.count("svg") == 4


def test_few_trials_are_told_with_the_step_of_the_error_rates(write: Any, tmp_path: Path) -> None:
    page = write(tmp_path, np.linspace(-1, 3, 14), np.linspace(-4, 0, 50))
    assert "Few trials: only 14 bona fide. One error moves the miss rate by 7.1 %" in page.words


def test_reversed_scores_are_told(write: Any, tmp_path: Path, overlapping: Scores) -> None:
    polarity = {"reversed": True, "negated_eer_percent": 6.5, "message": None}
    page = write(tmp_path, -overlapping[0], -overlapping[1], polarity=polarity)
    assert "Check the polarity. The EER of the negated scores is 6.50 %." in page.words


def test_failures_are_counted_and_long_lists_are_cut(
    write: Any, tmp_path: Path, overlapping: Scores
) -> None:
    failures = [{"utterance": f"f{i}", "path": f"f{i}.flac", "error": "empty"} for i in range(500)]
    page = write(tmp_path, *overlapping, failures=failures)
    assert "500 of 800 trials could not be scored." in page.words
    assert "500 in all; the first 200 are here, the others in report.json" in page.words
    assert "f199.flac" in page.words
    assert "f200.flac" not in page.words


def test_hardest_trials_are_the_ten_worst_in_order(write: Any, tmp_path: Path) -> None:
    bonafide, spoof = np.linspace(1, 5, 40), np.linspace(-5, -1, 40)
    spoof[3], bonafide[5] = 7.0, -0.5  # 7 is far above every threshold, -0.5 barely below
    names = [f"u{index}" for index in range(80)]
    page = write(tmp_path, bonafide, spoof, utterances=names)
    table = page.words.split("Hardest trials")[2]  # the first is in the contents
    hardest = re.findall(r"\bu\d+\b", table)
    assert len(hardest) == 10
    assert hardest[:2] == ["u43", "u5"]
    assert "7.0000" in table


def test_a_score_file_alone_has_a_report(write: Any, tmp_path: Path, overlapping: Scores) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("model", "backend", "timing", "audio", "asv", "min_tdcf_2019")
    )
    note = "There are no ASV scores, which the t-DCF needs."
    page = write(tmp_path, *overlapping, **nothing, min_tdcf_2019_note=note)
    assert "over 300 trials, from a score file." in page.words
    assert "it does not say which model made it" in page.words
    assert "not computed" in page.words
    assert note in page.words


@pytest.mark.parametrize("n_attacks", [0, 1, 300])
def test_any_number_of_attacks_has_a_report(
    write: Any, tmp_path: Path, overlapping: Scores, n_attacks: int
) -> None:
    table = {f"A{i:03d}": {"eer_percent": i / 10, "n_spoof": 5} for i in range(n_attacks)}
    page = write(tmp_path, *overlapping, trial_attacks=["-"] * 300, attacks=table)
    rows = re.findall(r"\bA\d{3}\b", page.words)
    assert rows == [f"A{i:03d}" for i in range(min(n_attacks, 200))]
    assert ("does not name its attacks" in page.words) == (n_attacks == 0)
    assert ("the first 200 of 300" in page.words) == (n_attacks == 300)


def test_a_full_evaluation_set_is_quick_and_small(write: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    bonafide, spoof = generator.normal(5, 1.5, 7_355), generator.normal(-3, 2.5, 63_882)
    start = time.perf_counter()
    page = write(tmp_path, bonafide, spoof)
    assert time.perf_counter() - start < MAX_SECONDS
    assert len(page.html) < MAX_BYTES


def test_the_same_evaluation_gives_the_same_page(
    write: Any, tmp_path: Path, overlapping: Scores
) -> None:
    assert write(tmp_path, *overlapping).html == write(tmp_path, *overlapping).html


def test_matplotlib_of_the_caller_neither_changes_nor_shows(
    write: Any, tmp_path: Path, overlapping: Scores
) -> None:
    plain = write(tmp_path, *overlapping).html
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert write(tmp_path, *overlapping).html == plain
        assert dict(mpl.rcParams) == before


def test_nan_in_the_report_is_refused_and_nothing_is_written(
    write: Any, tmp_path: Path, overlapping: Scores
) -> None:
    with pytest.raises(OutputError, match="JSON does not have") as caught:
        write(tmp_path, *overlapping, min_tdcf_2019=float("nan"))
    assert caught.value.fix
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_refused_with_a_fix(
    write: Any, tmp_path: Path, overlapping: Scores
) -> None:
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(OutputError, match="report") as caught:
        write(tmp_path, *overlapping)
    assert caught.value.fix


def test_a_missing_class_is_refused(report_of: Any, tmp_path: Path, overlapping: Scores) -> None:
    bonafide, spoof = overlapping
    with pytest.raises(MetricError, match="0 spoofed"):
        write_report(
            report_of(bonafide, spoof),
            scores=bonafide,
            is_bonafide=np.ones(100, dtype=bool),
            attacks=["-"] * 100,
            utterances=["u"] * 100,
            out_dir=tmp_path,
        )


def test_vectors_of_other_lengths_are_refused(
    write: Any, tmp_path: Path, overlapping: Scores
) -> None:
    with pytest.raises(ValueError, match=r"\[300, 300, 300, 2\]"):
        write(tmp_path, *overlapping, utterances=["a", "b"])


def test_the_example_in_the_docs_has_the_documented_keys_and_makes_a_report(
    write: Any, report_of: Any, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[3] / "docs" / "report-json.md").read_text(encoding="utf-8")
    found = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert found
    example = json.loads(found[1])
    scores = np.array([-1.0, 1.0])
    assert list(example) == list(report_of(scores, scores))
    write(tmp_path, scores + 3, scores, **example)
