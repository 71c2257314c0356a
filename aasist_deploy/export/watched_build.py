"""TensorRT's builder in a thread of its own: progress to watch, and Ctrl-C that ends it cleanly.

The builder runs for minutes inside one call. An exception that left one of its callbacks would pass
through foreign code, so none does: the callback keeps it, asks TensorRT to stop, and it is raised
when the call has returned. The calling thread only waits, so that Ctrl-C arrives there.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.engines.tensorrt_runtime import TensorRt

T = TypeVar("T")


@dataclass(slots=True)
class _Phase:
    parent: str | None
    n_steps: int
    done: int = 0


class Watch:
    """Follows the phases of one build, and stops it when asked.

    Args:
        progress: Called with the name of the innermost phase and the finished part, 0 to 1, which
            never goes back. An exception of it stops the build.
    """

    def __init__(self, progress: Callable[[str, float], None] | None = None) -> None:
        self._progress = progress
        self._phases: dict[str, _Phase] = {}
        self._part = 0.0
        self._lock = threading.Lock()  # TensorRT reports from several threads
        self._stopped = False
        self._error: BaseException | None = None

    def stop(self) -> None:
        """Ask TensorRT to end the build at its next step."""
        self._stopped = True

    def reraise(self) -> None:
        """Raise what `progress` raised, now that no foreign code is between."""
        if self._error is not None:
            raise self._error

    def phase_start(self, name: str, parent: str | None, n_steps: int) -> None:
        """A phase begins; `parent` is the one that it is a step of."""
        self._phases[name] = _Phase(parent or None, max(n_steps, 1))
        self._report(name)

    def step_complete(self, name: str, step: int) -> bool:
        """One step, counted from 0, of a phase is done; False asks TensorRT to stop."""
        if name in self._phases:
            self._phases[name].done = step + 1
            self._report(name)
        return not self._stopped

    def phase_finish(self, name: str) -> None:
        """A phase ends."""
        phase = self._phases.pop(name, None)
        if phase is not None and phase.parent is None:
            self._report(name, finished=True)

    def monitor(self, tensorrt: TensorRt) -> Any | None:  # noqa: ANN401  # a class of the module
        """This watch as an `IProgressMonitor`; None where the version has none."""
        base: Any = getattr(tensorrt.module, "IProgressMonitor", None)
        if base is None:
            return None
        watch = self

        class Monitor(base):  # type: ignore[misc]  # the base class is known at run time only
            """Hands TensorRT's reports to the watch."""

            def __init__(self) -> None:
                base.__init__(self)

            def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
                watch.phase_start(phase_name, parent_phase, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                return watch.step_complete(phase_name, step)

            def phase_finish(self, phase_name: str) -> None:
                watch.phase_finish(phase_name)

        return Monitor()

    def _report(self, name: str, *, finished: bool = False) -> None:
        if self._progress is None or self._stopped:
            return
        with self._lock:
            self._part = 1.0 if finished else max(self._part, self._part_of(name))
            try:
                self._progress(name, self._part)
            except BaseException as error:  # noqa: BLE001  # raised again by `reraise`
                self._error, self._stopped = error, True

    def _part_of(self, name: str) -> float:
        """The finished part of all: each phase is one step of its parent."""
        part, current = 0.0, self._phases.get(name)
        seen = 0
        while current is not None and seen < 32:  # a loop of parents would be TensorRT's mistake
            part = min((current.done + part) / current.n_steps, 1.0)
            current = None if current.parent is None else self._phases.get(current.parent)
            seen += 1
        return part


class _Thread(threading.Thread, Generic[T]):
    """A thread whose result or exception can be taken."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="tensorrt-builder")
        self._work = work
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
            self.error = error


def run_watched(work: Callable[[], T], watch: Watch) -> T:
    """Run `work` in another thread and wait; an interrupt stops the build, then goes on.

    Raises:
        BaseException: whatever `work` or the watch's `progress` raised, or the interrupt.
    """
    thread = _Thread(work)
    thread.start()
    try:
        thread.join()
    except BaseException:
        watch.stop()
        thread.join()
        raise
    watch.reraise()
    if thread.error is not None:
        raise thread.error
    return thread.result  # type: ignore[return-value]  # set: there was no error
