from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.errors import MetricError, TrialsError
from aasist_deploy.evaluate import evaluate, metrics_of, report_of
from aasist_deploy.trials import Dataset, load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = {"good1": 0.5, "good2": 0.3, "bad1": -0.2, "bad2": 0.35, "bad3": -0.4}


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """A manifest of clips whose level decides the fake engine's score."""

    def make(levels: dict[str, float] = LEVELS) -> Dataset:
        lines = ["path,label,attack"]
        for name, level in levels.items():
            wave = np.full(800, level, np.float32)
            soundfile.write(tmp_path / f"{name}.wav", wave, 16_000, subtype="FLOAT")
            attack = "-" if name.startswith("good") else f"A{name[-1]}"
            lines.append(f"{name}.wav,{'bonafide' if attack == '-' else 'spoof'},{attack}")
        (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
        return load_dataset("manifest", tmp_path, "all")

    return make


def test_evaluation_joins_scores_and_truth(
    dataset: Callable[..., Dataset], fake_engine: Any
) -> None:
    seen: list[Any] = []
    evaluation = evaluate(fake_engine(), dataset(), batch=2, on_file=seen.append)
    assert tuple(seen) == evaluation.files
    assert evaluation.failed == []
    rows = {row.utterance: row for row in evaluation.rows()}
    assert list(rows) == list(LEVELS)
    assert rows["bad2"].score == pytest.approx(3.5, abs=1e-5)
    assert (rows["bad2"].attack, rows["bad2"].label) == ("A2", "spoof")
    summary = metrics_of(evaluation)
    assert (summary.n_bonafide, summary.n_spoof) == (2, 3)
    assert list(summary.attacks) == ["A1", "A2", "A3"]
    assert summary.attacks["A1"].eer.eer == 0.0
    assert summary.attacks["A2"].eer.eer == 0.5
    assert summary.min_tdcf_2019 is None
    assert summary.polarity.message is None


def test_negated_scores_are_warned_of(dataset: Callable[..., Dataset], fake_engine: Any) -> None:
    summary = metrics_of(evaluate(fake_engine(sign=-1.0), dataset()))
    assert summary.polarity.reversed
    assert "look reversed" in str(summary.polarity.message)


def test_trials_that_fail_are_left_out_and_listed(
    dataset: Callable[..., Dataset], fake_engine: Any
) -> None:
    trials = dataset()
    trials.trials[1].path.write_text("no audio")
    engine = fake_engine()
    evaluation = evaluate(engine, trials)
    ((trial, file),) = evaluation.failed
    assert trial.utterance == "good2"
    assert file.error is not None
    assert len(evaluation.rows()) == len(evaluation.scored) == 4
    report = report_of(evaluation, metrics_of(evaluation), engine, "command")
    assert report["n_bonafide"] == 1
    assert [failure["utterance"] for failure in report["failures"]] == ["good2"]


def test_missing_audio_is_found_before_anything_is_scored(
    dataset: Callable[..., Dataset], fake_engine: Any
) -> None:
    trials = dataset()
    trials.trials[-1].path.unlink()
    engine = fake_engine()
    with pytest.raises(TrialsError, match="1 of 5 utterances"):
        evaluate(engine, trials)
    assert engine.batches == []


def test_one_class_alone_has_no_error_rate(
    dataset: Callable[..., Dataset], fake_engine: Any
) -> None:
    evaluation = evaluate(fake_engine(), dataset({"good1": 0.5, "good2": 0.3}))
    with pytest.raises(MetricError, match="spoof"):
        metrics_of(evaluation)


def test_nothing_scored_says_the_first_reason(
    dataset: Callable[..., Dataset], fake_engine: Any
) -> None:
    trials = dataset()
    for trial in trials.trials:
        trial.path.write_text("no audio")
    with pytest.raises(MetricError, match=r"None of the 5 trials could be scored.*good1\.wav"):
        metrics_of(evaluate(fake_engine(), trials))


def test_report_holds_the_stable_names_and_is_json(
    dataset: Callable[..., Dataset], fake_engine: Any, tmp_path: Path
) -> None:
    engine = fake_engine()
    evaluation = evaluate(engine, dataset())
    report = report_of(evaluation, metrics_of(evaluation), engine, "aasist-deploy eval")
    read = json.loads(json.dumps(report, allow_nan=False))
    assert {"eer_percent", "min_tdcf_2019", "n_bonafide", "n_spoof", "attacks"} <= set(read)
    assert read["schema"] == "aasist-deploy/report/1"
    assert read["command"] == "aasist-deploy eval"
    assert read["dataset"]["root"] == str(tmp_path)
    assert read["dataset"]["n_trials"] == 5
    assert read["backend"] == {"name": "fake", "device": "nothing", "details": {}}
    assert read["model"]["architecture"] == "Fake"
    assert read["timing"]["audio_seconds"] == pytest.approx(5 * 0.05)
    assert read["timing"]["trials_per_second"] > 0
    assert read["audio"] == {"n_second_decoder": 0, "n_resampled": 0, "n_tiled": 0, "n_cut": 0}
    assert "numpy" in read["environment"]


def test_root_is_the_folder_of_links_not_of_what_they_lead_to(
    dataset: Callable[..., Dataset], fake_engine: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trials = dataset()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for trial in trials.trials:
        there = trial.path.rename(elsewhere / trial.path.name)
        trial.path.symlink_to(there)
    assert root_in_report(trials, fake_engine()) == str(trials.protocol.parent)


def test_root_is_what_protocol_and_all_audio_share(
    dataset: Callable[..., Dataset],
    fake_engine: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trials = dataset()
    protocol = tmp_path / "protocols" / "p.txt"
    assert root_in_report(replace(trials, protocol=protocol), fake_engine()) == str(tmp_path)
    nowhere = replace(trials, protocol=Path("/elsewhere/p.txt"))
    assert root_in_report(nowhere, fake_engine()) is None
    monkeypatch.chdir(tmp_path)
    relative = tuple(replace(t, path=t.path.relative_to(tmp_path)) for t in trials.trials)
    named = replace(trials, trials=relative, protocol=Path("protocols/p.txt"))
    assert root_in_report(named, fake_engine()) == str(tmp_path)


def root_in_report(trials: Dataset, engine: Any) -> str | None:
    evaluation = evaluate(engine, trials)
    report = report_of(evaluation, metrics_of(evaluation), engine, "aasist-deploy eval")
    root: str | None = report["dataset"]["root"]
    return root
