"""The published scores of real clips come out whichever way the clips and the rows go."""

from __future__ import annotations

import csv
import io
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from aasist_deploy.cli import app
from aasist_deploy.journal import journal_of

if TYPE_CHECKING:
    from collections.abc import Callable

ATOL = 1e-4  # as in test_published_scores.py
N_CLIPS = 3
BATCH = "1"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clips(shared: Path) -> list[Path]:
    folder = shared / "data" / "LA_mini" / "ASVspoof2019_LA_eval" / "flac"
    return sorted(sorted(folder.glob("*.flac"), key=lambda p: p.stat().st_size)[:N_CLIPS])


@pytest.fixture(scope="module")
def published(shared: Path) -> dict[str, float]:
    path = shared / "data" / "LA_mini" / "published_scores.AASIST.eval.txt"
    rows = [line.split() for line in path.read_text().splitlines()]
    return {row[0]: float(row[3]) for row in rows}


def tar_of(clips: list[Path], folder: Path) -> list[str]:
    with tarfile.open(folder / "x.tar", "w") as archive:
        for clip in clips:
            archive.add(clip, clip.name)
            text = tarfile.TarInfo(f"{clip.stem}.json")  # as in a WebDataset
            text.size = 2
            archive.addfile(text, io.BytesIO(b"{}"))
    return [str(folder / "x.tar")]


def parquet_of(clips: list[Path], folder: Path) -> list[str]:
    pa = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    import pyarrow.parquet as pq

    audio = [{"bytes": clip.read_bytes(), "path": clip.name} for clip in clips]
    pq.write_table(pa.table({"audio": audio}), folder / "x.parquet")
    return [str(folder / "x.parquet")]


def protocol_of(clips: list[Path], folder: Path) -> list[str]:
    lines = [f"LA_0001 {clip.stem} - A07 spoof\n" for clip in clips]
    (folder / "protocol.txt").write_text("".join(lines))
    return [str(folder / "protocol.txt")]


def test_every_route_gives_the_published_scores_and_the_same_digits(
    clips: list[Path],
    published: dict[str, float],
    exported: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aasist_deploy.journal._writing.SYNC_EVERY_S", 0.0)
    files = [str(clip) for clip in clips]

    def score(name: str, inputs: list[str], *options: str) -> Path:
        output = tmp_path / f"{name}.csv"
        run("score", str(exported()), *inputs, "-o", str(output), "--batch", BATCH, *options)
        return output

    def run(*arguments: str) -> None:
        given = (
            [*arguments]
            if arguments[0] == "merge"
            else [*arguments, "--backend", "onnx", "--threads", "1"]
        )
        result: Any = CliRunner().invoke(app, given, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    routes = {
        "local": score("local", files, "--decode-workers", "1"),
        "8 threads": score("threads", files, "--decode-workers", "8", "--decode-in", "threads"),
        "8 processes": score(
            "processes", files, "--decode-workers", "8", "--decode-in", "processes"
        ),
        "tar": score("tar", tar_of(clips, tmp_path)),
        "parquet": score("parquet", parquet_of(clips, tmp_path)),
        "protocol": score("protocol", protocol_of(clips, tmp_path), "--root", str(clips[0].parent)),
    }
    if find_spec("fsspec"):
        routes["addresses"] = score("addresses", [f"file://{clip}" for clip in clips])
    parts = [score(f"part{i}", files, "--shard", f"{i}/2") for i in (1, 2)]
    run("merge", *map(str, parts), "-o", str(tmp_path / "merged.csv"))
    routes["merged"] = tmp_path / "merged.csv"
    # As a kill after the second batch leaves it: later lines of the journal were never written.
    cut = score("resumed", files)
    lines = journal_of(cut).read_bytes().splitlines(keepends=True)
    journal_of(cut).write_bytes(b"".join(lines[:4]))
    routes["resumed"] = score("resumed", files, "--resume")

    expected = None
    for name, path in routes.items():
        with path.open(newline="") as file:
            rows = [(Path(row["path"]).stem, row["score"]) for row in csv.DictReader(file)]
        expected = expected or rows
        assert rows == expected, name  # also the digits
        for utterance, score_ in rows:
            assert abs(float(score_) - published[utterance]) <= ATOL, (name, utterance)
    assert [utterance for utterance, _ in rows] == [clip.stem for clip in clips]
    assert routes["resumed"].read_bytes() == routes["local"].read_bytes()


def test_ray_gives_the_published_scores_in_the_bytes_of_a_local_run(
    clips: list[Path],
    published: dict[str, float],
    exported: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    pytest.importorskip("pandas", reason="needs the extra ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would leave a token in the user's folder
    given = ["score", str(exported()), *map(str, clips), "--backend", "onnx", "--threads", "1"]

    def score(name: str, *options: str) -> bytes:
        output = tmp_path / f"{name}.csv"
        result: Any = CliRunner().invoke(
            app, [*given, "-o", str(output), "--batch", BATCH, *options], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        return output.read_bytes()

    for workers in ("1", "8"):
        score(f"ray-{workers}", "--engine", "ray", "--decode-workers", workers)
    local = score("local")
    for workers in ("1", "8"):
        assert (tmp_path / f"ray-{workers}.csv").read_bytes() == local
    rows = list(csv.DictReader(io.StringIO(local.decode(), newline="")))
    assert len(rows) == N_CLIPS
    for row in rows:
        assert abs(float(row["score"]) - published[Path(row["path"]).stem]) <= ATOL
