from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from aasist_deploy.audio import Heard
from aasist_deploy.cli import live_view
from aasist_deploy.cli.live_view import LiveView
from aasist_deploy.streaming.rows import WindowRow, decision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

HOP = ("--hop-s", "0.025")  # half of the fake engine's window of 800 samples
N_WINDOWS = 39  # of a second


@pytest.fixture(scope="module")
def falling() -> NDArray[np.int16]:
    """A second from 0.5 to -0.5: the fake engine says 5 to -5."""
    return np.round(np.linspace(16_384, -16_384, 16_000)).astype(np.int16)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """(bytes, whether it ends) -> they come from standard input."""
    ends: list[int] = []

    def set_(data: bytes, *, close: bool = True) -> None:
        read_end, write_end = os.pipe()
        ends.append(read_end)

        def write() -> None:
            for start in range(0, len(data), 1_000):
                os.write(write_end, data[start : start + 1_000])
            if close:
                os.close(write_end)

        if not close:
            ends.append(write_end)
        thread = threading.Thread(target=write, daemon=True)
        thread.start()

        class Stdin:
            def fileno(self) -> int:
                return read_end

        monkeypatch.setattr(sys, "stdin", Stdin())

    yield set_
    for end in ends:
        os.close(end)


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def check_falling(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == N_WINDOWS
    expected = [5 - 10 * (row["start_s"] + row["end_s"]) / 2 for row in rows]
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-2)


def test_a_file_gives_the_windows_of_scan(
    cli: Any, fake_model: Callable[..., Path], tmp_path: Path, falling: NDArray[np.int16]
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, falling, 16_000)
    result = cli("stream", fake_model(), path, *HOP)
    assert result.code == 0
    rows = rows_of(result.out)
    check_falling(rows)
    assert {tuple(row) for row in rows} == {("start_s", "end_s", "score", "error")}
    assert "the stream ended after 1.000 s" in result.err
    scanned = rows_of(cli("scan", fake_model(), path, *HOP).out)
    assert [{k: v for k, v in row.items() if k != "path"} for row in scanned] == rows


@pytest.mark.parametrize(
    ("n_behind", "said"), [(0, ""), (160, "; its last 0.010 s are in no window of their own")]
)
def test_the_last_line_speaks_of_a_rest_only_where_there_is_one(
    cli: Any,
    fake_model: Callable[..., Path],
    tmp_path: Path,
    falling: NDArray[np.int16],
    n_behind: int,
    said: str,
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.append(falling, np.zeros(n_behind, np.int16)), 16_000)
    result = cli("stream", fake_model(), path, *HOP)
    last = result.err.splitlines()[-1]
    assert last == f"the stream ended after {1 + n_behind / 16_000:.3f} s{said}"


def test_raw_samples_and_containers_come_from_stdin(
    cli: Any,
    fake_model: Callable[..., Path],
    stdin: Callable[..., None],
    falling: NDArray[np.int16],
) -> None:
    stdin(falling.tobytes())
    raw = cli("stream", fake_model(), "-", *HOP, "--format", "s16le")
    check_falling(rows_of(raw.out))
    buffer = io.BytesIO()
    soundfile.write(buffer, falling, 16_000, format="WAV")
    stdin(buffer.getvalue())
    assert cli("stream", fake_model(), "-", *HOP).out == raw.out


def test_threshold_decides_and_a_calibrated_model_has_probabilities(
    cli: Any,
    fake_model: Callable[..., Path],
    stdin: Callable[..., None],
    falling: NDArray[np.int16],
) -> None:
    stdin(falling.tobytes())
    model = fake_model(calibration={"scale": 2.0, "offset": -1.0})
    rows = rows_of(cli("stream", model, "-", *HOP, "--format", "s16le", "--threshold", "2").out)
    for row in rows:
        assert row["decision"] == ("bonafide" if row["score"] >= 2 else "spoof")
        assert row["llr"] == pytest.approx(2 * row["score"] - 1)
    assert {row["decision"] for row in rows} == {"bonafide", "spoof"}


def test_what_breaks_in_the_middle_is_a_row_after_those_that_were_scored(
    cli: Any, fake_model: Callable[..., Path], stdin: Callable[..., None]
) -> None:
    wave = np.full(16_000, 0.25, "<f4")
    wave[12_000] = np.nan
    stdin(wave.tobytes())
    result = cli("stream", fake_model(), "-", *HOP, "--format", "f32le")
    assert result.code == 1
    *scored, last = rows_of(result.out)
    assert len(scored) > 10
    assert all(row["score"] == pytest.approx(2.5) for row in scored)
    assert last["score"] is None
    assert "stdin holds NaN" in last["error"]
    assert "stdin holds NaN" in result.err


def test_what_breaks_at_once_has_no_row(
    cli: Any, fake_model: Callable[..., Path], stdin: Callable[..., None]
) -> None:
    stdin(b"no audio" * 10_000)
    result = cli("stream", fake_model(), "-", *HOP)
    assert (result.code, result.out) == (2, "")
    assert "raw samples need --format" in result.err


def test_a_stream_that_stalls_is_told_of_and_times_out_with_its_rows(
    cli: Any,
    fake_model: Callable[..., Path],
    stdin: Callable[..., None],
    falling: NDArray[np.int16],
) -> None:
    stdin(falling.tobytes(), close=False)
    result = cli(
        "stream", fake_model(), "-", *HOP, "--format", "s16le", "--stall", "0.1", "--timeout", "0.3"
    )
    assert result.code == 1
    *scored, last = rows_of(result.out)
    check_falling(scored)
    assert last["error"] == "stdin gave nothing for 0.3 s."
    assert "nothing came for 0 s; still waiting" in result.err


def test_a_short_silent_and_a_clipped_stream(
    cli: Any, fake_model: Callable[..., Path], stdin: Callable[..., None]
) -> None:
    stdin(np.full(100, 8_192, "<i2").tobytes())
    result = cli("stream", fake_model(), "-", *HOP, "--format", "s16le")
    (row,) = rows_of(result.out)
    assert (row["end_s"], row["score"]) == (100 / 16_000, pytest.approx(2.5))
    stdin(np.zeros(4_000, "<i2").tobytes())
    result = cli("stream", fake_model(), "-", *HOP, "--format", "s16le")
    assert "all samples are zero" in result.err
    stdin(np.full(4_000, 32_767, "<i2").tobytes())
    result = cli("stream", fake_model(), "-", *HOP, "--format", "s16le")
    assert "clipped: 100.00% of the samples" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "MODEL is missing"),
        (["MODEL"], "nothing to listen to"),
        (["MODEL", "-", "--microphone"], "two sources"),
        (["MODEL", "none.wav"], "none.wav does not exist"),
        (["MODEL", "-", "--format", "u8", "--rate", "1"], "--rate is 1"),
        (["MODEL", "-", "--rate", "8000"], "--rate 8000 is of raw PCM"),
    ],
)
def test_wrong_usage_has_one_message(
    cli: Any,
    fake_model: Callable[..., Path],
    stdin: Callable[..., None],
    arguments: list[str],
    message: str,
) -> None:
    stdin(b"")
    model = str(fake_model())
    result = cli("stream", *[model if one == "MODEL" else one for one in arguments])
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_a_microphone_is_scored_until_it_is_stopped(
    cli: Any, fake_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for sounddevice records a second, loses some, and the user presses Ctrl-C."""
    from types import ModuleType, SimpleNamespace

    fake: Any = ModuleType("sounddevice")
    fake.PortAudioError = OSError

    class InputStream:
        active, channels = True, 1

        def __init__(self, callback: Any, **_: Any) -> None:
            self.callback = callback

        def __enter__(self) -> None:
            block = np.full((800, 1), 0.25, np.float32)
            for number in range(20):
                status = SimpleNamespace(input_overflow=number == 10)
                self.callback(block, 800, None, status)
            threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()

        def __exit__(self, *_: object) -> None: ...

    fake.InputStream = InputStream
    fake.query_devices = lambda *_: {
        "default_samplerate": 16_000.0, "max_input_channels": 1, "name": "Mic",
    }  # fmt: skip
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    before = signal.getsignal(signal.SIGINT)
    result = cli("stream", fake_model(), "--microphone", *HOP)
    assert result.code == 130
    assert signal.getsignal(signal.SIGINT) is before
    rows = rows_of(result.out)
    errors = [row["error"] for row in rows if row["error"]]
    assert len(errors) == 1
    assert "input overflow" in errors[0]
    assert sum(row["score"] == pytest.approx(2.5) for row in rows) == 2 * 19
    assert "stopped after 1.000 s" in result.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_program_with_complete_rows(
    slow_program: tuple[list[str], Path], number: int
) -> None:
    program, model = slow_program
    process = subprocess.Popen(
        [*program, "stream", os.fspath(model), "-", "--format", "s16le", "--hop-s", "0.025"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(np.full(1_600, 8_192, "<i2").tobytes())
    process.stdin.flush()
    rows = [json.loads(process.stdout.readline()) for _ in range(3)]  # at once, not at the end
    assert [row["start_s"] for row in rows] == [0.0, 0.025, 0.05]
    time.sleep(0.2)  # until it waits for more
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out == b""
    assert b"Traceback" not in err
    assert b"stopped after 0.100 s" in err


def test_a_reader_that_goes_away_ends_the_stream_without_a_traceback(
    slow_program: tuple[list[str], Path], tmp_path: Path
) -> None:
    program, model = slow_program
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(160_000), 16_000)
    process = subprocess.Popen(
        [*program, "stream", os.fspath(model), os.fspath(path), "--hop-s", "0.025"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


def test_rows_go_to_stdout_while_a_terminal_follows_them(
    cli: Any,
    fake_model: Callable[..., Path],
    stdin: Callable[..., None],
    falling: NDArray[np.int16],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(live_view, "stderr", Console(file=shown, force_terminal=True, width=120))
    stdin(falling.tobytes())
    check_falling(rows_of(cli("stream", fake_model(), "-", *HOP, "--format", "s16le").out))
    assert "39 windows, 0 gaps" in shown.getvalue()


class TestLiveView:
    """What a person sees on a terminal."""

    @pytest.fixture
    def screen(self, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
        shown = io.StringIO()
        console = Console(file=shown, force_terminal=True, width=120)
        monkeypatch.setattr(live_view, "stderr", console)
        return shown

    def test_it_shows_score_decision_history_level_and_gaps(self, screen: io.StringIO) -> None:
        heard = Heard(peak=0.5)
        with LiveView(heard, 0.0) as view:
            assert "waiting for the first window" in view.picture(0.5).plain
            rows = [
                WindowRow(
                    start_s=0, end_s=4, score=score, index=0, p_spoof=0.25,
                    decision=decision(score, 0.0),
                )
                for score in (3.0, -2.5)
            ]  # fmt: skip
            view.show(65.0, rows)
            text = view.picture(65.0).plain
            assert "00:01:05  score   -2.500  spoof  P(spoof) 0.250" in text
            assert "history █▁  -2.50 to +3.00" in text
            assert "-6.0 dBFS" in text
            assert "2 windows, 0 gaps" in text
            heard.peak = 1.0
            view.show(70.0, [WindowRow(start_s=61.0, end_s=62.0, error="gap: lost", is_gap=True)])
            text = view.picture(70.0).plain
            assert "clipped" in text
            assert "2 windows, 1 gaps; last: 00:01:01 gap: lost" in text
        assert "score   -2.500" in screen.getvalue()

    def test_it_shows_windows_without_a_score_and_silence(self, screen: io.StringIO) -> None:
        view = LiveView(Heard(), None)
        view.show(4.0, [WindowRow(start_s=0, end_s=4, index=0, speech=0.1)])
        assert "no score: not enough speech" in view.picture(4.0).plain
        assert "silence" in view.picture(4.0).plain
        del screen

    def test_its_memory_is_bounded(self, screen: io.StringIO) -> None:
        view = LiveView(Heard(), None, enabled=False)
        for index in range(1_000):
            view.show(1.0, [WindowRow(start_s=0, end_s=1, score=float(index), index=index)])
        assert len(view._scores) == live_view.HISTORY
        assert screen.getvalue() == ""
