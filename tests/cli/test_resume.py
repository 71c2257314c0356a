"""`score --resume` after a kill, Ctrl-C and a full disk, in processes of their own; `merge`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.journal import journal_of, read_journal

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("onnx", reason="needs the package onnx, to write a model")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

from tests.tiny_models import write_tiny_model

N_FILES = 700
START = """
import os, resource, signal, sys
if limit := int(os.environ["FILE_LIMIT"]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
from aasist_deploy.journal import _writing
_writing.SYNC_EVERY_S = 0.05  # so that short runs are certain of something
from aasist_deploy.cli import main
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and a list of many files, a few of them bad."""
    folder = tmp_path_factory.mktemp("resume")
    write_tiny_model(folder / "tiny.onnx")
    random_ = np.random.default_rng(0)
    first = []
    for index in range(40):
        path = folder / f"first-{index}.flac"
        wave = random_.uniform(-0.5, 0.5, random_.integers(100, 30_000)).astype(np.float32)
        soundfile.write(path, wave, 16_000)
        first.append(path)
    (folder / "bad.flac").write_text("no audio")
    first.append(folder / "bad.flac")
    lines = []
    for index in range(N_FILES):
        path = folder / f"{index}, x.flac"
        path.hardlink_to(first[index % len(first)])
        lines.append(str(path))
    (folder / "all.txt").write_text("\n".join(lines))
    return folder


def start(folder: Path, output: Path, *more: str, file_limit: int = 0) -> subprocess.Popen[bytes]:
    """`score`, whose files grow to `file_limit` bytes at most: a disk that becomes full."""
    given = [str(folder / "tiny.onnx"), str(folder / "all.txt"), "-o", str(output), *more]
    return subprocess.Popen(
        [sys.executable, "-c", START, "score", *given, "--backend", "onnx"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "FILE_LIMIT": str(file_limit)},
    )


def end(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    err = process.communicate(timeout=120)[1].decode()
    assert "Traceback" not in err
    return process.returncode, err


def rows_in(output: Path) -> int:
    return output.read_bytes().count(b"\n") if output.exists() else 0


def certain_rows(output: Path) -> int:
    """Rows that stay, whatever ends the run: those behind them are of a batch that is not done."""
    found = read_journal(output)
    return 0 if found is None else found[1].n_inputs


@pytest.fixture(scope="module")
def whole(folder: Path) -> bytes:
    output = folder / "whole.csv"
    code, err = end(start(folder, output))
    assert code == 1
    assert "17 of 700 files could not be scored." in err
    return output.read_bytes()


def test_run_killed_at_random_times_and_resumed_gives_the_bytes_of_a_whole_run(
    folder: Path, whole: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "x.csv"
    random_ = random.Random(7)
    for _ in range(2):
        process = start(folder, output, "--resume")
        wanted = rows_in(output) + random_.randint(1, N_FILES // 4)
        while process.poll() is None and rows_in(output) < wanted:
            time.sleep(0.002)
        assert process.poll() is None  # it was not done yet
        process.kill()
        end(process)
    code, err = end(start(folder, output, "--resume"))
    assert code == 1
    assert "rows are there already" in err
    assert output.read_bytes() == whole


def test_ctrl_c_writes_what_is_done_and_says_how_to_go_on(
    folder: Path, whole: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "x.csv"
    process = start(folder, output, "--decode-in", "processes")
    while certain_rows(output) < 100:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    code, err = end(process)
    assert code == 130
    assert "--resume" in err
    n_rows = rows_in(output) - 1
    assert 100 <= n_rows < N_FILES
    assert n_rows == certain_rows(output)
    assert f"{n_rows} rows" in err
    assert whole.startswith(output.read_bytes())
    assert end(start(folder, output, "--resume"))[0] == 1
    assert output.read_bytes() == whole


# Ctrl-C while a package is imported, at a place that does not depend on the machine's speed.
IMPORTING = """
import runpy, sys
package = sys.argv.pop(1)
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == package:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
runpy.run_module("aasist_deploy", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("package", ["typer", "onnxruntime"])
def test_ctrl_c_while_the_program_starts_is_no_traceback(
    package: str, folder: Path, tmp_path: Path
) -> None:
    given = ["score", folder / "tiny.onnx", folder / "all.txt", "-o", tmp_path / "x.csv"]
    code, err = end(
        subprocess.Popen(
            [sys.executable, "-c", IMPORTING, package, *map(str, given), "--backend", "onnx"],
            stderr=subprocess.PIPE,
        )
    )
    assert code == 130
    assert not (tmp_path / "x.csv").exists()
    assert "Error" not in err


# In a mount namespace of its own: a disk of 16 KiB, the run on it, a larger disk, the run again.
ON_A_SMALL_DISK = """
mkdir "$DISK" && mount -t tmpfs -o size=16k tmpfs "$DISK" || exit 97
"$@"
echo "first $?"
cat "$DISK/x.csv" > "$OUT/first.csv"
mount -o remount,size=4m "$DISK" || exit 98
"$@"
echo "second $?"
cat "$DISK/x.csv" > "$OUT/second.csv"
"""


def test_disk_that_is_full_keeps_what_is_done_and_with_room_the_run_ends_alike(
    folder: Path, whole: bytes, tmp_path: Path
) -> None:
    run = [sys.executable, "-c", START, "score", str(folder / "tiny.onnx"), str(folder / "all.txt")]
    run += ["-o", str(tmp_path / "disk" / "x.csv"), "--resume", "--backend", "onnx"]
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK, "sh"]
    try:
        done = subprocess.run(
            [*shell, *run],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            env={
                **os.environ,
                "FILE_LIMIT": "0",
                "DISK": str(tmp_path / "disk"),
                "OUT": str(tmp_path),
            },
        )
    except FileNotFoundError:
        pytest.skip("needs unshare, of util-linux")
    if done.returncode == 97 or "unshare" in done.stderr:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    assert "Traceback" not in done.stderr
    assert "first 2\nsecond 1\n" in done.stdout  # 1: some files are no audio
    assert "No space left on device" in done.stderr
    assert "--resume" in done.stderr
    first = (tmp_path / "first.csv").read_bytes()
    assert 0 < len(first) <= 16 << 10
    assert whole.startswith(first)
    assert (tmp_path / "second.csv").read_bytes() == whole


def test_full_disk_keeps_whole_rows_and_the_run_goes_on(
    folder: Path, whole: bytes, tmp_path: Path
) -> None:
    output = tmp_path / "x.csv"
    code, err = end(start(folder, output, "--decode-in", "threads", file_limit=60_000))
    assert code == 2
    assert f"{output} cannot be written: File too large. It holds the rows of" in err
    assert "--resume" in err
    written = output.read_bytes()
    assert 50_000 < len(written) <= 60_000
    assert written.endswith(b"\n")
    assert whole.startswith(written)
    assert end(start(folder, output, "--resume"))[0] == 1
    assert output.read_bytes() == whole


def test_full_folder_of_temporary_files_is_said(folder: Path, tmp_path: Path) -> None:
    code, err = end(start(folder, tmp_path / "x.csv", file_limit=5_000))
    assert code == 2
    assert "names of the inputs cannot be kept" in err
    assert "TMPDIR" in err


def test_shards_merge_to_the_bytes_of_one_run(
    cli: Callable[..., Any], fake_model: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    model = fake_model()
    few = tmp_path / "few.txt"
    lines = (folder / "all.txt").read_text().splitlines()[:83]
    few.write_text("\n".join(lines))
    assert cli("score", model, few, "-o", tmp_path / "whole.csv").code == 1
    parts = [tmp_path / f"part-{i}.csv" for i in (1, 2, 3)]
    for index, part in enumerate(parts, start=1):
        cli("score", model, few, "-o", part, "--shard", f"{index}/3")
    refused = cli("merge", *parts[:2], "-o", tmp_path / "all.csv")
    assert refused.code == 2
    assert "1 of 3 shards are missing: 3/3" in refused.err
    merged = cli("merge", *parts, "-o", tmp_path / "all.csv", "--json")
    assert merged.code == 0
    assert json.loads(merged.out) == {
        "output": str(tmp_path / "all.csv"), "n_shards": 3, "n_inputs": 83, "n_failed": 2,
    }  # fmt: skip
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize(("options", "batch"), [([], 3), (["--batch", "5"], 5)])
def test_batch_is_what_the_engine_says_is_best_unless_one_is_given(
    options: list[str],
    batch: int,
    cli: Callable[..., Any],
    fake_engine: Any,
    fake_model: Callable[..., Path],
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fake_engine, "best_batch", 3)
    output = tmp_path / "x.csv"
    assert cli("score", fake_model(), manifest, "-o", output, *options).code == 0
    dataset = ("--dataset", "manifest", "--root", manifest, "--out", tmp_path / "results")
    assert cli("eval", fake_model(), *dataset, *options).code == 0
    for rows in (output, tmp_path / "results" / "rows.jsonl"):
        found = read_journal(rows)
        assert found is not None
        assert found[0]["batch"] == batch


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--resume"], "--resume needs a file"),
        (["--shard", "1/2"], "--shard needs a file"),
        (["--shard", "3/2", "-o", "x.csv"], "There is no shard 3 of 2"),
        (["--shard", "1/2", "-o", "x.txt"], "--shard does not go with txt"),
        (["--window-scores", "-o", "x.txt"], "--window-scores does not go with txt"),
        (["--windows", "none"], "must be first, all, or a number"),
        (["--windows", "0"], "must be first, all, or a number"),
        (["--hop", "1"], "no meaning for the first window alone"),
        (["--windows", "all", "--hop", "-1"], "must be above 0"),
        (["--windows", "all", "--aggregate", "median"], "no aggregate 'median'"),
        (["--resume", "-o", "/dev/null", "--format", "csv"], "no file that a run can go on with"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str],
    said: str,
    cli: Callable[..., Any],
    fake_model: Callable[..., Path],
    clip: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("score", fake_model(), clip("a.wav"), *options)
    assert result.code == 2
    assert said in result.err
    assert not list(tmp_path.glob("x.*"))
    assert not journal_of(Path("x.csv")).exists()
