"""Ctrl-C and SIGTERM as a wish that a loop sees, so that it can end with complete output."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """While it is entered, in the main thread: the first signal is noted, the second interrupts.

    `fileno()` becomes readable with the first, so that a wait for samples ends too; it is an
    `aasist_deploy.audio.Stop`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that ended by this signal: 128 + its number."""
        return 128 + (self.signal or signal.SIGINT)

    def fileno(self) -> int:
        """A descriptor that becomes readable with the first signal."""
        return self._read_end

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        self._before = []
        if threading.current_thread() is threading.main_thread():
            self._before = [(number, signal.signal(number, self._note)) for number in _SIGNALS]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)
        os.close(self._read_end)
        os.close(self._write_end)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.signal = number
        os.write(self._write_end, b"!")
