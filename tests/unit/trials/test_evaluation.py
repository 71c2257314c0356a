"""Datasets through the evaluation: their ASV system and their conditions reach the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from aasist_deploy.evaluate import asv_of, evaluate, metrics_of, report_of
from aasist_deploy.metrics import ASVSPOOF5_ASV
from aasist_deploy.scores import AsvScores
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from pathlib import Path

LEVELS = {"LA_E_1": 0.5, "LA_E_2": 0.3, "LA_E_3": -0.2, "LA_E_4": 0.4}
METADATA = """\
s LA_E_1 alaw loc_tx bonafide bonafide notrim eval
s LA_E_2 opus loc_tx bonafide bonafide notrim eval
t LA_E_3 alaw loc_tx A07 spoof notrim eval
t LA_E_4 opus loc_tx A08 spoof notrim eval
t LA_E_5 opus loc_tx A08 spoof notrim progress
"""
ASV_KEY = """\
s1 t1 alaw loc_tx bonafide target notrim eval
s2 t2 alaw loc_tx bonafide nontarget notrim eval
s2 t3 alaw loc_tx A07 spoof notrim eval
s1 t4 alaw loc_tx bonafide target notrim progress
"""
ASV_SCORES = "s1 t1 3\ns2 t2 -3\ns2 t3 4\ns1 t4 9\n"


def make_corpus(root: Path) -> Path:
    for path, text in (
        ("keys/LA/CM/trial_metadata.txt", METADATA),
        ("keys/LA/ASV/trial_metadata.txt", ASV_KEY),
        ("keys/LA/ASV/ASVTorch_Kaldi/score.txt", ASV_SCORES),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    audio = root / "ASVspoof2021_LA_eval" / "flac"
    audio.mkdir(parents=True)
    for name, level in LEVELS.items():
        wave = np.full(800, level, np.float32)
        soundfile.write(audio / f"{name}.flac", wave, 16_000)
    return root


def test_2021_is_evaluated_with_its_asv_scores_and_conditions(
    tmp_path: Path, fake_engine: Any
) -> None:
    dataset = load_dataset("asvspoof2021-la", make_corpus(tmp_path), "eval")
    asv = asv_of(dataset)
    assert isinstance(asv, AsvScores)
    assert (asv.target.tolist(), asv.nontarget.tolist(), asv.spoof.tolist()) == ([3], [-3], [4])
    engine = fake_engine()
    evaluation = evaluate(engine, dataset)
    table = evaluation.table()
    assert table.speakers == ("s", "s", "t", "t")
    assert table.conditions == {"codec": ("alaw", "opus", "alaw", "opus")}
    summary = metrics_of(evaluation)
    assert summary.min_tdcf_2021 is not None
    assert summary.conditions["codec"]["alaw"].eer == 0.0
    assert summary.conditions["codec"]["opus"].eer == 1.0  # the one spoof scores higher
    report = report_of(evaluation, summary, engine, "command")
    assert report["dataset"]["metrics"] == "2021"


def test_2021_without_asv_scores_has_no_t_dcf(tmp_path: Path, fake_engine: Any) -> None:
    root = make_corpus(tmp_path)
    (root / "keys" / "LA" / "ASV" / "trial_metadata.txt").unlink()
    dataset = load_dataset("asvspoof2021-la", root, "eval")
    assert asv_of(dataset) is None
    assert metrics_of(evaluate(fake_engine(), dataset)).min_tdcf_2021 is None


def test_track_2_of_asvspoof_5_takes_the_fixed_rates(tmp_path: Path) -> None:
    (tmp_path / "ASVspoof5.dev.track_2.trial.tsv").write_text("s u F bonafide target\n")
    assert asv_of(load_dataset("asvspoof5-t2", tmp_path, "dev")) is ASVSPOOF5_ASV


def test_2019_takes_the_scores_of_its_split(tmp_path: Path) -> None:
    folder = tmp_path / "ASVspoof2019_LA_cm_protocols"
    folder.mkdir()
    (folder / "ASVspoof2019.LA.cm.dev.trl.txt").write_text("s u - - bonafide\n")
    scores = tmp_path / "ASVspoof2019_LA_asv_scores"
    scores.mkdir()
    (scores / "ASVspoof2019.LA.asv.dev.gi.trl.scores.txt").write_text(
        "bonafide target 1\nbonafide nontarget -1\nA07 spoof 0\n"
    )
    asv = asv_of(load_dataset("asvspoof2019-la", tmp_path, "dev"))
    assert isinstance(asv, AsvScores)
    assert asv.target.tolist() == [1.0]
