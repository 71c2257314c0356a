from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from aasist_deploy.cli import app
from aasist_deploy.errors import MetricError, ScoresError

if TYPE_CHECKING:
    from pathlib import Path

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


def test_metrics_prints_pooled_figures_and_each_attack(scores: Path, asv_scores: Path) -> None:
    result = run(scores, "--asv-scores", asv_scores)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert [row[0] for row in cells] == ["all", "A07", "A[8]"]
    assert cells[0][3:] == ["2", "3"]
    assert cells[2] == ["A[8]", "0.0000", "", "2", "1"]
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
    assert json.loads(result.stdout)["attacks"] == {"A07": {"eer_percent": 0.0, "n_spoof": 1}}
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
