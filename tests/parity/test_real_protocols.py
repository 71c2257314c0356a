"""Real protocols, keys, score files and clips, whole."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from typer.testing import CliRunner

from aasist_deploy.cli import app
from aasist_deploy.scores import (
    ScoreLayout,
    convert_scores,
    read_sasv_scores,
    read_scores,
    write_sasv_scores,
)
from aasist_deploy.trials import load_dataset, read_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# ASVspoof 2019 evaluation plan, table 1, and README.LA.txt.
N_TRIALS = [("train.trn", 2_580, 22_800, 6), ("dev.trl", 2_548, 22_296, 6)]
N_TRIALS_EVAL = ("eval.trl", 7_355, 63_882, 13)
N_PAIRS = {"target": 1_484, "nontarget": 5_768, "spoof": 22_296}


@pytest.mark.parametrize(
    ("split", "n_bonafide", "n_spoof", "n_attacks"), [*N_TRIALS, N_TRIALS_EVAL]
)
def test_full_protocols_have_the_published_counts(
    shared: Path, split: str, n_bonafide: int, n_spoof: int, n_attacks: int
) -> None:
    path = shared / "data" / "ASVspoof2019_LA_full" / f"ASVspoof2019.LA.cm.{split}.txt.gz"
    entries = read_key(path)
    labels = [entry.label for entry in entries]
    assert (labels.count("bonafide"), labels.count("spoof")) == (n_bonafide, n_spoof)
    assert len({entry.attack for entry in entries} - {"-"}) == n_attacks
    assert all((entry.attack == "-") == (entry.label == "bonafide") for entry in entries)


@pytest.mark.parametrize("layout", get_args(ScoreLayout))
def test_published_scores_survive_every_layout(
    shared: Path, tmp_path: Path, layout: ScoreLayout
) -> None:
    source = shared / "data" / "scores" / "AASIST.LA.eval.txt.gz"
    key = read_key(shared / "data" / "ASVspoof2019_LA_full" / "ASVspoof2019.LA.cm.eval.trl.txt.gz")
    convert_scores(source, tmp_path / "out", layout, key)
    before, after = read_scores(source, key), read_scores(tmp_path / "out", key)
    assert before.utterances == after.utterances
    assert before.scores.tobytes() == after.scores.tobytes()
    assert after.is_bonafide is not None
    assert after.is_bonafide.sum() == N_TRIALS_EVAL[1]


def test_track_2_files_have_all_pairs_and_survive_writing(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "asvspoof5"
    key = folder / "t2_sasv_key_dev.tsv.gz"
    scores = read_sasv_scores(folder / "t2_sasv_score_dev.tsv.gz", key)
    found = {
        "target": int(scores.is_target.sum()),
        "nontarget": int(scores.is_nontarget.sum()),
        "spoof": int(scores.is_spoof.sum()),
    }
    assert found == N_PAIRS
    write_sasv_scores(tmp_path / "out.tsv", scores)
    again = read_sasv_scores(tmp_path / "out.tsv", key)
    for before, after in (
        (scores.cm, again.cm),
        (scores.asv, again.asv),
        (scores.sasv, again.sasv),
    ):
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(before, after)
    files = read_key(key)
    assert {entry.utterance for entry in files} == set(scores.utterances)


def test_scores_of_another_split_are_listed_with_counts(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "scores" / "AASIST.LA.eval.txt.gz"
    root = shared / "data" / "LA_mini"
    trials = load_dataset("asvspoof2019-la", root, "eval").trials
    table = read_scores(source, trials, allow_missing=True)
    assert (len(table.utterances), len(table.missing), len(table.extra)) == (29, 0, 71_208)
    lines = gzip.decompress(source.read_bytes()).decode().splitlines(keepends=True)
    (tmp_path / "few.txt").write_text("".join(lines[:1_000]))
    key = read_key(shared / "data" / "ASVspoof2019_LA_full" / "ASVspoof2019.LA.cm.eval.trl.txt.gz")
    assert len(read_scores(tmp_path / "few.txt", key, allow_missing=True).missing) == 70_237


@pytest.mark.slow
def test_all_clips_of_2021_are_scored_and_thirteen_by_the_second_decoder(
    shared: Path, tmp_path: Path, exported: Callable[..., Path]
) -> None:
    source = shared / "data" / "asvspoof2021_LA_clips"
    with (source / "clips.tsv").open(newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    corpus = tmp_path / "clips"
    corpus.mkdir()
    lines = ["path,label,soundfile"]
    for row in rows:
        shutil.copy(source / row["file"], corpus)
        lines.append(f"{row['file']},{row['label']},{row['soundfile']}")
    (corpus / "manifest.csv").write_text("\n".join(lines) + "\n")
    arguments = ["eval", exported("AASIST"), "--dataset", "manifest", "--root", corpus]
    result = CliRunner().invoke(
        app, [str(a) for a in (*arguments, "--out", tmp_path / "out", "--json")]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["n_bonafide"], report["n_spoof"], report["failures"]) == (15, 15, [])
    assert report["audio"]["n_second_decoder"] == 13
    assert report["dataset"]["metrics"] == "eer"
    assert len(read_scores(tmp_path / "out" / "scores.txt").utterances) == 30
