"""What Ray says in the terminal of a run: its log keeps it, and ours what happens to the cluster.

Standard output belongs to rows, where Ray would write that a process of the cluster died.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

_CORE_LEVEL: Final = "RAY_BACKEND_LOG_LEVEL"
_MOST_CHARACTERS: Final = 300  # of a message; the rest is general advice


@contextmanager
def quiet_start() -> Iterator[None]:
    """While Ray begins: set what its core may say, and leave out that it was set.

    Of each actor of Ray Data the core says as an error that it might not be started again. It is no
    Python and writes to the descriptor of standard error.
    """
    os.environ.setdefault(_CORE_LEVEL, "fatal")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if _CORE_LEVEL.encode() not in line:
                    os.write(2, line)


def quiet_run() -> None:
    """Before a data set is made: keep its plans and statistics to Ray's log."""
    for handler in logging.getLogger("ray.data").handlers:
        of_ray = type(handler).__module__.partition(".")[0] == "ray"  # and nobody else's
        if of_ray and isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
    # It warns of runs too short for all tasks and actors.
    for bound in ("maximum", "minimum"):
        warnings.filterwarnings("ignore", f"The {bound} number of concurrent", UserWarning)


@contextmanager
def messages_in_log() -> Iterator[None]:
    """Have what Ray tells of the cluster in our log, and not in standard output."""
    from ray._private import worker  # there is no public way

    before = worker.print_to_stdstream
    worker.print_to_stdstream = _in_our_log
    try:
        yield
    finally:
        worker.print_to_stdstream = before


def _in_our_log(data: Mapping[str, Any], ignore_prefix: bool) -> None:  # noqa: ARG001
    for line in data["lines"]:
        log.info("%s: %s", data.get("pid"), " ".join(str(line).split())[:_MOST_CHARACTERS])
