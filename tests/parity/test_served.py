"""Published scores of real clips over HTTP, and the digits of `score`."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from aasist_deploy.cli import app
from tests.cli.serving_process import server_process

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("fastapi", reason="needs the extra serve")

ATOL = 1e-4  # as in test_published_scores.py
# ONNX Runtime computes other batches in another order: measured 9.6e-7 over six of these clips in
# batches of 2 to 6, two steps of float32 at their scores.
BATCH_ATOL = 4e-6
N_CLIPS = 3

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("backend", "runs"),
    [("onnx", [(1, 1, 0.0), (3, 8, BATCH_ATOL)]), ("openvino", [(3, 8, 0.0)])],
)
def test_clips_of_several_clients_get_the_published_scores_and_those_of_score(
    backend: str,
    runs: list[tuple[int, int, float]],  # batch, decode workers, largest difference
    shared: Path,
    exported: Callable[..., Path],
    tmp_path: Path,
) -> None:
    pytest.importorskip("openvino" if backend == "openvino" else "onnxruntime")
    root = shared / "data" / "LA_mini"
    folder = root / "ASVspoof2019_LA_eval" / "flac"
    clips = sorted(sorted(folder.glob("*.flac"), key=lambda p: p.stat().st_size)[:N_CLIPS])
    lines = (root / "published_scores.AASIST.eval.txt").read_text().splitlines()
    published = {line.split()[0]: float(line.split()[3]) for line in lines}

    options = ["--backend", backend, "--threads", "1"]
    output = tmp_path / "scores.csv"
    result: Any = CliRunner().invoke(
        app,
        ["score", str(exported()), *map(str, clips), "-o", str(output), "--batch", "1", *options],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    with output.open(newline="") as file:
        expected = {Path(row["path"]).stem: float(row["score"]) for row in csv.DictReader(file)}

    for batch, workers, atol in runs:
        given = ("--batch", batch, "--decode-workers", workers, *options)
        with (
            server_process(tmp_path, exported(), *given) as server,
            ThreadPoolExecutor(N_CLIPS) as pool,
        ):
            answers = list(pool.map(server.score, clips))
            assert server.end() == 0
        for clip, (status, answer) in zip(clips, answers, strict=True):
            assert status == 200, answer
            (row,) = answer["files"]
            assert row["file"] == clip.name
            assert abs(row["score"] - expected[clip.stem]) <= atol
            assert abs(row["score"] - published[clip.stem]) <= ATOL
