"""aasist-score as a person meets it: rows, exit codes, messages; and the library's face."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

import aasist_deploy
from aasist_deploy.calibration import p_spoof
from aasist_deploy.contract import ModelContract, read_contract
from aasist_deploy.errors import ModelFileError
from aasist_deploy.onnx_file import with_metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    Program = Callable[..., subprocess.CompletedProcess[str]]

REPOSITORY = Path(__file__).resolve().parents[2]
HEADER = REPOSITORY / "cpp" / "include" / "aasist" / "aasist.h"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / 'a, "b".wav'
    soundfile.write(path, np.full(500, 0.25), 16_000)
    return path


def test_rows_are_pythons(aasist_score: Program, tiny: Path, clip: Path) -> None:
    broken = clip.with_name("broken.wav")
    broken.write_text("no sound")
    for format_ in ("csv", "jsonl"):
        arguments = [str(tiny), str(clip), str(broken), "--format", format_]
        python = subprocess.run(
            [sys.executable, "-m", "aasist_deploy", "score", "--backend", "onnx", *arguments],
            capture_output=True,
            check=False,
            text=True,
        )
        cpp = aasist_score("--format", format_, tiny, clip, broken)
        assert cpp.returncode == python.returncode == 1
        ours, pythons = (_rows(run.stdout, format_) for run in (cpp, python))
        assert len(ours) == len(pythons) == 2
        for row, expected in zip(ours, pythons, strict=True):
            assert row == {column: expected[column] for column in row}
        assert "broken.wav cannot be decoded (" in cpp.stderr
        assert "1 of 2 files could not be scored." in cpp.stderr


def _rows(text: str, format_: str) -> list[dict[str, Any]]:
    # Each decoder has its own words for what is no audio.
    text = re.sub(r"(cannot be decoded )\(.*?\)\.", r"\1", text)
    if format_ == "csv":
        return list(csv.DictReader(io.StringIO(text)))
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "a model and at least one file are needed"),
        (["MODEL"], "a model and at least one file are needed"),
        (["--format", "xml", "MODEL", "x"], "--format is xml; known are csv and jsonl."),
        (["--threads", "0", "MODEL", "x"], "--threads is 0; it must be a whole number"),
        (["--threads", "two", "MODEL", "x"], "--threads is two; it must be a whole number"),
        (["--hop", "nan", "MODEL", "-"], "--hop is nan; it must be a number of seconds above 0."),
        (["--pcm", "mp3", "MODEL", "-"], "--pcm is mp3; known are u8, s16le"),
        (["--rate", "8000", "MODEL", "x"], "of raw PCM on stdin: give - as the file."),
        (["--hop", "1", "--hop-frames", "1", "MODEL", "-"], "--hop and --hop-frames were both"),
        (["--hop-frames", "1", "MODEL", "-"], "--hop-frames is of a file for streams"),
        (["--stream", "MODEL", "-"], "is no file for streams."),
        (["STREAM", "x"], "is a file for streams, which scores no whole files."),
        (["--hop", "0.02", "STREAM", "-"], "windows that share their frames start at multiples"),
        (["MODEL", "x", "-"], "- is raw PCM on stdin and goes with no other file."),
        (["--batch", "2", "MODEL", "-"], "--batch is of files"),
        (["--wrong", "MODEL", "x"], "aasist-score --help lists the options."),
        (["/nonexistent.onnx", "x"], "/nonexistent.onnx cannot be read: No such file"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_one_message(
    arguments: list[str], says: str, aasist_score: Program, tiny: Path
) -> None:
    models = {"MODEL": str(tiny), "STREAM": str(tiny.with_name("tiny-stream.onnx"))}
    done = aasist_score(*(models.get(a, a) for a in arguments))
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


def test_help_and_version(aasist_score: Program) -> None:
    assert "Exit codes:" in aasist_score("--help").stdout
    said = aasist_score("--version").stdout
    assert said.startswith(f"aasist-score {aasist_deploy.__version__}, ONNX Runtime 1.")


def test_a_stream_has_a_row_for_each_window(aasist_score: Program, tiny: Path) -> None:
    samples = (np.arange(4_000) % 1_000).astype("<i2")
    hop = 400 / 16_000
    done = aasist_score("--hop", str(hop), "--format", "jsonl", tiny, "-", stdin=samples.tobytes())
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["start_s"] for row in rows] == pytest.approx([i * hop for i in range(9)])
    expected = [8 * np.mean(samples[i * 400 :][:800] / 32_768) for i in range(9)]
    # float32 means of 800 samples up to 0.03, times 8.
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-6)
    assert list(rows[0]) == ["path", "start_s", "end_s", "score", "llr", "p_spoof"]
    contract, _ = read_contract(tiny)
    assert contract.calibration is not None
    llr = [contract.calibration["scale"] * e + contract.calibration["offset"] for e in expected]
    assert [row["llr"] for row in rows] == pytest.approx(llr, abs=2e-6)
    assert [row["p_spoof"] for row in rows] == pytest.approx(p_spoof(np.array(llr)), abs=2e-6)


def test_an_empty_stream_is_an_error(aasist_score: Program, tiny: Path) -> None:
    done = aasist_score(tiny, "-")
    assert done.returncode == 1
    assert "The stream held no samples" in done.stderr
    assert done.stdout == "path,start_s,end_s,score,llr,p_spoof\n"


@pytest.mark.parametrize("model", ["tiny.onnx", "tiny-stream.onnx"])
def test_the_example_that_listens_gives_the_scores_of_the_program(
    model: str, build: Path, aasist_score: Program, tiny: Path
) -> None:
    tiny = tiny.with_name(model)
    samples = (1_000 * np.sin(np.arange(40_000) / 9)).astype("<i2")
    heard = subprocess.run(
        [build / "release" / "examples" / "listen", tiny, "16000"],
        input=samples.tobytes(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    rows = aasist_score(tiny, "-", stdin=samples.tobytes()).stdout.splitlines()[1:]
    assert [float(line.split(": ")[1]) for line in heard.splitlines()] == pytest.approx(
        [float(row.split(",")[3]) for row in rows], abs=5.1e-5
    )
    assert len(rows) == 3


def test_the_examples_of_files_run(build: Path, tiny: Path, clip: Path) -> None:
    folder = build / "release" / "examples"
    said = subprocess.run(
        [folder / "score_c", tiny, clip], capture_output=True, check=True, text=True
    ).stdout
    assert "score 2.0000 of 0.03 s" in said
    assert "probability of spoof 0.0474" in said
    bad = subprocess.run(
        [folder / "score_c", clip, clip], capture_output=True, check=False, text=True
    )
    assert bad.returncode == 2
    assert "is not an ONNX model" in bad.stderr
    said = subprocess.run(
        [folder / "score_cpp", tiny], capture_output=True, check=True, text=True
    ).stdout
    assert said.startswith("tiny: ")


def test_the_library_exports_what_its_header_declares_and_no_more(build: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("needs nm of binutils")
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", build / "release" / "libaasist.so"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    exported = {line.split()[-1] for line in symbols.splitlines() if " T " in line}
    declared = set(re.findall(r"AASIST_API [^;]*?\b(aasist_\w+)\(", HEADER.read_text()))
    assert exported == declared


def test_the_header_has_the_version_of_the_package() -> None:
    found = re.search(r'AASIST_VERSION "(.*)"', HEADER.read_text())
    assert found is not None
    assert found[1] == aasist_deploy.__version__


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "aasist-deploy/contract/2"),
        ("padding", "zeros"),
        ("sample_rate_hz", "0"),
        ("sample_rate_hz", "16e3"),
        ("n_samples", "900"),
        ("batch", "[0, null]"),
        ("outputs", "{}"),
        ("outputs", '{"score": "", "else": ""}'),
        ("calibration", '{"scale": -1, "offset": 0}'),
        ("calibration", '{"scale": 1}'),
        ("thresholds", '{"eer": null}'),
        ("graph_sha256", "0"),
        ("input_name", "audio"),
        ("config", "{"),
        ("tools", "{}"),
        ("thresholds", '{"far(0.01)": 3}'),
        ("batch", "[1, 2]"),
    ],
)
def test_both_languages_refuse_the_same_contracts(
    field: str, value: str, aasist_score: Program, tiny: Path, clip: Path, tmp_path: Path
) -> None:
    _, file = read_contract(tiny)
    path = tmp_path / "changed.onnx"
    path.write_bytes(with_metadata(file, {**file.metadata, field: value}))
    reason: Any = None
    try:
        with aasist_deploy.open_engine(path):
            pass
    except ModelFileError as error:
        reason = str(error)
    done = aasist_score(path, clip)
    assert done.returncode == (0 if reason is None else 2)
    if reason is not None and field not in {"config", "outputs", "sample_rate_hz"}:
        last = reason.removeprefix(f"{path}: ")  # the words differ in how a value is shown
        assert last.split(" is ")[0].lower() in done.stderr.lower()


def test_optional_fields_that_are_left_out_have_pythons_defaults(
    aasist_score: Program, tiny: Path, clip: Path, tmp_path: Path
) -> None:
    contract, file = read_contract(tiny)
    needed: tuple[str, ...] = (
        "schema",
        "architecture",
        "config",
        "sample_rate_hz",
        "n_samples",
        "min_samples",
    )
    needed += ("outputs", "checkpoint_sha256", "graph_sha256")
    for left_out in contract.to_metadata():
        metadata = {k: v for k, v in file.metadata.items() if k != left_out}
        path = tmp_path / f"{left_out}.onnx"
        path.write_bytes(with_metadata(file, metadata))
        done = aasist_score(path, clip)
        assert done.returncode == (2 if left_out in needed else 0), (left_out, done.stderr)
        if left_out not in needed:
            ModelContract.from_metadata(metadata, path)
