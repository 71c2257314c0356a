from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = ["path", "score", "error", "seconds", "window"]


@pytest.fixture
def folder(clip: Callable[..., Path], tmp_path: Path) -> Path:
    for index, name in enumerate(("a.wav", "b, c.wav", "sub/d.flac")):
        clip(f"clips/{name}", (index + 1) / 10)
    (tmp_path / "clips" / "broken.wav").write_text("no audio")
    return tmp_path / "clips"


def test_folder_is_scored_to_csv_on_stdout(
    cli: Any, fake_model: Callable[..., Path], folder: Path
) -> None:
    result = cli("score", fake_model(), folder)
    assert result.code == 1  # one file is broken
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert list(rows[0]) == COLUMNS
    assert [Path(row["path"]).name for row in rows] == ["a.wav", "b, c.wav", "broken.wav", "d.flac"]
    assert [float(row["score"] or "nan") for row in rows if row["score"]] == pytest.approx(
        [1.0, 2.0, 3.0], abs=1e-5
    )
    assert rows[2]["score"] == ""
    assert "broken.wav cannot be decoded" in rows[2]["error"]
    assert "1 of 4 files could not be scored." in result.err
    assert "window: the first 800 samples" in result.err


def test_all_good_ends_with_zero(cli: Any, fake_model: Callable[..., Path], folder: Path) -> None:
    result = cli("score", fake_model(), folder / "a.wav")
    assert result.code == 0
    assert "could not be scored" not in result.err


def test_jsonl_rows_have_the_stable_keys(
    cli: Any, fake_model: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "x.jsonl"
    assert cli("score", fake_model(), folder, "-o", target).code == 1
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert all(list(row) == COLUMNS for row in rows)
    assert rows[2]["score"] is None
    assert rows[2]["seconds"] is None
    assert rows[0]["error"] is None
    assert rows[0]["seconds"] == 0.05
    assert rows[0]["score"] == pytest.approx(1.0, abs=1e-5)


def test_text_and_parquet_by_suffix(
    cli: Any, fake_model: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    text, parquet = tmp_path / "x.txt", tmp_path / "x.parquet"
    assert cli("score", fake_model(), folder / "a.wav", "-o", text).code == 0
    assert text.read_text().split()[0] == "a"
    assert cli("score", fake_model(), folder, "-o", parquet).code == 1
    rows = pq.read_table(parquet).to_pylist()
    assert len(rows) == 4
    assert list(rows[0]) == COLUMNS
    assert rows[2]["score"] is None


def test_files_patterns_lists_and_stdin_name_inputs(
    cli: Any,
    fake_model: Callable[..., Path],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = fake_model()
    listed = tmp_path / "list.txt"
    listed.write_text(f"{folder / 'a.wav'}\n\n# comment\n{folder / 'none.wav'}\n")
    result = cli("score", model, str(folder / "sub" / "*.flac"), listed)
    names = [Path(row["path"]).name for row in csv.DictReader(io.StringIO(result.out))]
    assert names == ["d.flac", "a.wav", "none.wav"]
    assert result.code == 1
    assert "none.wav does not exist" in result.err

    class Stdin:
        buffer = io.BytesIO(os.fsencode(f"{folder / 'b, c.wav'}\r\n"))

    monkeypatch.setattr(sys, "stdin", Stdin)
    result = cli("score", model, "-", "--format", "jsonl")
    assert result.code == 0
    assert json.loads(result.out)["path"].endswith("b, c.wav")


def test_any_file_name_comes_out_as_it_is(
    cli: Any, fake_model: Callable[..., Path], clip: Callable[..., Path], tmp_path: Path
) -> None:
    names = ["[red]a.wav", "two\nlines.wav", 'q"u,o.wav', os.fsdecode(b"caf\xe9.wav"), "ü[/x].wav"]
    paths = [clip(f"n/{name}") for name in names]
    target = tmp_path / "x.csv"
    assert cli("score", fake_model(), *paths, "-o", target).code == 0
    with target.open(errors="surrogateescape", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [str(path) for path in paths]
    for path in paths:
        path.write_text("no audio")
    result = cli("score", fake_model(), *paths, "-o", target)
    assert result.code == 1
    assert "[red]a.wav cannot be decoded" in result.err
    assert "5 of 5 files could not be scored." in result.err


@pytest.mark.parametrize("batch", ["1", "2", "16"])
def test_batch_does_not_change_scores(
    batch: str, cli: Any, fake_model: Callable[..., Path], folder: Path
) -> None:
    model = fake_model()
    assert cli("score", model, folder, "--batch", batch).out == cli("score", model, folder).out


def test_published_name_is_exported_once_and_kept(
    cli: Any,
    fake_model: Callable[..., Path],
    clip: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aasist_deploy import resolve

    fake_model()
    made = []

    def exported(model: Any) -> Path:
        path = tmp_path / f"{model.name}-{__version__}.onnx"
        path.touch()
        made.append(model.name)
        return path

    monkeypatch.setattr(resolve, "exported", exported)
    monkeypatch.chdir(tmp_path)
    assert cli("score", "aasist-l", clip("a.wav")).code == 0
    assert made == ["aasist-l"]


def test_options_of_the_wrong_backend_are_refused(
    cli: Any, fake_model: Callable[..., Path], folder: Path
) -> None:
    for arguments, message in (
        (("--device", "cuda"), "--device cuda belongs to the backends torch and trt; this is"),
        (
            ("--backend", "onnx", "--precision", "bf16"),
            "--precision bf16 belongs to the backend openvino; this is onnx",
        ),
        (
            ("--provider", "cuda", "--hint", "throughput"),
            "--provider cuda belongs to the backend onnx; this is openvino",
        ),
    ):
        result = cli("score", fake_model(), folder, *arguments)
        assert result.code == 2
        assert message in result.err


def subprocess_score(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
    # Programs that are started in the background may be told to ignore SIGINT.
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "from aasist_deploy.cli import main; main()"
    command = [sys.executable, "-c", start, "score"]
    return subprocess.Popen(
        [*command, *map(os.fspath, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A list that names one clip many times over, by different paths."""
    wave = np.random.default_rng(0).uniform(-0.1, 0.1, 16_000).astype(np.float32)
    (tmp_path / "many").mkdir()
    first = tmp_path / "many" / "0.wav"
    soundfile.write(first, wave, 16_000)
    for index in range(1, 3_000):
        (tmp_path / "many" / f"{index}.wav").hardlink_to(first)
    return tmp_path / "many"


def test_reader_that_goes_away_ends_the_run_without_a_traceback(
    small_onnx: Callable[..., Path], many: Path
) -> None:
    process = subprocess_score(small_onnx(), many)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"path,score,error,seconds,window\n"
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


def test_interrupt_ends_the_run_without_a_traceback_and_keeps_the_rows(
    small_onnx: Callable[..., Path], many: Path, tmp_path: Path
) -> None:
    target = tmp_path / "x.csv"
    process = subprocess_score(small_onnx(), many, "-o", target)
    while not (target.exists() and target.read_bytes().count(b"\n") > 3):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert 3 <= len(rows) < 3_000
    assert all(row["score"] for row in rows)
