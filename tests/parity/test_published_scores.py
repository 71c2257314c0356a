"""`eval` of real ASVspoof 2019 clips against the published scores of the same weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from aasist_deploy.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The AASIST file agrees with the published code to 4.3e-6; the AASIST-L file was probably made on a
# GPU and agrees to 3.6e-3 (../shared/data/README.md).
ATOL = {"AASIST": 1e-4, "AASIST-L": 4e-3}

pytestmark = pytest.mark.slow


def scores_of(path: Path) -> dict[str, tuple[str, str, float]]:
    rows = [line.split() for line in path.read_text().splitlines()]
    assert all(len(row) == 4 for row in rows)
    return {row[0]: (row[1], row[2], float(row[3])) for row in rows}


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("AASIST", "onnx"),
        ("AASIST-L", "onnx"),
        pytest.param("AASIST", "torch", marks=pytest.mark.long),  # test_eager_golden.py is quick
    ],
)
def test_every_score_of_the_evaluation_clips_is_the_published_one(
    name: str,
    backend: str,
    shared: Path,
    exported: Callable[..., Path],
    published_checkpoint: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    model = exported(name) if backend == "onnx" else published_checkpoint(name)
    root = shared / "data" / "LA_mini"
    arguments = [
        *("eval", str(model), "--dataset", "asvspoof2019-la", "--root", str(root)),
        *("--split", "eval", "--backend", backend, "--out", str(tmp_path)),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    got = scores_of(tmp_path / "scores.txt")
    published = scores_of(root / f"published_scores.{name}.eval.txt")
    assert set(got) == set(published)
    assert len(got) == 29
    for utterance, (attack, key, score) in published.items():
        assert got[utterance][:2] == (attack, key)
        assert abs(got[utterance][2] - score) <= ATOL[name], utterance
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert report["n_bonafide"] + report["n_spoof"] == 29
    assert report["eer_percent"] == 0.0  # these clips are separated without error
    assert report["min_tdcf_2019"] == 0.0
    assert report["polarity"]["reversed"] is False
    assert report["backend"]["name"] == backend
    assert set(report["attacks"]) <= {f"A{number:02d}" for number in range(7, 20)}
    assert (tmp_path / "report.html").stat().st_size > 10_000
