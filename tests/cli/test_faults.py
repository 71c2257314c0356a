"""Every kind of file that may come up: a row, its error or score, and the right exit code."""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.pipeline import batches, score_files

if TYPE_CHECKING:
    from collections.abc import Callable

N = 4_000  # samples, a quarter of a second
WAVE = (0.3 * np.sin(np.arange(N) / 7)).astype(np.float32)


def sound(path: Path, wave: Any = WAVE, rate: int = 16_000, **options: Any) -> None:
    with path.open("wb") as file:  # soundfile takes no names that are not UTF-8
        soundfile.write(file, wave, rate, **{"format": "WAV", "subtype": "PCM_16", **options})


def cut(path: Path, format_: str) -> None:
    sound(path, np.random.default_rng(0).uniform(-1, 1, N), format=format_)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def deep_loop(path: Path) -> None:
    path.symlink_to(path.name)


# name -> how it is made, and what its error says; None where it gets a score.
FILES: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "unreadable.wav": (lambda p: p.write_bytes(os.urandom(3_000)), "cannot be decoded"),
    "truncated.flac": (lambda p: cut(p, "FLAC"), "cannot be decoded"),
    "truncated.wav": (lambda p: cut(p, "WAV"), None),  # with a warning
    "flac-named.wav": (lambda p: sound(p, format="FLAC"), None),
    "wav-named.mp3": (sound, None),
    "wav-without-suffix": (sound, None),
    "zero-length.wav": (lambda p: p.write_bytes(b""), "is empty (0 bytes)"),
    "no-samples.wav": (lambda p: sound(p, WAVE[:0]), "no samples"),
    "silence.wav": (lambda p: sound(p, np.zeros(N, np.float32)), None),
    "nan.wav": (lambda p: sound(p, np.full(N, np.nan), subtype="FLOAT"), f"{N} NaN or infinite"),
    "infinite.wav": (lambda p: sound(p, np.full(N, np.inf), subtype="FLOAT"), "NaN or infinite"),
    "one-sample.wav": (lambda p: sound(p, WAVE[3:4]), None),
    "telephone-8khz.wav": (lambda p: sound(p, rate=8_000, subtype="ULAW"), None),
    "studio-192khz.wav": (lambda p: sound(p, rate=192_000), None),
    "24-bit.wav": (lambda p: sound(p, subtype="PCM_24"), None),
    "float.wav": (lambda p: sound(p, subtype="FLOAT"), None),
    "double.wav": (lambda p: sound(p, subtype="DOUBLE"), None),
    "8-channels.wav": (lambda p: sound(p, np.repeat(WAVE[:, None], 8, axis=1)), None),
    "folder.wav": (Path.mkdir, "is a folder"),
    "pipe.wav": (os.mkfifo, "is not a regular file"),
    "loop.wav": (deep_loop, "cannot be read"),
    "dangling.wav": (lambda p: p.symlink_to("nowhere"), "does not exist"),
    "new\nline.wav": (sound, None),
    "com,ma.wav": (sound, None),
    'quo"te.wav': (sound, None),
    os.fsdecode(b"latin-\xe9.wav"): (sound, None),
    "never there.wav": (lambda _: None, "does not exist"),
}


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_each_kind_of_file_is_a_row_with_its_score_or_error(
    where: str, cli: Any, fake_model: Callable[..., Path], tmp_path: Path
) -> None:
    listed = tmp_path / "all.txt"
    paths = []
    (tmp_path / "d").mkdir()
    for name, (make, _) in FILES.items():
        path = tmp_path / "d" / name
        make(path)
        paths.append(path)
    # A list has one path a line, so the name with a line end goes in by itself.
    single = [path for path in paths if "\n" in path.name]
    lines = [os.fsencode(path) for path in paths if "\n" not in path.name]
    listed.write_bytes(b"\n".join(lines))
    output = tmp_path / "x.csv"
    result = cli(
        "score", fake_model(), *single, "--list", listed, "-o", output, "--decode-in", where
    )
    assert result.code == 1
    with output.open(errors="surrogateescape", newline="") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert len(rows) == len(FILES)
    n_failed = 0
    for name, (_, error) in FILES.items():
        row = rows[name]
        if error is None:
            assert row["error"] == "", name
            assert np.isfinite(float(row["score"])), name
            assert float(row["seconds"]) > 0, name
        else:
            n_failed += 1
            assert error in row["error"], name
            assert row["score"] == row["seconds"] == "", name
    assert f"{n_failed} of {len(FILES)} files could not be scored." in result.err


@pytest.mark.parametrize("name", [name for name, (_, error) in FILES.items() if error is None])
def test_file_that_gets_a_score_alone_ends_with_zero(
    name: str, cli: Any, fake_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / name
    FILES[name][0](path)
    output = tmp_path / "x.jsonl"
    assert cli("score", fake_model(), path, "-o", output).code == 0
    assert len(output.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "name", [name for name, (_, error) in FILES.items() if error and name != "never there.wav"]
)
def test_on_error_fail_ends_the_run_at_a_file_without_a_score(
    name: str, cli: Any, fake_model: Callable[..., Path], clip: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / name
    FILES[name][0](path)
    listed = tmp_path / "l.txt"
    listed.write_text(f"{clip('good.wav')}\n{path}\n")
    output = tmp_path / "x.csv"
    result = cli("score", fake_model(), listed, "-o", output, "--on-error", "fail", "--batch", "1")
    assert result.code == 1
    assert FILES[name][1] in result.err
    with output.open(newline="") as file:
        assert [Path(row["path"]).name for row in csv.DictReader(file)] == ["good.wav"]


def test_same_sound_in_every_container_has_the_same_score(
    cli: Any, fake_model: Callable[..., Path], tmp_path: Path
) -> None:
    wave = np.round(WAVE * 32_767) / 32_768
    kinds: dict[str, dict[str, Any]] = {
        "16.wav": {},
        "24.wav": {"subtype": "PCM_24"},
        "float.wav": {"subtype": "FLOAT"},
        "16.flac": {"format": "FLAC"},
        "16.aiff": {"format": "AIFF"},
    }
    paths = []
    for name, options in kinds.items():
        sound(tmp_path / name, wave, **options)
        paths.append(tmp_path / name)
    sound(tmp_path / "8.wav", np.repeat(wave[:, None], 8, axis=1))
    result = cli("score", fake_model(), *paths, tmp_path / "8.wav")
    assert len({row["score"] for row in rows_of(result.out)}) == 1


def test_links_in_a_circle_are_followed_once(
    cli: Any, fake_model: Callable[..., Path], clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip("d/a.wav")
    clip("d/sub/b.wav")
    (tmp_path / "d" / "sub" / "up").symlink_to("..")
    (tmp_path / "d" / "again").symlink_to(".")
    result = cli("score", fake_model(), tmp_path / "d")
    assert result.code == 0
    assert [Path(row["path"]).name for row in rows_of(result.out)] == ["a.wav", "b.wav"]


def test_file_deleted_while_the_run_is_on_is_a_row_with_its_error(
    cli: Any, fake_model: Callable[..., Path], clip: Callable[..., Path]
) -> None:
    first = clip("0.wav")
    paths = [first] + [clip(f"{i}.wav") for i in range(1, 60)]

    lines = io.BytesIO(b"".join(os.fsencode(path) + b"\n" for path in paths))
    real = batches.LocalScorer._score

    def delete_then_score(batcher: Any, waiting: Any) -> None:
        paths[50].unlink(missing_ok=True)  # while the first batch is scored
        real(batcher, waiting)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=lines))
        patch.setattr(batches.LocalScorer, "_score", delete_then_score)
        result = cli("score", fake_model(), "-")
    rows = rows_of(result.out)
    assert result.code == 1
    assert len(rows) == 60
    assert [i for i, row in enumerate(rows) if row["error"]] == [50]
    assert "does not exist" in rows[50]["error"]


def test_file_without_permission_is_a_row_with_its_error(
    fake_engine: Any, clip: Callable[..., Path]
) -> None:
    path = clip("secret.wav")
    path.chmod(0)
    is_root = os.geteuid() == 0  # who may read everything
    try:
        if is_root:
            os.seteuid(65_534)
        (row,) = score_files(fake_engine(), [path])
    finally:
        if is_root:
            os.seteuid(0)
    assert "cannot be read (Permission denied)" in str(row.error)


def test_of_a_file_of_ten_hours_only_the_start_is_decoded(
    cli: Any, fake_model: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "ten-hours.wav"
    n_samples = 10 * 3_600 * 16_000
    sound(path, np.zeros(0, np.int16))
    header = bytearray(path.read_bytes())
    header[4:8] = (36 + 2 * n_samples).to_bytes(4, "little")
    header[-4:] = (2 * n_samples).to_bytes(4, "little")
    path.write_bytes(header)
    os.truncate(path, len(header) + 2 * n_samples)  # a hole: it takes no room on the disk
    start = time.process_time()
    result = cli("score", fake_model(), path)
    (row,) = rows_of(result.out)
    assert result.code == 0
    assert float(row["seconds"]) == 36_000
    # Decoding all of it takes ten times as long, on any machine that runs the rest of these tests.
    assert time.process_time() - start < 5
