"""`aasist-deploy scan` on an engine whose scores are known."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from aasist_deploy.cli import scan_output
from tests.cli.recordings import HOP, N_WINDOWS, rows_of, write_wave

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_row_for_each_window_with_the_stable_keys(
    cli: Any, fake_model: Callable[..., Path], wave: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.jsonl"
    result = cli("scan", fake_model(), wave, "-o", out, *HOP)
    assert result.code == 0
    assert result.out == ""
    rows = rows_of(out)
    assert len(rows) == N_WINDOWS
    assert {tuple(row) for row in rows} == {("path", "start_s", "end_s", "score", "error")}
    assert rows[1]["path"] == str(wave)
    assert (rows[1]["start_s"], rows[1]["end_s"]) == (0.025, 0.075)
    expected = [5 - 10 * (row["start_s"] + row["end_s"]) / 2 for row in rows]
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-3)
    assert "each window by a pass of its own" in result.err


def test_recordings_of_a_list_follow_those_that_were_named(
    cli: Any, fake_model: Callable[..., Path], wave: Path, tmp_path: Path
) -> None:
    listed = write_wave(tmp_path / "b.wav")
    names = tmp_path / "names"
    names.write_text("# calls\nb.wav\n")
    result = cli("scan", fake_model(), wave, "--list", names, *HOP)
    assert result.code == 0
    paths = [json.loads(line)["path"] for line in result.out.splitlines()]
    assert paths == [str(wave)] * N_WINDOWS + [str(listed)] * N_WINDOWS
    assert cli("scan", fake_model(), "--list", names, *HOP).out.count("b.wav") == N_WINDOWS
    assert "No audio files were given" in cli("scan", fake_model(), *HOP).err


def test_rows_go_to_stdout_without_o(
    cli: Any, fake_model: Callable[..., Path], wave: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.jsonl"
    cli("scan", fake_model(), wave, "-o", out, *HOP)
    assert cli("scan", fake_model(), wave, *HOP).out == out.read_text()


def test_rows_go_to_stdout_while_a_terminal_shows_the_progress(
    cli: Any, fake_model: Callable[..., Path], wave: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(scan_output, "stderr", Console(file=shown, force_terminal=True, width=120))
    result = cli("scan", fake_model(), wave, *HOP)
    assert len(result.out.splitlines()) == N_WINDOWS
    assert "a.wav (1/1)" in shown.getvalue()
    assert "0:00:01.0 / 0:00:01.0" in shown.getvalue()


def test_csv_by_the_name_holds_the_same(
    cli: Any, fake_model: Callable[..., Path], wave: Path, tmp_path: Path
) -> None:
    out, table = tmp_path / "o.jsonl", tmp_path / "o.csv"
    for path in (out, table):
        assert cli("scan", fake_model(), wave, "-o", path, *HOP, "--threshold", "0").code == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == [row["score"] for row in rows_of(out)]
    assert {row["decision"] for row in rows} == {"bonafide", "spoof"}


@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
def test_other_rates_have_the_same_windows(
    cli: Any, fake_model: Callable[..., Path], tmp_path: Path, rate_hz: int
) -> None:
    path = write_wave(tmp_path / "b.wav", rate_hz=rate_hz)
    result = cli("scan", fake_model(), path, *HOP)
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert len(rows) == N_WINDOWS
    expected = [5 - 10 * (row["start_s"] + row["end_s"]) / 2 for row in rows[2:-2]]
    assert [row["score"] for row in rows[2:-2]] == pytest.approx(expected, abs=0.02)


def test_segments_labels_and_figures_follow_from_the_threshold(
    cli: Any, fake_model: Callable[..., Path], wave: Path, tmp_path: Path
) -> None:
    out, found, labels = (tmp_path / name for name in ("o.jsonl", "s.jsonl", "l.txt"))
    result = cli(
        "scan", fake_model(), wave, "-o", out, *HOP, "--threshold", "1", "--segments", found,
        "--labels", labels, "--json",
    )  # fmt: skip
    assert result.code == 0
    rows = rows_of(out)
    above, below = rows_of(found)
    assert (above["decision"], below["decision"]) == ("bonafide", "spoof")
    scores = {
        name: [row["score"] for row in rows if row["decision"] == name]
        for name in ("bonafide", "spoof")
    }
    assert min(scores["bonafide"]) >= 1 > max(scores["spoof"])
    for segment in (above, below):
        held = scores[segment["decision"]]
        assert segment["n_windows"] == len(held)
        assert (segment["min"], segment["max"]) == (min(held), max(held))
        assert segment["mean"] == pytest.approx(np.mean(held))
    assert (above["start_s"], below["end_s"]) == (0.0, rows[-1]["end_s"])
    lines = [line.split("\t") for line in labels.read_text().splitlines()]
    assert [line[2].split()[0] for line in lines] == ["bonafide", "spoof"]
    (figures,) = json.loads(result.out)["files"]
    assert figures["n_spoof"] == len(scores["spoof"])
    assert figures["mean"] == pytest.approx(np.mean([row["score"] for row in rows]))
    assert figures["mean_of_5_lowest"] == pytest.approx(
        np.mean(sorted(row["score"] for row in rows)[:5])
    )
    assert (figures["seconds"], figures["unscored_s"]) == (1.0, 0.0)


def test_a_named_threshold_of_the_model(
    cli: Any, fake_model: Callable[..., Path], wave: Path
) -> None:
    model = fake_model(thresholds={"eer": 1.0})
    by_name = cli("scan", model, wave, *HOP, "--threshold", "eer")
    assert by_name.out == cli("scan", model, wave, *HOP, "--threshold", "1").out
    wrong = cli("scan", model, wave, *HOP, "--threshold", "ear")
    assert wrong.code == 2
    assert "holds (eer)" in wrong.err


def test_calibrated_rows_have_llr_and_probability(
    cli: Any, fake_model: Callable[..., Path], wave: Path
) -> None:
    model = fake_model(calibration={"scale": 2.0, "offset": -1.0})
    row = json.loads(cli("scan", model, wave, *HOP).out.splitlines()[0])
    assert row["llr"] == pytest.approx(2 * row["score"] - 1)
    assert row["p_spoof"] == pytest.approx(1 / (1 + np.exp(row["llr"])))


def test_files_that_cannot_be_scored_are_rows_and_the_others_go_on(
    cli: Any, fake_model: Callable[..., Path], wave: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "b.wav"
    broken.write_text("no audio")
    damaged = tmp_path / "c.wav"
    samples = np.linspace(0.5, -0.5, 100_000, dtype=np.float32)
    samples[90_000] = np.nan
    soundfile.write(damaged, samples, 16_000, subtype="FLOAT")
    last = write_wave(tmp_path / "d.wav")
    out = tmp_path / "o.jsonl"
    result = cli("scan", fake_model(), wave, broken, damaged, last, "-o", out, *HOP, "--json")
    assert result.code == 1
    rows = rows_of(out)
    by_file = {p: [r for r in rows if r["path"] == str(p)] for p in (wave, broken, damaged, last)}
    assert len(by_file[wave]) == len(by_file[last]) == N_WINDOWS
    (row,) = by_file[broken]
    assert (row["start_s"], row["score"]) == (None, None)
    assert "b.wav cannot be decoded" in row["error"]
    # What came before the damage is kept.
    assert len(by_file[damaged]) > 100
    assert "first at 90000" in by_file[damaged][-1]["error"]
    assert by_file[damaged][-2]["score"] is not None
    figures = json.loads(result.out)
    assert figures["n_failed"] == 2
    assert [file["error"] is None for file in figures["files"]] == [True, False, False, True]


@pytest.mark.parametrize(
    "forged",
    [
        ("o.jsonl", "{}\n"), ("o.jsonl", "[]\n"), ("o.jsonl", "{\n"),
        ("o.jsonl", "[" * 50_000 + "\n"),
        ("o.jsonl", '{"path": "x", "start_s": 0.0, "end_s": 0.1, "score": NaN, "error": null}\n'),
        ("o.jsonl", '{"path": "x", "start_s": 0.0, "end_s": "0", "score": 1.0, "error": null}\n'),
        ("o.jsonl", '{"path": "x", "start_s": 0.0, "end_s": 0.1, "score": 1.0, "error": null}\n'),
        ("o.csv", "x,0.0,0.1,high,\n"), ("o.csv", "x\n"), ("o.csv", "x,0.0,0.1,1.0,\n"),
        ("o.csv", '"' + "x" * 200_000 + "\n"),
    ],
    ids=range(11),
)  # fmt: skip
def test_rows_that_somebody_wrote_with_their_journal_are_one_error(
    forged: tuple[str, str],
    cli: Any,
    fake_model: Callable[..., Path],
    wave: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, line = forged
    model, last = fake_model(), write_wave(tmp_path / "d.wav")
    with monkeypatch.context() as patched:
        patched.setattr("aasist_deploy.streaming.output.RowText.line", lambda *_: line)
        assert cli("scan", model, wave, last, "-o", tmp_path / name, *HOP).code == 0
    result = cli("scan", model, wave, last, "-o", tmp_path / name, *HOP, "--resume")
    assert result.code == 2
    assert "The rows that are there" in result.err


def test_short_silent_and_clipped_recordings(
    cli: Any, fake_model: Callable[..., Path], tmp_path: Path
) -> None:
    for name, wave in (
        ("short", np.full(100, 0.25)),
        ("silent", np.zeros(1_600)),
        ("clipped", np.ones(1_600)),
    ):
        soundfile.write(tmp_path / f"{name}.wav", wave, 16_000, subtype="FLOAT")
    paths = [tmp_path / f"{name}.wav" for name in ("short", "silent", "clipped")]
    result = cli("scan", fake_model(), *paths, *HOP)
    assert result.code == 0
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert (rows[0]["end_s"], rows[0]["score"]) == (100 / 16_000, pytest.approx(2.5))
    assert [row["score"] for row in rows[1:4]] == [0.0] * 3
    assert "silent.wav: all samples are zero" in result.err
    assert "clipped.wav: clipped: 100.00% of the samples" in result.err


def test_windows_with_too_little_speech_have_no_score(
    cli: Any, fake_model: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("webrtcvad", reason="needs the extra vad")
    path = tmp_path / "a.wav"
    tone = np.sign(np.sin(np.arange(16_000) / 16_000 * 2 * np.pi * 180)) * 0.3
    soundfile.write(path, np.concatenate([tone, np.zeros(16_000)]), 16_000)
    result = cli("scan", fake_model(), path, *HOP, "--vad", "--vad-min-speech", "0.5")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert all(("speech" in row) and row["error"] is None for row in rows)
    assert all((row["score"] is None) == (row["speech"] < 0.5) for row in rows)
    assert rows[-1]["score"] is None
    assert "windows have too little speech" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "name it with -o"),
        (["--json"], "name a file with -o"),
        (["-o", "o.txt"], "known suffixes are .jsonl"),
        (["--segments", "s.csv"], "--segments needs a threshold"),
        (["--labels", "l.txt"], "--labels needs a threshold"),
        (["--plot", "p.pdf"], "name it .png or .html"),
        (["--plot", "none/p.png"], "none is no folder"),
        (["--hop-s", "0"], "--hop-s is 0"),
        (["--hop-frames", "2"], "frames of Fake are not known"),
        (["--hop-frames", "2", "--hop-s", "1"], "both given"),
        (["--window-s", "3"], "the model takes 800 samples"),
        (["--threshold", "nan"], "--threshold is 'nan'"),
        (["--threshold", "0", "--labels", "x.csv", "--segments", "x.csv"], "the same name"),
        (["-o", "a.wav.jsonl", "--plot", "a.wav"], "name it .png or .html"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_scored(
    cli: Any,
    fake_model: Callable[..., Path],
    wave: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("scan", fake_model(fail_at=0), wave, *arguments)
    assert result.code == 2
    assert message in result.err
    assert result.out == ""


def test_a_recording_is_never_overwritten(
    cli: Any, fake_model: Callable[..., Path], wave: Path, tmp_path: Path
) -> None:
    named = wave.rename(tmp_path / "a.jsonl")
    before = named.read_bytes()
    result = cli("scan", fake_model(), named, "-o", named, *HOP)
    assert result.code == 2
    assert "is one of the recordings" in result.err
    assert named.read_bytes() == before


def test_labels_are_of_one_recording_and_pictures_of_few(
    cli: Any, fake_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_wave(tmp_path / f"{i}.wav", 0.1) for i in range(3)]
    result = cli("scan", fake_model(), *paths, "--threshold", "0", "--labels", tmp_path / "l.txt")
    assert "--labels is of one recording; 3 were named" in result.err
    monkeypatch.setattr(scan_output, "MAX_PLOTTED", 2)
    result = cli("scan", fake_model(), *paths, "--plot", tmp_path / "p.png")
    assert "--plot shows at most 2 recordings; 3 were named" in result.err


@pytest.mark.parametrize("threshold", [(), ("--threshold", "0")])
def test_pictures_are_made_also_of_what_could_not_be_decoded(
    cli: Any, fake_model: Callable[..., Path], wave: Path, tmp_path: Path, threshold: tuple[str]
) -> None:
    broken = tmp_path / "<b>$x.wav"
    broken.write_text("no audio")
    for name in ("p.png", "p.html"):
        result = cli(
            "scan", fake_model(), wave, broken, *HOP, *threshold, "--plot", tmp_path / name
        )
        assert result.code == 1
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "p.html").read_text()
    assert page.count("<svg ") == 1
    assert "It could not be decoded." in page
    assert "<b>$x.wav" not in page
    assert "&lt;b&gt;$x.wav" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_memory_does_not_grow_with_the_recording(
    cli: Any, fake_model: Callable[..., Path], tmp_path: Path
) -> None:
    """A scan of ten hours, run once by hand, has the same peak: docs/streaming.md."""
    peaks: list[int] = []
    minute = (np.random.default_rng(0).standard_normal(60 * 16_000) * 3_000).astype(np.int16)
    for n_minutes in (1, 1, 20):  # the first fills caches
        path = tmp_path / f"{n_minutes}.wav"
        with soundfile.SoundFile(path, "w", 16_000, 1, subtype="PCM_16") as file:
            for _ in range(n_minutes):
                file.write(minute)
        model, out = fake_model(), tmp_path / f"{len(peaks)}.jsonl"
        tracemalloc.start()
        try:
            assert cli("scan", model, path, "-o", out, "--hop-s", "0.5").code == 0
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert len(rows_of(out)) == n_minutes * 120
    assert path.stat().st_size > 30_000_000
    assert peaks[2] < peaks[1] + 1_000_000
