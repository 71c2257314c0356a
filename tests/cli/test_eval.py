from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = {"scores.txt", "report.json", "report.html", "rows.jsonl", "rows.jsonl.journal"}


def configured(folder: Path, text: str) -> None:
    (folder / "aasist-deploy.toml").write_text(text)


@pytest.fixture
def evaluate(
    cli: Any, fake_model: Callable[..., Path], manifest: Path, tmp_path: Path
) -> Callable[..., Any]:
    """Options -> the outcome of eval on the manifest; results go to `results`."""

    def run(*options: Any, **engine: Any) -> Any:
        return cli(
            *("eval", fake_model(**engine), "--dataset", "manifest", "--root", manifest),
            *("--out", tmp_path / "results", *options),
        )

    return run


def test_scores_report_and_page_are_written(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    result = evaluate()
    assert result.code == 0, result.err
    folder = tmp_path / "results"
    assert {path.name for path in folder.iterdir()} == FILES
    lines = [line.split() for line in (folder / "scores.txt").read_text().splitlines()]
    assert [line[:3] for line in lines] == [
        ["good1", "-", "bonafide"],
        ["good2", "-", "bonafide"],
        ["bad1", "A1", "spoof"],
        ["bad2", "A2", "spoof"],
        ["bad3", "A3", "spoof"],
    ]
    assert float(lines[0][3]) == pytest.approx(5.0, abs=1e-5)
    report = json.loads((folder / "report.json").read_text())
    assert {"eer_percent", "min_tdcf_2019", "n_bonafide", "n_spoof", "attacks"} <= set(report)
    assert (report["n_bonafide"], report["n_spoof"]) == (2, 3)
    assert set(report["attacks"]) == {"A1", "A2", "A3"}
    assert report["command"].startswith("aasist-deploy eval ")
    page = (folder / "report.html").read_text()
    assert "<svg" in page
    assert "A2" in page
    assert "report.html" in result.out


def test_json_on_stdout_is_the_report(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    result = evaluate("--json")
    assert json.loads(result.out) == json.loads((tmp_path / "results" / "report.json").read_text())


def test_reversed_scores_are_warned_of(evaluate: Callable[..., Any]) -> None:
    result = evaluate(sign=-1.0)
    assert result.code == 0
    assert "warning: The scores look reversed" in result.err


def test_trials_that_fail_end_with_one(
    evaluate: Callable[..., Any], manifest: Path, tmp_path: Path
) -> None:
    (manifest / "bad3.wav").write_text("no audio")
    result = evaluate()
    assert result.code == 1
    assert "error: bad3: " in result.err
    assert "1 of 5 trials could not be scored; the figures are without them." in result.err
    report = json.loads((tmp_path / "results" / "report.json").read_text())
    assert [failure["utterance"] for failure in report["failures"]] == ["bad3"]
    assert len((tmp_path / "results" / "scores.txt").read_text().splitlines()) == 4


def test_one_class_is_one_message_and_the_scores_stay(
    evaluate: Callable[..., Any], manifest: Path, tmp_path: Path
) -> None:
    (manifest / "manifest.csv").write_text("path,label\ngood1.wav,bonafide\n")
    result = evaluate()
    assert result.code == 2
    assert result.err.count("error:") == 1
    assert "spoof" in result.err
    assert (tmp_path / "results" / "scores.txt").read_text().startswith("good1 - bonafide 5.")


@pytest.mark.parametrize("folder", ["results", "[/x] results"])
def test_interrupted_run_keeps_what_was_scored_and_goes_on_to_the_same_scores(
    folder: str,
    cli: Any,
    fake_model: Callable[..., Path],
    manifest: Path,
    tmp_path: Path,
) -> None:
    (manifest / "good2.wav").write_text("no audio")
    out = tmp_path / folder
    dataset = ("--dataset", "manifest", "--root", manifest, "--batch", "1", "--bootstrap", "0")

    def run(out: Path, *options: Any, **engine: Any) -> Any:
        return cli("eval", fake_model(**engine), *dataset, "--out", out, *options)

    assert run(tmp_path / "whole").code == 1
    result = run(out, fail_at=2, error=KeyboardInterrupt())
    assert result.code == 130
    rows = out / "rows.jsonl"
    assert f"stopped: {rows} holds 3 rows; the same command with --resume goes on" in result.err
    assert not (out / "scores.txt").exists()
    refused = run(out)
    assert refused.code == 2
    assert "3 rows of a run that was stopped" in refused.err
    again = run(out, "--resume")
    assert again.code == 1  # good2 is named again
    assert "resumed: 3 trials are scored already" in again.err
    assert "error: good2: " in again.err
    for name in ("scores.txt", "rows.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    reports = [json.loads((f / "report.json").read_text()) for f in (out, tmp_path / "whole")]
    assert [report["timing"]["n_resumed"] for report in reports] == [3, 0]
    for key in ("eer_percent", "failures", "audio", "dataset", "model", "n_bonafide", "attacks"):
        assert reports[0][key] == reports[1][key], key


@pytest.mark.parametrize(
    "row",
    [b"{}\n", b"[]\n", b"{\n", b'{"score": NaN}\n', b"9" * 5_000 + b"\n", b"[" * 100_000 + b"\n"],
)
def test_rows_that_somebody_wrote_with_their_journal_are_one_error(
    row: bytes, evaluate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as forged:
        forged.setattr("aasist_deploy.pipeline.trial_rows._line", lambda *_: row)
        evaluate("--batch", "1", fail_at=2, error=KeyboardInterrupt())
    result = evaluate("--resume", "--batch", "1")
    assert result.code == 2
    assert "rows.jsonl:1 is no row of an evaluation: " in result.err


@pytest.mark.parametrize(("name", "value"), [("score", "high"), ("error", 3), ("tiled", None)])
def test_rows_with_values_of_another_type_are_one_error(
    name: str,
    value: Any,
    evaluate: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aasist_deploy.pipeline import trial_rows

    line = trial_rows._line
    with monkeypatch.context() as forged:
        forged.setattr(
            trial_rows,
            "_line",
            lambda *given: json.dumps({**json.loads(line(*given)), name: value}).encode() + b"\n",
        )
        evaluate("--batch", "1", fail_at=2, error=KeyboardInterrupt())
    result = evaluate("--resume", "--batch", "1")
    assert result.code == 2
    assert "rows.jsonl:1 is no row of an evaluation: " in result.err


def test_finished_run_is_reported_again_without_scoring(
    cli: Any, evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    assert evaluate().code == 0
    assert cli("metrics", tmp_path / "results" / "rows.jsonl").code == 0  # a score file too
    scores = (tmp_path / "results" / "scores.txt").read_bytes()
    (tmp_path / "results" / "scores.txt").unlink()
    again = evaluate("--resume", fail_at=0)
    assert again.code == 0, again.err
    assert "resumed: 5 trials" in again.err
    assert (tmp_path / "results" / "scores.txt").read_bytes() == scores


@pytest.mark.parametrize("changed", ["batch", "model", "trials", "audio"])
def test_run_is_not_resumed_with_another_model_option_or_trial(
    changed: str, evaluate: Callable[..., Any], manifest: Path, tmp_path: Path
) -> None:
    assert evaluate("--batch", "1", fail_at=3, error=KeyboardInterrupt()).code == 130
    batch, engine = "1", {}
    if changed == "batch":
        batch = "2"
    elif changed == "model":
        engine = {"checkpoint_sha256": "1" * 64}
    elif changed == "trials":
        lines = (manifest / "manifest.csv").read_text().replace("spoof,A3", "spoof,A9")
        (manifest / "manifest.csv").write_text(lines)
    else:
        (manifest / "good1.wav").write_bytes((manifest / "good1.wav").read_bytes() + b"\0")
    result = evaluate("--resume", "--batch", batch, **engine)
    assert result.code == 2
    says = {"batch": "batch: 1 then, 2 now", "model": "checkpoint", "trials": "trials: '"}
    assert says.get(changed, "some have changed since") in result.err
    assert not (tmp_path / "results" / "scores.txt").exists()


def test_configured_project_needs_one_option_only(
    cli: Any,
    fake_model: Callable[..., Path],
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_model()
    text = 'model = "fake.onnx"\ndataset = "manifest"\nroot = "data"\nout = "out"\nbatch = 2\n'
    configured(tmp_path, text)
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert manifest.is_dir()
    assert cli("eval", "--backend", "onnx").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert cli("eval", "--backend", "onnx", "--out", tmp_path / "other").code == 0
    assert (tmp_path / "other" / "scores.txt").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "MODEL is missing, and no aasist-deploy.toml here or above says it."),
        ('model = "fake.onnx"', "--dataset is missing"),
        ('model = "fake.onnx"\ndataset = "manifest"', "--root is missing"),
        ('model = "fake.onnx"\nbackends = "onnx"', "unknown key 'backends'"),
        (
            'model = "fake.onnx"\ndataset = "manifest"\nroot = "data"\ncompat = "exact"',
            "compat is 'exact'; it must be corrected or official",
        ),
        (
            'model = "fake.onnx"\ndataset = "asvspoof2042"\nroot = "data"',
            "There is no dataset 'asvspoof2042'",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_said_at_once(
    text: str,
    message: str,
    cli: Any,
    fake_model: Callable[..., Path],
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_model()
    assert manifest.is_dir()
    configured(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    result = cli("eval")
    assert result.code == 2
    assert message in result.err
    assert "Fix: " in result.err or "compat" in message


def test_output_folder_is_tried_before_anything_is_scored(
    cli: Any, fake_model: Callable[..., Path], manifest: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    model = fake_model(fail_at=0, error=AssertionError("scored"))
    for out in (tmp_path / "file" / "results", Path("/proc/none/results")):
        result = cli("eval", model, "--dataset", "manifest", "--root", manifest, "--out", out)
        assert result.code == 2
        assert f"The folder {out} cannot be written" in result.err


def test_utterance_missing_on_disk_is_found_before_anything_is_scored(
    cli: Any, fake_model: Callable[..., Path], manifest: Path, tmp_path: Path
) -> None:
    (manifest / "bad2.wav").unlink()
    model = fake_model(fail_at=0, error=AssertionError("scored"))
    out = tmp_path / "results"
    result = cli("eval", model, "--dataset", "manifest", "--root", manifest, "--out", out)
    assert result.code == 2
    assert "1 of 5 utterances" in result.err
    assert "bad2.wav" in result.err
    assert not out.exists()


def test_official_arithmetic_can_be_asked_for(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    assert evaluate("--compat", "official").code == 0
    report = json.loads((tmp_path / "results" / "report.json").read_text())
    assert report["compat"] == "official"


def test_both_forms_of_the_cost_and_all_metrics_are_printed(evaluate: Callable[..., Any]) -> None:
    out = evaluate().out
    for name in ("min t-DCF 2019", "min t-DCF 2021", "minDCF", "actDCF", "Cllr, bits", "AUC"):
        assert f"│ {name} " in out


def test_interval_that_says_nothing_is_not_given(evaluate: Callable[..., Any]) -> None:
    out = evaluate().out  # the fake engine makes no error
    assert "0.0000 to 0.0000" not in out
    assert "n/a: all replicates are alike" in out
    assert "n/a" not in evaluate("--bootstrap", "0").out


def test_speakers_that_are_not_known_are_missed_before_anything_is_scored(
    evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    result = evaluate("--by", "speaker")
    assert result.code == 2
    assert "--by speaker needs the speaker of each trial" in result.err
    assert not (tmp_path / "results").exists()
