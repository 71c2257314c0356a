"""Event files that TensorBoard reads, by tensorboardX.

tensorboardX (MIT) is 0.7 MB, needs protobuf alone and is imported in 17 ms; `tensorboard`, which
torch.utils.tensorboard needs, brings gRPC and a web server: 55 MB and 130 ms. Its `SummaryWriter`
hands events to a thread through a queue that `flush` does not wait for; here they are written by
the caller, so that what is flushed is on the disk.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

if TYPE_CHECKING:
    from pathlib import Path

_FLUSH_S: Final = 5.0  # between writes to the disk while no one asks; a flush takes an fsync


class EventFile:
    """One event file in a folder of them.

    Args:
        folder: It is made.
        first_step: TensorBoard forgets what earlier files of the folder say of this step and all
            after it.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The writer's own name is the second it began in, and it empties a file of that name.
        number = sum(1 for _ in folder.glob("events.out.tfevents.*"))
        self._writer = EventsWriter(str(folder / "events"), f".{number:04d}")
        if number:
            session = SessionLog(status=SessionLog.START)
            self._write(Event(step=first_step, session_log=session))
        self.flush()

    def add(self, row: dict[str, Any]) -> None:
        """Add the figures of a row of the log as "kind/name", at its step."""
        for name, value in row.items():
            if name not in {"kind", "epoch", "step"} and type(value) in {int, float}:
                tag = f"{row['kind']}/{name}"
                self._write(Event(step=row["step"], summary=summary.scalar(tag, float(value))))
        if time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Bring everything to the disk."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, event: Any) -> None:  # noqa: ANN401  # a class made at run time by protobuf
        event.wall_time = time.time()
        self._writer.write_event(event)
