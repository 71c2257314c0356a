"""Which samples each encoder frame of a window sees, and what a stream must carry to make it once.

An encoder is a chain of stages; a stage is convolutions of stride 1 and a max-pool along time. From
kernels, strides and paddings alone follow, for windows of N samples that start at whole frames:

- the length at every level, with what each pool drops at its end;
- which outputs of a level see the zero padding at the window's start (`first`) and end (`last`);
  all others are those of one long encoding of the stream, whatever window they are in;
- what is carried at every level from one call to the next, so that nothing is computed twice;
- which columns at a frame boundary the `first` outputs of a window are computed from.

All positions are whole numbers counted from the start of a window; nothing is rounded or assumed of
a particular network. `StreamGeometry` refuses a chain for which the scheme does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from aasist_deploy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution along time, of stride 1.

    Attributes:
        kernel: Taps.
        padding: Zeros on each side.
    """

    kernel: int
    padding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Convolutions, one after another, then a max-pool whose stride is its width.

    Output i sees the inputs from `pool * i - left` to `pool * i + right`.

    Attributes:
        path: A way through the stage.
        skip: Another whose result is added before the pool; empty for a plain addition,
            None where there is none.
        pool: Width and stride of the max-pool.
    """

    path: tuple[Convolution, ...]
    pool: int
    skip: tuple[Convolution, ...] | None = None

    @property
    def left(self) -> int:
        """Inputs before the first of its own that an output sees."""
        return max(sum(conv.padding for conv in way) for way in self._ways)

    @property
    def right(self) -> int:
        """Inputs after the first of its own that an output sees."""
        after = (sum(conv.kernel - 1 - conv.padding for conv in way) for way in self._ways)
        return max(after) + self.pool - 1

    @property
    def _ways(self) -> tuple[tuple[Convolution, ...], ...]:
        return (self.path,) if self.skip is None else (self.path, self.skip)

    @property
    def n_spoiled(self) -> int:
        """Outputs at the start of any input that see the padding before it."""
        return -(-self.left // self.pool)

    def n_outputs(self, n_inputs: int) -> int:
        """Outputs of an input of this length, alone and padded."""
        return (n_inputs + _grown(self.path)) // self.pool


def _grown(path: tuple[Convolution, ...]) -> int:
    """Columns by which a way makes its input longer."""
    return sum(2 * conv.padding - conv.kernel + 1 for conv in path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The input of one stage, in a window and in a stream.

    Attributes:
        length: Columns in a window alone.
        n_first: Columns at the window's start that see padding, in a window alone.
        n_last: Columns at its end that see padding.
        n_state: Columns that a stream carries to the next call: what its new outputs see of the
            past, from a multiple of the pool on.
        n_after: Outputs after the new ones, when these columns and those of a call are given to
            the stage; they see the padding after them.
        n_taps: Columns from `n_first` on that the `first` columns of the next level are made of.
        taps_at: Where the taps of the oldest boundary of a call start, counted from the start of
            what was carried.
        lag: The newest boundary whose taps are complete, in frames after the start of the window
            that ends with the call.
        columns_per_frame: Columns between two frame boundaries.
    """

    length: int
    n_first: int
    n_last: int
    n_state: int
    n_after: int
    n_taps: int
    taps_at: int
    lag: int
    columns_per_frame: int


@dataclass(frozen=True)
class StreamGeometry:
    """How the frames of sliding windows are made of a stream.

    Args:
        stages: The encoder from samples to frames.
        window_samples: Samples of a window.

    Raises:
        UsageError: the scheme does not hold for such an encoder or window.
    """

    stages: tuple[Stage, ...]
    window_samples: int

    def __post_init__(self) -> None:
        """Refuse what would not be exact."""
        for number, stage in enumerate(self.stages):
            self._check_stage(number, stage)
        if self.n_inner < 2 or self.n_first < 1 or self.boundary_lag < 1:
            raise UsageError(
                f"A window of {self.window_samples} samples has {self.n_frames} frames, and all of "
                f"them see its edges: there is nothing that windows could share.",
                fix="score windows of at least four frames, or each window alone",
            )

    @cached_property
    def frame_samples(self) -> int:
        """Samples from one frame to the next: the pools multiplied."""
        return prod(stage.pool for stage in self.stages)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Columns of a window at every level, samples first, frames last."""
        found = [self.window_samples]
        for stage in self.stages:
            found.append(stage.n_outputs(found[-1]))
        return tuple(found)

    @cached_property
    def firsts(self) -> tuple[int, ...]:
        """Columns at the start of each level that see padding."""
        found = [0]
        for stage in self.stages:
            found.append(-(-(found[-1] + stage.left) // stage.pool))
        return tuple(found)

    @cached_property
    def ready(self) -> tuple[int, ...]:
        """Columns from a window's start that need nothing beyond its last sample, nor padding."""
        found = [self.window_samples]
        for stage in self.stages:
            found.append((found[-1] - 1 - stage.right) // stage.pool + 1)
        return tuple(found)

    @cached_property
    def n_lasts(self) -> tuple[int, ...]:
        """Columns at the end of each level that see padding."""
        return tuple(n - ready for n, ready in zip(self.lengths, self.ready, strict=True))

    @property
    def n_frames(self) -> int:
        """Frames of a window."""
        return self.lengths[-1]

    @property
    def n_first(self) -> int:
        """Frames at a window's start that are its own."""
        return self.firsts[-1]

    @property
    def n_last(self) -> int:
        """Frames at a window's end that are its own."""
        return self.n_lasts[-1]

    @property
    def n_inner(self) -> int:
        """Frames that a window shares with every other window that holds them."""
        return self.ready[-1] - self.firsts[-1]

    @property
    def lead_samples(self) -> int:
        """Samples before a stream's first one that make calls of whole frames end with a window."""
        return -self.window_samples % self.frame_samples

    @property
    def first_call_frames(self) -> int:
        """Frames that must be given, the lead among them, until the first window is complete."""
        return (self.window_samples + self.lead_samples) // self.frame_samples

    @property
    def frame_reach(self) -> tuple[int, int]:
        """Samples that a frame sees, before and after its first own one (the last included)."""
        left = right = 0
        for stage in reversed(self.stages):
            left = left * stage.pool + stage.left
            right = right * stage.pool + stage.right
        return left, right

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """What is carried and taken at the input of every stage."""
        found = []
        for index, stage in enumerate(self.stages):
            columns = prod(s.pool for s in self.stages[index:])
            n_first, n_next = self.firsts[index], self.firsts[index + 1]
            ready = self.ready[index]
            last_tap = stage.pool * (n_next - 1) + stage.right
            n_taps = last_tap + 1 - n_first if n_next else 0
            n_state = ready - stage.pool * (self.ready[index + 1] - stage.n_spoiled)
            lag = (ready - 1 - last_tap) // columns
            taps_at = columns * (lag + 1) + n_first - ready + n_state
            found.append(
                Level(
                    length=self.lengths[index],
                    n_first=n_first,
                    n_last=self.n_lasts[index],
                    n_state=n_state,
                    n_after=stage.n_outputs(n_state) - stage.n_spoiled,
                    n_taps=n_taps,
                    taps_at=taps_at,
                    lag=lag,
                    columns_per_frame=columns,
                )
            )
        return tuple(found)

    @property
    def boundary_lag(self) -> int:
        """The newest boundary whose taps are complete at every level, as `Level.lag`."""
        return min(level.lag for level in self.levels if level.n_taps)

    def _check_stage(self, number: int, stage: Stage) -> None:
        kernels = [conv.kernel for conv in (*stage.path, *(stage.skip or ()))]
        if stage.pool < 1 or any(kernel < 1 for kernel in kernels):
            raise UsageError(f"Stage {number} of the encoder has no size along time: {stage}.")
        padded = [conv for conv in (*stage.path, *(stage.skip or ())) if conv.padding]
        if any(2 * conv.padding != conv.kernel - 1 for conv in padded):
            raise UsageError(
                f"Stage {number} of the encoder has a convolution whose padding is neither 0 nor "
                f"half of its kernel: {stage}.",
                fix="score each window alone",
            )
        if stage.skip is not None and _grown(stage.skip) != _grown(stage.path):
            raise UsageError(
                f"Stage {number} of the encoder adds two ways of different lengths: {stage}.",
                fix="score each window alone",
            )
