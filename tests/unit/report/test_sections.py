"""Parts of the page that are there when the report has what they show, and only then."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RANDOM = np.random.default_rng(7)
BONAFIDE: NDArray[np.float64] = RANDOM.normal(2, 1, 400)
SPOOF: NDArray[np.float64] = RANDOM.normal(-1, 1, 1200)
N_ALL = len(BONAFIDE) + len(SPOOF)
CONFIDENCE = {"level": 0.95, "n_bootstrap": 1000, "unit": "speaker", "seed": 3,
              "eer_percent": [5.5, 7.25], "min_tdcf_2019": [0.02, 0.04]}  # fmt: skip
SWEEP: dict[str, Any] = {
    "schema": "aasist-deploy/robustness/1",
    "complete": True,
    "clean": {"n": 100, "eer_percent": 1.0},
    "breaches": ["EER under mp3-8k rises by 12.0 points, more than 5."],
    "conditions": [
        {"name": "mp3-8k", "meaning": "MP3 at 8 kbit/s", "status": "measured", "n": 100,
         "eer_percent": 13.0, "eer_change": 12.0, "flips": 14, "mean_abs_drift": 1.5,
         "max_abs_drift": 9.0},
        {"name": "amr", "meaning": "AMR", "status": "unavailable", "reason": "no encoder here"},
    ],
}  # fmt: skip


def section(page: Any, name: str) -> str:
    """The HTML of a section."""
    found = re.search(rf'<section aria-labelledby="{name}">.*?</section>', page.html, re.DOTALL)
    return found[0] if found else ""


def test_contents_list_names_all_sections_and_no_other(write: Any, tmp_path: Path) -> None:
    page = write(tmp_path, BONAFIDE, SPOOF)
    linked = [a["href"].removeprefix("#") for tag, a in page.elements if tag == "a"]
    there = re.findall(r'<section aria-labelledby="([^"]+)">', page.html)
    assert linked == ["main", *there]
    assert {"calibration", "robustness", "conditions", "failures"}.isdisjoint(there)


def test_intervals_are_in_the_verdict_the_facts_and_a_strip(write: Any, tmp_path: Path) -> None:
    page = write(tmp_path, BONAFIDE, SPOOF, confidence=CONFIDENCE)
    assert "(5.50 to 7.25 % at 95 % confidence)" in page.words
    assert "0.0200 to 0.0400" in page.words
    assert "bootstrap of 1,000 resamples, drawn by speaker, seed 3." in page.words
    (strip,) = (a for _, a in page.elements if a.get("class") == "strip")
    assert strip["role"] == "img"
    assert "5.50 to 7.25 percent, on a scale from 0 to 10 percent" in strip["aria-label"]
    assert "left: 55.0%; width: 17.5%" in page.html


def test_interval_without_width_is_not_shown(write: Any, tmp_path: Path) -> None:
    none = {"level": 0.95, "n_bootstrap": 1000, "eer_percent": [0.0, 0.0]}
    page = write(tmp_path, np.linspace(3, 5, 40), np.linspace(-6, 0, 40), confidence=none)
    assert "0.00 to 0.00" not in page.words
    assert "No bootstrap interval of the EER" in page.words


def test_attacks_and_conditions_have_their_intervals(write: Any, tmp_path: Path) -> None:
    def of(rate: float) -> dict[str, Any]:
        ends = {"eer_percent": [rate / 2, rate * 2]}
        return {"eer_percent": rate, "n_spoof": 600, "n_bonafide": 400, "confidence": ends}

    page = write(
        tmp_path, BONAFIDE, SPOOF, attacks={"A07": of(4.0)}, confidence=CONFIDENCE,
        conditions={"codec": {"alaw": of(2.0), "gsm": of(8.0)}, "attack": {"A07": of(4.0)}},
    )  # fmt: skip
    assert "2.00 to 8.00" in section(page, "attacks")
    codecs = section(page, "conditions")
    assert "4.00 to 16.00" in codecs
    assert "EER by codec" in codecs
    assert "EER by attack" not in codecs  # it has a section of its own
    assert "left: 25.0%; width: 75.0%" in codecs  # 4 to 16 on a scale that ends at 16


def test_heat_map_says_the_number_in_each_cell(write: Any, tmp_path: Path) -> None:
    codec = [("alaw", "gsm")[i % 2] for i in range(N_ALL)]
    attacks = ["-"] * len(BONAFIDE) + [("A07", "A08")[i // 2 % 2] for i in range(len(SPOOF))]
    page = write(
        tmp_path, BONAFIDE, SPOOF, trial_attacks=attacks, options={"conditions": {"codec": codec}}
    )
    written = json.loads((tmp_path / "report" / "report.json").read_text())
    (table,) = written["cells"]
    assert (table["rows"], table["columns"]) == ("attack", "codec")
    assert table["cells"]["A07"]["gsm"]["n_bonafide"] == 200
    shown = re.findall(r'class="heat" style="--v: (\d+)%">([\d.]+)', page.html)
    rates = [cell["eer_percent"] for line in table["cells"].values() for cell in line.values()]
    assert [number for _, number in shown] == [f"{rate:.2f}" for rate in rates]
    assert max(int(strength) for strength, _ in shown) == 100


def test_cell_of_few_trials_is_marked(write: Any, tmp_path: Path) -> None:
    few = {"eer_percent": 5.0, "n_bonafide": 400, "n_spoof": 29}
    many = few | {"n_spoof": 30}
    cells = [{"rows": "attack", "columns": "codec", "cells": {"A07": {"a": few, "b": many}}}]
    page = section(write(tmp_path, BONAFIDE, SPOOF, cells=cells), "conditions")
    assert "5.00*" in page
    assert page.count("5.00*") == 1
    assert "* fewer than 30 trials" in page


def test_thresholds_say_what_they_do_to_these_trials(write: Any, tmp_path: Path) -> None:
    model = {"architecture": "AASIST", "thresholds": {"strict": 2.0, "odd": {"nested": 1}}}
    page = write(tmp_path, BONAFIDE, SPOOF, model=model)
    table = section(page, "thresholds")
    n_miss = int((BONAFIDE < 2.0).sum())
    row = re.search(r"model file: strict.*?</tr>", table, re.DOTALL)
    assert row
    assert f"{100 * n_miss / 400:.2f}" in row[0]
    assert "at most 1\N{NO-BREAK SPACE}% of spoofs" in table
    assert "at most 0.1\N{NO-BREAK SPACE}%" in table  # 1,200 spoofs can show one in a thousand
    assert "odd" not in table


def test_promised_share_of_spoofs_is_kept(write: Any, tmp_path: Path) -> None:
    table = section(write(tmp_path, BONAFIDE, SPOOF), "thresholds")
    for wanted in (5.0, 1.0, 0.1):
        row = re.search(rf"at most {wanted:g}\s%.*?</tr>", table, re.DOTALL)
        assert row
        accepted = int(re.findall(r">([\d,]+)</td>", row[0])[-1])
        assert accepted == int(1200 * wanted / 100)


def test_costs_are_drawn_when_their_weights_are_known(write: Any, tmp_path: Path) -> None:
    without = write(tmp_path / "a", BONAFIDE, SPOOF)
    costs = {"min_tdcf_2019_costs": {"c1": 0.9, "c2": 0.4},
             "min_tdcf_2021_costs": {"c0": 0.03, "c1": 0.9, "c2": 0.4}}  # fmt: skip
    both = write(tmp_path / "b", BONAFIDE, SPOOF, min_tdcf_2021=0.2, **costs)
    assert "lowest t-DCF" not in without.words
    assert both.words.count("t-DCF 2019") == both.words.count("t-DCF 2021") > 1
    assert "min t-DCF (2021)" in both.words


def test_calibration_is_measured_before_and_after(write: Any, tmp_path: Path) -> None:
    # Two classes of unit variance 3 apart: LLR = 3 (score - 0.5).
    model = {"architecture": "AASIST", "calibration": {"scale": 3.0, "offset": -1.5}}
    page = write(
        tmp_path, BONAFIDE, SPOOF, model=model, cllr_bits=0.4, min_cllr_bits=0.2,
        calibration_note="not calibrated",
    )  # fmt: skip
    words = section(page, "calibration")
    assert "0.4000 bits" in words
    after = re.search(r"model file&#39;s calibration</th><td>([\d.]+) bits", words)
    assert after
    assert float(after[1]) < 0.3
    assert "perfectly calibrated" in words
    assert "not calibrated" in words
    header = page.words.split("Errors and scores")[0]
    assert not re.search(r"(?<!min)Cllr, bits", header)  # beside the note alone


def test_uncalibrated_scores_are_called_so(write: Any, tmp_path: Path) -> None:
    words = section(write(tmp_path, BONAFIDE, SPOOF, min_cllr_bits=0.2), "calibration")
    assert "a score is no log-likelihood ratio" in words
    assert "perfectly calibrated" not in words


def test_robustness_of_the_folder_is_part_of_the_page(write: Any, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "robustness.json").write_text(json.dumps(SWEEP))
    page = write(tmp_path, BONAFIDE, SPOOF)
    table = section(page, "robustness")
    assert "+12.00" in table
    assert "14 <span" in table
    assert "no encoder here" in table
    assert "Robustness: EER under mp3-8k rises by 12.0 points" in page.words
    assert "another model" not in page.words


def test_robustness_of_another_model_is_told(write: Any, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "robustness.json").write_text(json.dumps(SWEEP | {"model": {"graph_sha256": "a"}}))
    page = write(tmp_path, BONAFIDE, SPOOF, model={"architecture": "X", "graph_sha256": "b"})
    assert "robustness.json in the folder is of another model file." in page.words


def test_files_of_the_second_decoder_are_listed_with_the_reason(write: Any, tmp_path: Path) -> None:
    decoding = [{"utterance": "LA_E_1", "path": "x", "second_decoder": True, "note": "lost sync"}]
    page = write(tmp_path, BONAFIDE, SPOOF, decoding=decoding)
    assert "3 of 1,600 (0.19\N{NO-BREAK SPACE}%)" in section(page, "decoding")
    assert "lost sync" in section(page, "decoding")


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Three playable files: 1 s, 20 s, and one that is no audio."""
    waves = (np.sin(np.arange(n) / 9) * 0.5 for n in (16_000, 320_000))
    paths = [tmp_path / f"{index}.wav" for index in range(3)]
    for path, wave in zip(paths, waves, strict=False):
        soundfile.write(path, wave, 16_000)
    paths[2].write_text("no audio")
    return paths


def test_players_hold_the_audio_and_are_off_by_default(
    write: Any, tmp_path: Path, clips: list[Path]
) -> None:
    bonafide, spoof = np.array([-3.0, -2.0, -1.0, 4.0]), np.linspace(-9, -5, 4)
    at_zero = {"eer_threshold": 0.0}  # the first three are errors, in this order
    paths = [*clips, *[clips[0]] * 5]
    silent = write(tmp_path / "off", bonafide, spoof, options={"paths": paths}, **at_zero)
    assert not silent.count("audio")
    assert "media-src" not in silent.html
    loud = write(
        tmp_path / "on", bonafide, spoof, options={"paths": paths, "players": 3}, **at_zero
    )
    assert "media-src data:" in loud.html
    players = [a for tag, a in loud.elements if tag == "audio"]
    waves = []
    for player in players:
        assert player["aria-label"].startswith("Audio of LA_E_")
        content = base64.b64decode(player["src"].removeprefix("data:audio/flac;base64,"))
        waves.append(soundfile.read(io.BytesIO(content)))
    assert [(len(wave), rate) for wave, rate in waves] == [(16_000, 16_000), (240_000, 16_000)]
    np.testing.assert_allclose(
        waves[0][0], np.sin(np.arange(16_000) / 9) * 0.5, atol=2**-14
    )  # 16 bits, rounded twice
    assert "The first 15 seconds." in loud.words
    assert "2.wav" in loud.words  # the one that cannot be heard says why
    written = (tmp_path / "on" / "report" / "report.json").read_text()
    assert "base64" not in written


def test_players_stay_below_the_limit_of_the_page(
    write: Any, tmp_path: Path, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aasist_deploy.report._players.MAX_BYTES", 60_000)
    n = len(BONAFIDE) + len(SPOOF)
    options = {"paths": [clips[0]] * n, "players": 20}
    page = write(tmp_path, BONAFIDE, SPOOF, options=options)
    assert 0 < page.count("audio") < 20
    assert "the players of a page hold 60,000 bytes" in page.words
