"""What all verbs share: error rendering, console streams, options with one meaning everywhere."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

from aasist_deploy.textfile import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rich.console import ConsoleOptions, RenderableType

    from aasist_deploy.errors import AasistDeployError

T = TypeVar("T")

# The remaining time is told from the progress of so long: a step of training can take a minute.
SPEED_PERIOD_S = 900.0


class SafeConsole(Console):
    """A console on which text cannot steer the terminal, whatever file or attack it names."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """The segments of what is printed, their text made visible."""
        for segment in super().render(renderable, options):
            harmless = segment.control is not None or segment.text.isprintable()
            yield segment if harmless else Segment(visible(segment.text), segment.style)


class _SafeFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


# Results go to stdout, everything a person watches goes to stderr.
stdout = SafeConsole(highlight=False, soft_wrap=True)
stderr = SafeConsole(stderr=True, highlight=False, soft_wrap=True)

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")
]


def print_json(result: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout; NaN never appears in it."""
    ascii_ = sys.stdout.isatty()  # JSON escapes what would steer a terminal only with this
    sys.stdout.write(json.dumps(result, indent=2, allow_nan=False, ensure_ascii=ascii_) + "\n")


def print_error(error: AasistDeployError) -> None:
    """Print the message and, below it, the fix, without interpreting markup in file names."""
    stderr.print(f"error: {error}", style="red", markup=False)
    if error.fix:
        stderr.print(f"Fix: {error.fix}", markup=False)


def configure_logging(verbosity: int) -> None:
    """Send the log to stderr: warnings by default, ours with -v, all that there is with -vv.

    Other libraries inform of each step: an export alone has hundreds.
    """
    level = logging.WARNING if verbosity < 2 else logging.DEBUG
    handler = logging.StreamHandler()
    handler.setFormatter(_SafeFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aasist_deploy").setLevel(logging.INFO if verbosity == 1 else logging.NOTSET)


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Progress]:
    """A progress bar on stderr that disappears when stderr is no terminal."""
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=stderr,
        disable=not stderr.is_terminal,
        speed_estimate_period=SPEED_PERIOD_S,
    ) as progress:
        progress.add_task(description, total=total)
        yield progress


def tracked(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    """Yield `items` while a progress bar advances by one for each."""
    with progress_bar(description, total) as progress:
        (task,) = progress.task_ids
        for item in items:
            yield item
            progress.advance(task)
