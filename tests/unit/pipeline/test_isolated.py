"""Decoding in processes: the same samples, and a file that ends a process costs only its row."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.errors import AudioError, EnvironmentLacks
from aasist_deploy.inputs import AudioInput
from aasist_deploy.pipeline import InThreads, WindowRule, isolated, score_files
from aasist_deploy.pipeline.isolated import InProcesses, can_isolate
from aasist_deploy.pipeline.stages import PIECE_SAMPLES, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(not can_isolate(), reason="needs memfd_create (Linux)")

# The real process, but for names that say what it is to die of.
CRASHING = """
import os, signal, sys, time
from aasist_deploy.pipeline import decode_worker
real = decode_worker.sound_of
def sound_of(source, wanted):
    name = source.path.name
    if name.startswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("exit"):
        os._exit(7)
    if name.startswith("hang"):
        time.sleep(60)
    if name.startswith("once") and not os.path.exists(source.path.with_suffix(".tried")):
        source.path.with_suffix(".tried").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("half"):
        yield next(iter(real(source, wanted)))
        os.kill(os.getpid(), signal.SIGABRT)
    yield from real(source, wanted)
decode_worker.sound_of = sound_of
decode_worker.serve(int(sys.argv[1]), int(sys.argv[2]))
"""
COMMAND = (sys.executable, "-c", CRASHING)
FIRST = Wanted(sample_rate_hz=16_000, max_samples=801, whole=True)
ALL = Wanted(sample_rate_hz=16_000, max_samples=None, whole=False)


@pytest.fixture(scope="module")
def processes() -> Iterator[InProcesses]:
    decoders = InProcesses(2, command=COMMAND, silence_s=30.0)
    yield decoders
    decoders.close()


@pytest.fixture
def wav(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, level: float = 0.1, n_samples: int = 800) -> Path:
        path = tmp_path / name
        ramp = level * np.linspace(0.5, 1.5, n_samples, dtype=np.float32)
        soundfile.write(path, ramp, 16_000, subtype="FLOAT")
        return path

    return write


def samples_of(decoders: Any, source: AudioInput, wanted: Wanted) -> NDArray[np.float32]:
    return np.concatenate([piece.samples for piece in decoders.pieces(source, wanted)])


def test_samples_are_those_of_threads(processes: InProcesses, wav: Callable[..., Path]) -> None:
    path = wav("long.wav", 0.3, 3 * PIECE_SAMPLES + 17)
    long = AudioInput(path)
    inside = AudioInput(Path("x.tar/a.wav"), content=path.read_bytes())
    for source in (long, inside):
        for wanted in (FIRST, ALL):
            got = samples_of(processes, source, wanted)
            assert np.array_equal(got, samples_of(InThreads(), source, wanted))
    assert len(got) == 3 * PIECE_SAMPLES + 17


def test_errors_are_those_of_threads(processes: InProcesses, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9\n.wav")
    path.write_text("no audio")
    sources = AudioInput(path), AudioInput(Path("x.tar/b.wav"), content=b"no audio")
    for source in sources:
        messages = []
        for decoders in (processes, InThreads()):
            with pytest.raises(AudioError) as refused:
                samples_of(decoders, source, FIRST)
            messages.append((str(refused.value), refused.value.fix))
        assert messages[0] == messages[1]
        assert str(source.path) in messages[0][0]
        assert "/proc/self" not in messages[0][0]


def test_files_that_end_their_process_are_named_and_the_others_scored(
    processes: InProcesses, wav: Callable[..., Path], fake_engine: Any
) -> None:
    names = ["a.wav", "segv.wav", "b.wav", "exit.wav", "once.wav", "c.wav"]
    before = processes.n_replaced
    rows = list(
        score_files(fake_engine(), [wav(n) for n in names], decoders=processes, decode_workers=2)
    )
    errors = {row.path.name: row.error for row in rows}
    assert [row.path.name for row in rows] == names
    assert "segv.wav ended 2 processes that decoded it (SIGSEGV, SIGSEGV)" in str(
        errors["segv.wav"]
    )
    assert "(exit code 7, exit code 7)" in str(errors["exit.wav"])
    assert {n for n in names if errors[n] is None} == {"a.wav", "b.wav", "once.wav", "c.wav"}
    assert processes.n_replaced - before == 5


def test_process_that_ends_in_the_middle_of_a_file_gives_no_half_scored_row(
    processes: InProcesses, wav: Callable[..., Path], fake_engine: Any
) -> None:
    paths = [wav("half.wav", n_samples=2 * PIECE_SAMPLES), wav("d.wav")]
    half, other = score_files(
        fake_engine(), paths, decoders=processes, decode_workers=1, rule=WindowRule(n_windows=None)
    )
    assert "half.wav ended the process that decoded it (SIGABRT)" in str(half.error)
    assert half.score is None
    assert other.error is None


def test_decoder_that_hangs_is_ended(wav: Callable[..., Path], fake_engine: Any) -> None:
    decoders = InProcesses(1, command=COMMAND, silence_s=1.0)
    start = time.monotonic()
    try:
        paths = [wav("hang.wav"), wav("e.wav")]
        hang, other = score_files(fake_engine(), paths, decoders=decoders, decode_workers=1)
    finally:
        decoders.close()
    assert "no answer for 1 seconds" in str(hang.error)
    assert other.error is None
    assert time.monotonic() - start < 50


def test_file_left_in_the_middle_leaves_the_process_ready(
    processes: InProcesses, wav: Callable[..., Path]
) -> None:
    long = AudioInput(wav("long.wav", 0.3, 3 * PIECE_SAMPLES))
    for _ in range(4):
        pieces: Any = processes.pieces(long, ALL)
        next(pieces)
        pieces.close()
    assert len(samples_of(processes, AudioInput(wav("f.wav")), FIRST)) == 800


def test_process_that_cannot_start_is_no_fault_of_the_file(wav: Callable[..., Path]) -> None:
    decoders = InProcesses(1, command=(sys.executable, "-c", "raise SystemExit(3)"))
    try:
        with pytest.raises(EnvironmentLacks, match=r"does not start \(exit code 3\)"):
            samples_of(decoders, AudioInput(wav("g.wav")), FIRST)
    finally:
        decoders.close()


def test_files_get_their_process_in_the_order_in_which_they_were_given(
    processes: InProcesses, wav: Callable[..., Path]
) -> None:
    """Else the first file waits for a process, and they wait for whoever takes file after file."""
    long = AudioInput(wav("long.wav", 0.3, 3 * PIECE_SAMPLES))
    files = [processes.pieces(long, ALL) for _ in range(5)]
    dropped: Any = files.pop(2)  # it was never begun, and keeps nobody waiting
    dropped.close()
    with ThreadPoolExecutor(5) as pool:
        # As the threads that decode do, the last ones first: a first piece, and then no more until
        # the files before are through.
        later = [pool.submit(next, pieces) for pieces in reversed(files[2:])]
        time.sleep(0.1)
        try:
            for pieces in files[:2]:
                given = pool.submit(list, pieces).result(30)
                assert sum(len(piece.samples) for piece in given) == 3 * PIECE_SAMPLES
            for begun in later:
                begun.result(30)
        finally:  # nobody waits for ever, also where this fails
            for pieces in files[2:]:
                pool.submit(list, pieces)


@pytest.mark.parametrize("n_processes", [1, 2])
def test_run_that_is_ended_among_long_files_does_not_wait_for_them(
    n_processes: int, wav: Callable[..., Path], fake_engine: Any
) -> None:
    """Files that are begun hold all processes, and those behind them wait for one."""
    decoders = InProcesses(n_processes)
    long = [wav(f"{i}.wav", 0.3, 3 * PIECE_SAMPLES) for i in range(12)]

    def some_rows() -> list[Path]:
        rows: Any = score_files(
            fake_engine(),
            long,
            decoders=decoders,
            decode_workers=n_processes,
            batch=2,
            rule=WindowRule(n_windows=None, hop_s=10.0),
        )
        first = [next(rows).path for _ in range(2)]
        rows.close()
        return first

    with ThreadPoolExecutor(1) as pool:
        try:
            assert pool.submit(some_rows).result(60) == long[:2]
            assert decoders.n_replaced == 0
            assert len(samples_of(decoders, AudioInput(long[5]), ALL)) == 3 * PIECE_SAMPLES
        finally:
            decoders.close()  # ends what waits, also where this fails


def test_process_that_is_interrupted_within_a_file_answers_for_no_other(
    wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders = InProcesses(1)
    long, other = AudioInput(wav("k.wav", 0.3, 3 * PIECE_SAMPLES)), AudioInput(wav("l.wav"))
    try:
        pieces = decoders.pieces(long, ALL)
        next(pieces)

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(isolated, "receive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(pieces)
        expected = samples_of(InThreads(), other, FIRST)
        assert np.array_equal(samples_of(decoders, other, FIRST), expected)
    finally:
        decoders.close()


def test_process_that_ended_while_idle_is_no_fault_of_the_next_file(
    wav: Callable[..., Path],
) -> None:
    decoders = InProcesses(1, command=COMMAND)
    try:
        samples_of(decoders, AudioInput(wav("i.wav")), FIRST)
        (process,) = decoders._all
        process._process.kill()
        process._process.wait()
        # This one ends the next process too: were it blamed for both, it would be left out.
        assert len(samples_of(decoders, AudioInput(wav("once.wav")), FIRST)) == 800
    finally:
        decoders.close()
    assert decoders.n_replaced == 2


STARTING = """
import os, signal, sys
if len(os.listdir(sys.argv[1])) < int(sys.argv[2]):
    open(os.path.join(sys.argv[1], str(os.getpid())), "x").close()
    os.kill(os.getpid(), signal.SIGKILL)
from aasist_deploy.pipeline import decode_worker
decode_worker.serve(int(sys.argv[3]), int(sys.argv[4]))
"""


@pytest.mark.parametrize(("n_killed", "fits"), [(2, True), (99, False)])
def test_process_that_is_killed_while_it_starts_is_started_again_a_few_times(
    n_killed: int, fits: bool, wav: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "starts").mkdir()
    command = (sys.executable, "-c", STARTING, str(tmp_path / "starts"), str(n_killed))
    decoders = InProcesses(1, command=command)
    source = AudioInput(wav("j.wav"))
    try:
        if fits:
            assert len(samples_of(decoders, source, FIRST)) == 800
        else:
            with pytest.raises(EnvironmentLacks, match=r"does not start \(SIGKILL\)"):
                samples_of(decoders, source, FIRST)
    finally:
        decoders.close()
    assert decoders.n_replaced <= 5


def test_processes_end_with_their_parent(wav: Callable[..., Path]) -> None:
    decoders = InProcesses(1)
    samples_of(decoders, AudioInput(wav("h.wav")), FIRST)
    (process,) = decoders._all
    decoders.close()
    decoders.close()
    assert process._process.returncode is not None
    assert process._process.returncode != -signal.SIGKILL  # it went by itself


def test_processes_whose_parent_stops_while_they_start_say_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for _ in range(3):
        decoders = InProcesses(1)
        time.sleep(0.1)
        for process in decoders._all:
            stdin, stdout = process._process.stdin, process._process.stdout
            assert stdin is not None
            assert stdout is not None
            stdin.close()
            stdout.close()
            process._process.wait(timeout=60)  # by itself, once it has started
        decoders.close()
    assert capfd.readouterr().err == ""
