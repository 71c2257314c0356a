"""The lint of a trace: refuse a network that would export wrongly, and name the line that does it.

A graph that is to take any batch or any length must not hold a number that was right for the
example alone: `int(x.shape[1] * ratio)`, `x.view(8, -1)`, `if x.shape[1] > 500`. Three checks, each
of which names the line of the network's source:

1. It is traced with the size left open. Every assumption that the trace makes about the size is
   recorded with the line that asked for it, and must hold for all sizes.
2. The network is run as it is at other sizes: where it fails there, it cannot be exported for them.
3. It is traced at other sizes as well, each fixed, and compared operator by operator with the open
   trace: a number that differs there was taken from the example in a way that no tracer sees.
"""

from __future__ import annotations

import itertools
import logging
import re
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.fx.experimental import _config as _tracer_settings

from aasist_deploy.errors import UsageError
from aasist_deploy.export.trace_diff import (
    batch_lost,
    first_difference,
    input_sizes,
    rounded_fraction,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.export import ExportedProgram

    from aasist_deploy.export.inference_layers import InferenceNetwork

_GUARDS_LOG: Final = "torch.fx.experimental.symbolic_shapes"
_TORCH: Final = str(Path(torch.__file__).parent)
_SYMPY: Final = str(Path(_TORCH).parent / "sympy")  # which PyTorch calculates sizes with
_OURS: Final = str(Path(__file__).parents[1])
_PYTHON: Final = str(Path(logging.__file__).parents[1])
_EXAMPLE_BATCH: Final = 2
_BATCHES: Final = (1, 3)
_N_LENGTHS: Final = 16  # at which assumptions are checked
_AXES: Final = ("batch", "samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a trace must be right for.

    Attributes:
        batch: The fixed batch size, or None for any.
        n_samples: Length of the example, in samples.
        lengths: Shortest and longest wave, or None when the length is fixed.
    """

    batch: int | None
    n_samples: int
    lengths: tuple[int, int] | None

    @property
    def example(self) -> tuple[int, int]:
        """(batch, samples) of the example that is traced."""
        return self.batch or _EXAMPLE_BATCH, self.n_samples

    @property
    def others(self) -> list[tuple[int, int]]:
        """A few other sizes, at which the network is run."""
        batch, n_samples = self.example
        found = []
        if self.batch is None:
            found += [(3, n_samples), (1, n_samples)]
        if self.lengths is not None:
            shortest, longest = self.lengths
            wanted = (shortest, n_samples + 1_001, 3 * n_samples // 2)
            found += [(batch, min(max(n, shortest), longest)) for n in wanted]
        return [size for size in dict.fromkeys(found) if size != self.example]

    @property
    def many(self) -> list[tuple[int, int]]:
        """Many sizes, at which assumptions are checked."""
        batch, n_samples = self.example
        batches = [batch, *(_BATCHES if self.batch is None else ())]
        samples = [n_samples]
        if self.lengths is not None:
            shortest, longest = self.lengths
            step = max(1, (longest - shortest) // _N_LENGTHS)
            samples += [shortest, shortest + 1, *range(shortest, longest, step), longest]
        return list(itertools.product(batches, samples))


@dataclass(slots=True)
class _Assumptions(logging.Handler):
    """Where the tracer made each assumption: it says so in its log, while the caller's frames live.

    Attributes:
        places: The assumption as text -> the frames that led to it.
    """

    places: dict[str, traceback.StackSummary] = field(default_factory=dict)

    def __post_init__(self) -> None:
        logging.Handler.__init__(self, logging.INFO)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the frames of a record on an assumption."""
        if "[guard added]" in str(record.msg) and isinstance(record.args, tuple):
            stack = traceback.StackSummary.from_list(traceback.extract_stack()[:-1])
            self.places.setdefault(str(record.args[1]), stack)


def trace(form: InferenceNetwork, sizes: Sizes, *, as_it_is: bool) -> ExportedProgram:
    """Trace a deployed form for all sizes that are asked for.

    Args:
        form: Takes (B, N) waves; in evaluation mode.
        sizes: What the trace must be right for.
        as_it_is: It is no rewrite of ours: it is also run and traced at other sizes.

    Returns:
        A program whose open axes are symbols.

    Raises:
        UsageError: it would be wrong at another size, with the line that causes it.
    """
    if not as_it_is:
        # Known to be right at every size, which the self-check shows again.
        return _exported(form, sizes.example, _named_axes(sizes), assert_later=True)
    axes = dict.fromkeys(_named_axes(sizes), torch.export.Dim.AUTO)
    assumptions = _Assumptions()
    with _listening(assumptions):
        program = _exported(form, sizes.example, axes)
    _check_assumptions(program, sizes, assumptions.places)
    for size, shape in _run_elsewhere(form, sizes).items():
        if shape != (size[0], 2):
            raise _refused(
                f"at {_said(size, sizes)} its output has the shape {shape}, not ({size[0]}, 2)",
                batch_lost(program),
            )
    if axes and (frames := rounded_fraction(program)) is not None:
        raise _refused(
            "a fraction of a size is rounded to a whole number, which runtimes do in float32 and "
            "Python in float64: the two differ at some sizes",
            frames,
        )
    for size in sizes.others if axes else ():
        difference = first_difference(program, _exported(form, size, {}), size)
        if difference is not None:
            what, frames = difference
            raise _refused(
                f"at {_said(size, sizes)} {what}, so a number in the graph is that of the example",
                frames,
            )
    return program


def _named_axes(sizes: Sizes) -> dict[int, Any]:
    """The open axes of the wave."""
    axes: dict[int, Any] = {}
    if sizes.batch is None:
        axes[0] = torch.export.Dim("batch", min=1)
    if sizes.lengths is not None:
        axes[1] = torch.export.Dim("samples", min=sizes.lengths[0], max=sizes.lengths[1])
    return axes


def _run_elsewhere(form: nn.Module, sizes: Sizes) -> dict[tuple[int, int], tuple[int, ...]]:
    """The shape of the output at other sizes."""
    shapes = {}
    for size in sizes.others:
        try:
            with torch.no_grad():  # a cache of the network stays usable for the trace
                output = form(torch.zeros(size))[1]
        except Exception as error:  # whatever the network raises
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise _refused(
                f"it fails at {_said(size, sizes)} ({reason})", _frames(error)
            ) from error
        shapes[size] = tuple(output.shape)
    return shapes


def _exported(
    form: nn.Module, size: tuple[int, int], axes: dict[int, Any], *, assert_later: bool = False
) -> ExportedProgram:
    try:
        # As torch.onnx.export traces: without questions of how memory lies, whose answers for every
        # size take minutes of algebra.
        with (
            warnings.catch_warnings(),
            _tracer_settings.patch(backed_size_oblivious=True),  # type: ignore[attr-defined]
        ):
            warnings.simplefilter("ignore")  # the tracer's own deprecations
            return torch.export.export(
                form,
                (torch.zeros(size),),
                dynamic_shapes=(axes,) if axes else None,
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=assert_later,
            )
    except Exception as error:  # the tracer raises what the network raises, and a dozen of its own
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise _refused(f"it cannot be traced ({reason})", _frames(error)) from error


def _check_assumptions(
    program: ExportedProgram, sizes: Sizes, places: dict[str, traceback.StackSummary]
) -> None:
    """Refuse an assumption of the trace that does not hold for every size."""
    symbols, guards = input_sizes(program)
    for guard in guards:
        frames = places.get(str(guard.expr))
        # Inside PyTorch's own code the tracer also asks how memory lies ("is this axis 1?"); the
        # answer changes no value. An equation with a number, or any question that the network's own
        # code asks, decides what is computed.
        decides = "Eq(" in str(guard.expr) or (frames is not None and _asked_by_network(frames))
        if not decides or guard.expr.free_symbols - set(symbols):
            continue
        broken = _broken_at(guard.expr, symbols, sizes)
        if broken is not None:
            raise _refused(
                f"the trace holds only where {_readable(guard.expr, symbols)}, which is not so at "
                f"{_said(broken, sizes)}",
                frames,
            )


def _broken_at(
    expression: Any,  # noqa: ANN401  # sympy, which has no types
    symbols: dict[Any, int],
    sizes: Sizes,
) -> tuple[int, int] | None:
    """The first size at which the assumption is wrong."""
    for size in sizes.many:
        values = {symbol: size[axis] for symbol, axis in symbols.items()}
        if str(expression.subs(values)) == "False":
            return size
    return None


def _refused(why: str, frames: traceback.StackSummary | None) -> UsageError:
    line = _line(frames)
    place = f"; see {line.filename}:{line.lineno}: {line.line}" if line is not None else ""
    return UsageError(
        f"The network cannot be exported so: {why}{place}",
        fix="take every size from the tensor and calculate with whole numbers (x.shape[0], "
        "x.shape[1] // 2, x.mean(1)), or fix it: --batch N, --samples N",
    )


def _line(frames: traceback.StackSummary | None) -> traceback.FrameSummary | None:
    """The innermost line of the network: of the user's code, or else of ours."""
    within = _of_network(frames or [])
    known = [f for f in within if not f.filename.startswith((_TORCH, _SYMPY))]
    theirs = [f for f in known if not f.filename.startswith(_OURS)]
    return next(reversed(theirs or known), None)


def _asked_by_network(frames: traceback.StackSummary) -> bool:
    """Whether the network's own code asked, past the wrappers around Python's operators."""
    wrappers = (str(Path(_TORCH, "fx")), str(Path(_TORCH, "__init__.py")), _SYMPY)
    asked = [f for f in _of_network(frames) if not f.filename.startswith(wrappers)]
    return bool(asked) and not asked[-1].filename.startswith(_TORCH)


def _of_network(frames: Sequence[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The frames below this module's own, without those of Python's library."""
    last = max((i for i, f in enumerate(frames) if f.filename == __file__), default=-1)
    return [
        f
        for f in frames[last + 1 :]
        if not f.filename.startswith("<")
        and (not f.filename.startswith(_PYTHON) or "site-packages" in f.filename)
    ]


def _frames(error: BaseException) -> traceback.StackSummary:
    return traceback.extract_tb(error.__traceback__)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "").rstrip(".")


def _readable(expression: object, symbols: dict[Any, int]) -> str:
    text = str(expression)
    for symbol, axis in symbols.items():
        text = re.sub(rf"\b{symbol}\b", _AXES[axis], text)
    return text


def _said(size: tuple[int, int], sizes: Sizes) -> str:
    batch = f"batch {size[0]}" if size[0] != sizes.example[0] else ""
    samples = f"{size[1]} samples" if size[1] != sizes.n_samples else ""
    return " and ".join(part for part in (batch, samples) if part) or "the example"


@contextmanager
def _listening(handler: logging.Handler) -> Iterator[None]:
    """Hear the tracer's log and keep it from everybody else's handlers."""
    log = logging.getLogger(_GUARDS_LOG)
    kept = log.level, log.propagate, log.handlers[:]
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.setLevel(kept[0])
        log.propagate = kept[1]
        log.handlers[:] = kept[2]
