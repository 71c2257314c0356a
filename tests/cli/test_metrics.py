from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from aasist_deploy.cli import app
from aasist_deploy.errors import MetricError, ScoresError, UsageError

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "metrics.schema.json"
SCORES = """\
u1 - bonafide 3.0
u2 - bonafide 1.0
u3 A07 spoof 2.0
u4 A07 spoof 0.0
u5 A[8] spoof -1.0
"""
ASV = """\
bonafide target 3
bonafide target 2
bonafide nontarget -1
A07 spoof 2.5
A07 spoof -2
"""


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "scores.txt"
    path.write_text(SCORES)
    return path


@pytest.fixture
def asv_scores(tmp_path: Path) -> Path:
    path = tmp_path / "asv.txt"
    path.write_text(ASV)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["metrics", *(os.fspath(argument) for argument in arguments)])


def cells_of(stdout: str) -> list[list[str]]:
    lines = [line for line in stdout.splitlines() if "│" in line]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_metrics_prints_pooled_figures_and_each_attack(scores: Path, asv_scores: Path) -> None:
    result = run(scores, "--asv-scores", asv_scores)
    assert result.exit_code == 0, result.output
    cells = cells_of(result.stdout)
    assert [row[0] for row in cells[:3]] == ["all", "A07", "A[8]"]
    assert cells[0][3:] == ["2", "3"]
    assert cells[2] == ["A[8]", "0.0000", "", "2", "1"]
    figures = {row[0]: row[1] for row in cells[3:] if row[0]}
    assert list(figures) == [
        "EER %", "AUC", "min t-DCF 2019", "min t-DCF 2021", "minDCF", "actDCF", "Cllr, bits",
        "minCllr, bits",
    ]  # fmt: skip
    assert figures["AUC"] == "0.833333"
    assert "scores.txt, corrected" in result.stdout
    assert result.stderr == ""


def test_metrics_without_asv_scores_says_so_in_the_table(scores: Path) -> None:
    assert "no ASV scores" in run(scores).stdout


def test_metrics_as_json_is_one_object_with_the_summary(scores: Path, asv_scores: Path) -> None:
    result = run(scores, "--asv-scores", asv_scores, "--compat", "official", "--json")
    parsed = json.loads(result.stdout)
    assert parsed["scores"] == os.fspath(scores)
    assert (parsed["compat"], parsed["negated"], parsed["n_spoof"]) == ("official", False, 3)
    assert parsed["asv"]["pmiss_spoof"] == 0.5


def test_reversed_scores_are_warned_of_on_stderr_alone(tmp_path: Path) -> None:
    path = tmp_path / "reversed.txt"
    path.write_text("u1 bonafide 0\nu2 spoof 1\nu3 spoof 2\n")
    result = run(path, "--json")
    assert json.loads(result.stdout)["eer_percent"] == 100.0
    assert "look reversed" in result.stderr
    assert "Pass --negate" in result.stderr


def test_negate_is_said_in_the_output(tmp_path: Path) -> None:
    path = tmp_path / "reversed.txt"
    path.write_text("u1 bonafide 0\nu2 spoof 1\nu3 spoof 2\n")
    result = run(path, "--negate")
    assert "scores negated" in result.stdout
    assert "0.0000" in result.stdout
    assert result.stderr == ""
    assert json.loads(run(path, "--negate", "--json").stdout)["negated"] is True


def test_protocol_gives_the_truth_that_two_columns_lack(tmp_path: Path) -> None:
    path, protocol = tmp_path / "scores.txt", tmp_path / "protocol.txt"
    path.write_text("u1 1.0\nu2 0.0\n")
    protocol.write_text("s u1 - - bonafide\ns u2 - A07 spoof\n")
    result = run(path, "--protocol", protocol, "--json")
    assert json.loads(result.stdout)["attacks"] == {
        "A07": {"eer_percent": 0.0, "n_spoof": 1, "confidence": None}
    }
    assert isinstance(run(path).exception, MetricError)


def test_file_that_is_no_score_file_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes on the matter\n")
    assert isinstance(run(path).exception, ScoresError)


def test_score_file_must_exist(tmp_path: Path) -> None:
    assert run(tmp_path / "none.txt").exit_code == 2


def test_unknown_compat_is_wrong_usage(scores: Path) -> None:
    assert run(scores, "--compat", "2019").exit_code == 2


def test_help_shows_an_example() -> None:
    assert "aasist-deploy metrics scores.txt" in run("--help").stdout


def test_bootstrap_shows_intervals_in_table_and_json(scores: Path, asv_scores: Path) -> None:
    options = ("--asv-scores", asv_scores, "--bootstrap", "20", "--seed", "4")
    shown = run(scores, *options).stdout
    assert "95% interval" in shown
    parsed = json.loads(run(scores, *options, "--json").stdout)["confidence"]
    assert (parsed["n_bootstrap"], parsed["seed"], parsed["unit"]) == (20, 4, "utterance")
    assert parsed["eer_percent"][0] <= parsed["eer_percent"][1]
    assert json.loads(run(scores, "--json").stdout)["confidence"] is None


PROTOCOL = """\
s1 u1 - - bonafide
s2 u2 - - bonafide
s1 u3 - A07 spoof
s2 u4 - A07 spoof
s3 u5 - A[8] spoof
"""


def test_resampling_by_speaker_takes_them_from_the_protocol(scores: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "protocol.txt"
    protocol.write_text(PROTOCOL)
    options = ("--bootstrap", "10", "--by", "speaker")
    parsed = json.loads(run(scores, *options, "--protocol", protocol, "--json").stdout)
    assert parsed["confidence"]["unit"] == "speaker"
    refused = run(scores, *options).exception
    assert isinstance(refused, MetricError)
    assert "--protocol" in str(refused.fix)


def test_compare_pairs_two_systems(scores: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("\n".join(reversed(SCORES.splitlines())))
    parsed = json.loads(run(scores, "--compare", other, "--json").stdout)["comparison"]
    assert parsed["second"] == os.fspath(other)
    assert (parsed["n_bootstrap"], parsed["eer_percent"]["difference"]) == (1000, 0)
    assert (parsed["eer_percent"]["p"], parsed["mcnemar"]["p"]) == (1, 1)
    assert "right alone (McNemar)" in " ".join(run(scores, "--compare", other).stdout.split())


def test_json_with_everything_in_it_is_what_the_schema_says(
    scores: Path, asv_scores: Path, tmp_path: Path
) -> None:
    protocol = tmp_path / "trial_metadata.txt"
    protocol.write_text(METADATA_2021.replace("A08", "A[8]"))
    plain = ("--json",)
    full = (
        "--json", "--protocol", protocol, "--asv-scores", asv_scores, "--bootstrap", "5",
        "--compare", scores,
    )  # fmt: skip
    for options in (plain, full, ("--json", "--fixed-asv")):
        parsed = json.loads(run(scores, *options).stdout)
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(parsed)
    assert {"comparison", "conditions"} <= json.loads(run(scores, *full).stdout).keys()


def test_compare_refuses_other_trials_with_counts(scores: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(SCORES.replace("u5", "u6"))
    error = run(scores, "--compare", other).exception
    assert isinstance(error, MetricError)
    assert "of 5 trials of the first 1 are not among the 5 of the second" in str(error)


def test_fixed_asv_rates_give_both_forms_of_the_tdcf(scores: Path) -> None:
    parsed = json.loads(run(scores, "--fixed-asv", "--json").stdout)
    assert parsed["asv_fixed_rates"]["pfa_spoof"] == 0.4607082907604729
    assert parsed["min_tdcf_2021_costs"].keys() == {"c0", "c1", "c2"}
    assert parsed["min_tdcf_2019"] < parsed["min_tdcf_2021"]


def test_options_that_contradict_each_other_are_wrong_usage(scores: Path, asv_scores: Path) -> None:
    for options in (
        ("--fixed-asv", "--asv-scores", asv_scores),
        ("--asv-key", asv_scores),
        ("--sasv-key", asv_scores, "--bootstrap", "5"),
        ("--subset", "eval"),
    ):
        error = run(scores, *options).exception
        assert isinstance(error, UsageError), options


def test_uncalibrated_scores_are_not_called_ratios(scores: Path) -> None:
    assert "if scores were LLRs" in " ".join(run(scores).stdout.split())
    assert json.loads(run(scores, "--json").stdout)["calibration_note"]
    assert json.loads(run(scores, "--llr", "--json").stdout)["calibration_note"] is None


# speaker trial codec transmission attack key trim subset (ASVspoof 2021 LA)
METADATA_2021 = """\
s1 u1 none mad1tx_wan bonafide bonafide notrim eval
s2 u2 ulaw mad1tx_wan bonafide bonafide notrim eval
s1 u3 none mad1tx_wan A07 spoof notrim eval
s2 u4 ulaw mad1tx_wan A07 spoof notrim eval
s3 u5 ulaw mad1tx_wan A08 spoof notrim progress
"""


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    path = tmp_path / "trial_metadata.txt"
    path.write_text(METADATA_2021)
    return path


@pytest.fixture
def two_columns(tmp_path: Path) -> Path:
    path = tmp_path / "two.txt"
    path.write_text("u1 3\nu2 1\nu3 2\nu4 0\nu5 -1\n")
    return path


def test_conditions_of_the_key_are_broken_down(two_columns: Path, metadata: Path) -> None:
    parsed = json.loads(run(two_columns, "--protocol", metadata, "--json").stdout)
    assert parsed["conditions"]["codec"]["none"] == {
        "eer_percent": 0.0, "n_bonafide": 1, "n_spoof": 1, "confidence": None, "note": None,
    }  # fmt: skip
    assert "ulaw" in run(two_columns, "--protocol", metadata).stdout


def test_subset_keeps_its_trials_alone(two_columns: Path, metadata: Path) -> None:
    options = ("--protocol", metadata, "--subset")
    parsed = json.loads(run(two_columns, *options, "eval", "--json").stdout)
    assert (parsed["n_bonafide"], parsed["n_spoof"]) == (2, 2)
    assert list(parsed["attacks"]) == ["A07"]
    error = run(two_columns, *options, "hidden").exception
    assert isinstance(error, UsageError)
    assert "eval, progress" in str(error)


def test_missing_trials_are_refused_or_left_out_and_told(two_columns: Path, metadata: Path) -> None:
    two_columns.write_text("u1 3\nu2 1\nu3 2\nu4 0\nu9 0.5\n")
    assert isinstance(run(two_columns, "--protocol", metadata).exception, ScoresError)
    result = run(two_columns, "--protocol", metadata, "--allow-missing", "--json")
    assert json.loads(result.stdout)["n_spoof"] == 2
    assert "1 trials of the protocol have no score and 1 scored ones" in result.stderr


SASV_KEY = """\
spk filename cm-label asv-label
s1 u1 bonafide target
s2 u1 bonafide nontarget
s1 u2 spoof spoof
"""
SASV_SCORES = """\
spk filename cm-score asv-score sasv-score
s1 u1 2 1 3
s2 u1 2 -1 1
s1 u2 -2 0.5 -1.5
"""


def test_track_2_is_read_with_its_key(tmp_path: Path) -> None:
    key, scores = tmp_path / "key.tsv", tmp_path / "scores.tsv"
    key.write_text(SASV_KEY.replace(" ", "\t"))
    scores.write_text(SASV_SCORES.replace(" ", "\t"))
    parsed = json.loads(run(scores, "--sasv-key", key, "--json").stdout)
    assert (parsed["n_target"], parsed["n_nontarget"], parsed["n_spoof"]) == (1, 1, 1)
    assert (parsed["min_a_dcf"], parsed["t_eer_percent"]) == (0, 0)
    shown = run(scores, "--sasv-key", key).stdout
    assert [row[0] for row in cells_of(shown)][:3] == ["a-DCF", "min t-DCF 2021", "t-EER %"]
