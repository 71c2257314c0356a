from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from aasist_deploy.cli import app
from aasist_deploy.errors import AasistDeployError, ScoresError, TrialsError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOL = "D_0062 D_02 F - - - AC1 A11 spoof -\nD_0106 D_01 M - - - - bonafide bonafide -\n"


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text("path,score,error,seconds\nflac_D/D_01.flac,0.1,,1\nflac_D/D_02.flac,-2.5,,1\n")
    return path


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    path = tmp_path / "ASVspoof5.dev.track_1.tsv"
    path.write_text(PROTOCOL)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["convert", *(os.fspath(argument) for argument in arguments)])


def test_submission_is_written_in_the_order_of_the_protocol(
    scores: Path, protocol: Path, tmp_path: Path
) -> None:
    out = tmp_path / "score.tsv"
    result = run(scores, "-o", out, "--to", "asvspoof5-t1", "--protocol", protocol)
    assert result.exit_code == 0, result.output
    assert out.read_text() == "filename\tcm-score\nD_02\t-2.5\nD_01\t0.1\n"
    assert result.stdout == f"2 scores: {out} (asvspoof5-t1)\n"


TRACK_2_KEY = "spk\tfilename\tcm-label\tasv-label\nA\tD_1\tbonafide\ttarget\nB\tD_1\tspoof\tspoof\n"
TRACK_2_HEADER = "spk\tfilename\tcm-score\tasv-score\tsasv-score\n"


def test_track_2_submission_is_written_in_the_order_of_the_key(tmp_path: Path) -> None:
    key, given, out = tmp_path / "key.tsv", tmp_path / "given.tsv", tmp_path / "score.tsv"
    key.write_text(TRACK_2_KEY)
    given.write_text(TRACK_2_HEADER + "B\tD_1\t-\t-\t-0.1\nA\tD_1\t-\t-\t0.25\n")
    result = run(given, "-o", out, "--to", "asvspoof5-t2", "--protocol", key)
    assert result.exit_code == 0, result.output
    assert out.read_text() == TRACK_2_HEADER + "A\tD_1\t-\t-\t0.25\nB\tD_1\t-\t-\t-0.1\n"


def test_track_2_submission_that_lacks_a_pair_is_refused(tmp_path: Path) -> None:
    key, given, out = tmp_path / "key.tsv", tmp_path / "given.tsv", tmp_path / "score.tsv"
    key.write_text(TRACK_2_KEY)
    given.write_text(TRACK_2_HEADER + "A\tD_1\t-\t-\t0.25\n")
    result = run(given, "-o", out, "--to", "asvspoof5-t2", "--protocol", key)
    assert isinstance(result.exception, ScoresError)
    assert "1 have no score" in str(result.exception)
    assert not out.exists()


def test_track_2_submission_needs_the_protocol(scores: Path, tmp_path: Path) -> None:
    result = run(scores, "-o", tmp_path / "score.tsv", "--to", "asvspoof5-t2")
    assert isinstance(result.exception, UsageError)
    assert "no protocol" in str(result.exception)


def test_json_says_what_was_written(scores: Path, protocol: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.txt"
    result = run(scores, "-o", out, "--to", "2019", "--protocol", protocol, "--json")
    assert json.loads(result.stdout) == {
        "output": str(out),
        "layout": "2019",
        "n_scores": 2,
        "has_truth": True,
    }
    assert out.read_text() == "D_02 A11 spoof -2.5\nD_01 - bonafide 0.1\n"


@pytest.mark.parametrize(
    ("to", "message"),
    [("asvspoof5-t1", "no protocol is given"), ("2019", "the truth of these 2 scores")],
)
def test_layout_that_needs_the_protocol_says_so(
    scores: Path, tmp_path: Path, to: str, message: str
) -> None:
    result = run(scores, "-o", tmp_path / "out", "--to", to)
    assert isinstance(result.exception, ScoresError)
    assert message in str(result.exception)
    assert "--protocol" in str(result.exception.fix)
    assert AasistDeployError.exit_code == result.exception.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_trial_without_a_score_is_refused(scores: Path, protocol: Path, tmp_path: Path) -> None:
    protocol.write_text(PROTOCOL + "D_0106 D_03 M - - - - bonafide bonafide -\n")
    result = run(scores, "-o", tmp_path / "out", "--to", "asvspoof5-t1", "--protocol", protocol)
    assert isinstance(result.exception, ScoresError)
    assert "of 3 in the protocol 1 have no score ('D_03')" in str(result.exception)


def test_protocol_that_is_none_is_refused(scores: Path, tmp_path: Path) -> None:
    result = run(scores, "-o", tmp_path / "out", "--to", "2019", "--protocol", scores)
    assert isinstance(result.exception, TrialsError)
    assert "no known key is like that" in str(result.exception)


def test_unknown_layout_is_wrong_usage(scores: Path, tmp_path: Path) -> None:
    result = run(scores, "-o", tmp_path / "out", "--to", "2020")
    assert result.exit_code == 2
    assert "asvspoof5-t1" in result.stderr


def test_input_is_not_written_over(scores: Path, protocol: Path) -> None:
    before = scores.read_text()
    for place in (scores, protocol):
        result = run(scores, "-o", place, "--to", "2021", "--protocol", protocol)
        assert isinstance(result.exception, UsageError)
    assert (scores.read_text(), protocol.read_text()) == (before, PROTOCOL)
