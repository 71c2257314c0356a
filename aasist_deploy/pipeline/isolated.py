"""Decoding in processes of their own, so that a file that crashes a decoder costs only its row.

Decoders are native code; a fault in one ends its process, and no thread survives that. Here the
process that ends is one of a few small ones. It is replaced, the file is tried once more in the new
one, and if that ends too, the file gets a row that says so.
"""

from __future__ import annotations

import mmap
import os
import select
import subprocess
import sys
import threading
from collections import deque
from contextlib import closing, suppress
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, Final, cast

import numpy as np

from aasist_deploy.errors import AudioError, EnvironmentLacks
from aasist_deploy.pipeline.children import (
    environment,
    how_it_ended,
    input_facts,
    receive,
    send,
)
from aasist_deploy.pipeline.stages import PIECE_SAMPLES, About, Piece

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from aasist_deploy.inputs import AudioInput
    from aasist_deploy.pipeline.stages import Wanted

_COMMAND: Final = (sys.executable, "-m", "aasist_deploy.pipeline.decode_worker")
_MEMORY_BYTES: Final = 4 * PIECE_SAMPLES
_ATTEMPTS: Final = 2  # a process can also end because the machine ran out of memory: try once more
SILENCE_S: Final = 300.0  # without an answer a decoder hangs; a piece takes milliseconds
_LOST_STARTS: Final = 5  # that the system ended, one after the other: it has no memory left
_START_S: Final = 120.0  # until a process has imported what it needs; a second on an idle machine


def can_isolate() -> bool:
    """Whether this system has what it takes: memory that processes share by a descriptor."""
    return hasattr(os, "memfd_create")


class _DeadError(Exception):
    """The process has ended, or was ended because it hung."""


class _HungError(_DeadError):
    """The process did not answer and was ended."""


class _Process:
    def __init__(self, command: Sequence[str], silence_s: float) -> None:
        self._silence_s = silence_s
        descriptor = os.memfd_create("samples", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, _MEMORY_BYTES)
            self._memory = np.frombuffer(mmap.mmap(descriptor, _MEMORY_BYTES), np.float32)
            self._process = subprocess.Popen(  # noqa: S603  # our own program
                [*command, str(descriptor), str(_MEMORY_BYTES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(descriptor,),
                start_new_session=True,  # Ctrl-C of the terminal is for the parent
                env=environment(),
            )
        finally:
            os.close(descriptor)
        self.ready = False  # it has begun to take requests
        self._hung = False

    def pieces(self, source: AudioInput, wanted: Wanted) -> Generator[Piece, None, None]:
        """See `Decoders`; raises `_DeadError` when the process ends or hangs."""
        if not self.ready:
            self._answer(max(_START_S, self._silence_s))
            self.ready = True
        self._say({**input_facts(source), "wanted": asdict(wanted)}, source.content or b"")
        finished = False
        try:
            while not finished:
                answer = self._answer(self._silence_s)
                if "error" in answer:
                    finished = True
                    raise AudioError(answer["error"], fix=answer["fix"])  # noqa: TRY301  # no damage
                about = answer["about"]
                finished = about is not None
                samples = self._memory[: answer["n"]].copy()
                yield Piece(samples, answer["joined"], about and About(**about))
                if not finished:
                    self._say({"more": True})
        except GeneratorExit:
            if not finished:
                with suppress(_DeadError):  # whoever has it next will see
                    self._say({"more": False})
            raise
        except (AudioError, _DeadError):
            raise
        except BaseException:  # Ctrl-C: what it answers next would be taken for another file's
            self._process.kill()
            self._process.wait()
            raise

    def has_ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

    def was_killed(self) -> bool:
        """Whether, having ended, it did not do so by itself, nor because it hung."""
        return self._process.returncode < 0 and not self._hung

    def how_it_ended(self) -> str:
        """Why the process is no more, a part of a sentence."""
        self.end()
        return how_it_ended(self._process.returncode)

    def end(self) -> None:
        """End the process and wait for it."""
        streams: tuple[IO[bytes] | None, ...] = (self._process.stdin, self._process.stdout)
        for stream in streams:
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, message: dict[str, object], content: bytes = b"") -> None:
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, message, content)  # type: ignore[arg-type]
        except (OSError, ValueError) as error:  # it has ended, or is being ended
            raise _DeadError from error

    def _answer(self, within_s: float) -> dict[str, Any]:
        stream = self._process.stdout
        assert stream is not None
        # Nothing is ever left in the stream's buffer: one answer comes to one request.
        try:
            poll = select.poll()
            poll.register(stream, select.POLLIN)
            if not poll.poll(within_s * 1000):
                self._hung = True
                self._process.kill()
                raise _HungError(f"no answer for {within_s:g} seconds")
            answer = receive(stream)  # type: ignore[arg-type]
        except ValueError as error:  # it is being ended
            raise _DeadError from error
        if answer is None:
            raise _DeadError
        return answer


class _Turn:
    """A file's place in the queue for a process."""

    __slots__ = ("_given", "is_over", "process")

    def __init__(self) -> None:
        self._given = threading.Lock()
        self._given.acquire()  # released with the process
        self.process: _Process | None = None
        self.is_over = False  # nobody waits for it any more

    def give(self, process: _Process) -> None:
        self.process = process
        self._given.release()

    def wait(self) -> _Process:
        self._given.acquire()
        assert self.process is not None
        return self.process


class InProcesses:
    """Decodes in processes; a process that dies is replaced, and its file named.

    Threads may share it; it decodes as many files at a time as it has processes. Files get their
    process in the order in which `pieces` was called for them: a file holds its process until its
    last piece is taken, so whoever takes file after file would wait forever for one that had been
    overtaken by as many later ones as there are processes.

    Args:
        n_processes: How many, 1 or more. They are started at once and import while the caller
            goes on, e.g. opens its engine.
        command: What runs in them.
        silence_s: A process that does not answer for so long is ended.

    Raises:
        EnvironmentLacks: while decoding, when a process cannot even start.
    """

    def __init__(
        self,
        n_processes: int,
        *,
        command: Sequence[str] = _COMMAND,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._command, self._silence_s = command, silence_s
        self._lock = threading.RLock()  # files that are dropped may be collected at any place
        self._all: list[_Process] = []
        self._free: deque[_Process] = deque()
        self._turns: deque[_Turn] = deque()
        self._closed = False
        self._n_lost_starts = 0  # one after the other
        self.n_replaced = 0
        for _ in range(n_processes):
            self._free.append(self._new())

    def pieces(self, source: AudioInput, wanted: Wanted) -> Iterator[Piece]:
        """See `Decoders`."""
        turn = _Turn()
        with self._lock:
            self._turns.append(turn)
        self._hand_out()
        pieces = self._decoded(source, wanted, turn)
        next(pieces)  # from here on its `finally` gives the turn back, also if nobody asks it again
        return cast("Iterator[Piece]", pieces)

    def _decoded(self, source: AudioInput, wanted: Wanted, turn: _Turn) -> Iterator[Piece | None]:
        reasons: list[str] = []
        process: _Process | None = None
        try:
            yield None
            process = turn.wait()
            while len(reasons) < _ATTEMPTS:
                if process.ready and process.has_ended():  # while it had nothing to do
                    process = self._replaced(process)
                given = False
                try:
                    # Closed before the process is anybody else's.
                    with closing(process.pieces(source, wanted)) as pieces:
                        for piece in pieces:
                            given = True
                            yield piece
                except _DeadError as death:
                    dead, how = process, str(death) or process.how_it_ended()
                    process = self._replaced(dead)
                    if not dead.ready:
                        self._refuse_further_starts(dead, how)
                        continue
                    reasons.append(how)
                    # What was given cannot be taken back, and what hangs would hang again.
                    if given or isinstance(death, _HungError):
                        break
                else:
                    self._n_lost_starts = 0
                    return
        finally:
            with self._lock:
                turn.is_over = True
                process = turn.process if process is None else process
                if process is not None:
                    self._free.append(process)
            self._hand_out()
        times = "the process" if len(reasons) == 1 else f"{len(reasons)} processes"
        raise AudioError(
            f"{source.path} ended {times} that decoded it ({', '.join(reasons)}); it is left out.",
            fix="convert it with another program: ffmpeg -i FILE -ac 1 FILE.wav",
        )

    def close(self) -> None:
        """End the processes; a second call does nothing."""
        with self._lock:
            self._closed = True
            processes, self._all = self._all, []
        for process in processes:
            process.end()

    def _hand_out(self) -> None:
        """Give free processes to those whose turn it is."""
        with self._lock:
            while self._free and self._turns:
                turn = self._turns.popleft()
                if not turn.is_over:
                    turn.give(self._free.popleft())

    def _new(self) -> _Process:
        try:
            process = _Process(self._command, self._silence_s)
        except OSError as error:
            raise EnvironmentLacks(
                f"A process for decoding cannot be started: {error.strerror or error}.",
                fix="decode in this process, --decode-in threads, or with fewer --decode-workers",
            ) from error
        with self._lock:
            self._all.append(process)
        return process

    def _replaced(self, process: _Process) -> _Process:
        process.end()
        with self._lock:
            if self._closed:  # nobody waits for what is decoded
                return process
            self._all.remove(process)
            self.n_replaced += 1
        return self._new()

    def _refuse_further_starts(self, dead: _Process, how: str) -> None:
        """Go on after a start that came to nothing if the system ended it, a few times.

        Raises:
            EnvironmentLacks: it ended by itself, or too many were ended.
        """
        self._n_lost_starts += 1
        if dead.was_killed() and self._n_lost_starts < _LOST_STARTS and not self._closed:
            return
        raise EnvironmentLacks(
            f"A process for decoding does not start ({how}); its own words are above.",
            fix="decode in this process: --decode-in threads",
        )
