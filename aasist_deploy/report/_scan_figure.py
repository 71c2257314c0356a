"""A scanned recording as a picture: its scores, the threshold, and its wave below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from aasist_deploy.report._svg import BONAFIDE, INK, MUTED, RULE, SPOOF

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from aasist_deploy.streaming.scan import Recording


class Colors(NamedTuple):
    """What the parts of the picture are drawn in."""

    ink: str
    muted: str
    rule: str
    bonafide: str
    spoof: str


OF_PAGE: Final = Colors(INK, MUTED, RULE, BONAFIDE, SPOOF)
ON_PAPER: Final = Colors("#1d2125", "#5c646d", "#dcdfe2", "#1a62ad", "#b65300")
NOT_DECODED: Final = "It could not be decoded."
SIZE_INCHES: Final = (9.6, 3.6)
# Nice distances of labels on an axis of time, in seconds.
_STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200)
_MOST_LABELS: Final = 10


def draw_recording(
    figure: Any,  # noqa: ANN401  # a Figure or a SubFigure
    recording: Recording,
    threshold: float | None,
    colors: Colors,
) -> None:
    """Draw one recording into a figure or a part of one."""
    scores, wave = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _draw_scores(scores, recording, threshold, colors)
    _draw_wave(wave, recording, colors)
    end = max(recording.seconds, 1e-3)
    wave.set_xlim(0, end)
    step = next((s for s in _STEPS_S if end / s <= _MOST_LABELS), 86_400)
    ticks = np.arange(0, end + 1e-9, step)
    wave.set_xticks(ticks, [_time(tick, end) for tick in ticks])
    wave.set_xlabel("time, h:min:s" if end >= 3_600 else "time, min:s")


def _draw_scores(axes: Axes, recording: Recording, threshold: float | None, colors: Colors) -> None:
    assert recording.course is not None
    course = recording.course.arrays()
    middle = (course["start_s"] + course["end_s"]) / 2
    if threshold is not None:
        axes.axhline(threshold, color=colors.ink, linewidth=0.9, linestyle=(0, (4, 3)))
    merged = np.nan_to_num(course["max"] - course["min"]).max(initial=0) > 0
    if merged:  # each point stands for several windows: show their range
        axes.fill_between(
            middle, course["min"], course["max"], color=colors.bonafide, alpha=0.25, linewidth=0
        )
    axes.plot(middle, course["mean"], color=colors.bonafide, linewidth=1.2)
    if threshold is not None:
        # What is decided for spoof differs by its marks too, not by its colour alone.
        low = course["min"] < threshold
        if not merged:  # of so many, marks would be a smear
            axes.plot(
                middle[low], course["min"][low], linestyle="none", marker="v", markersize=3.5,
                color=colors.spoof,
            )  # fmt: skip
        for start, end in _runs(low, middle):
            axes.axvspan(start, end, color=colors.spoof, alpha=0.13, linewidth=0)
    elif len(middle) == 1:
        axes.plot(middle, course["mean"], linestyle="none", marker="o", color=colors.bonafide)
    axes.grid(axis="y", color=colors.rule, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("score")
    axes.margins(y=0.08)


def _draw_wave(axes: Axes, recording: Recording, colors: Colors) -> None:
    assert recording.envelope is not None
    starts, low, high = recording.envelope.arrays()
    axes.fill_between(starts, low, high, step="post", color=colors.muted, linewidth=0)
    peak = float(np.nanmax(np.abs([low, high]))) if len(low) and not np.isnan(low).all() else 1.0
    axes.set_ylim(-max(peak, 1e-3) * 1.05, max(peak, 1e-3) * 1.05)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel("wave")
    axes.set_yticks([])


def _runs(low: NDArray[np.bool_], middle: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Neighbouring points where `low` holds, each run to halfway to the points beside it."""
    half = (middle[1:] + middle[:-1]) / 2
    left = np.concatenate([middle[:1], half])
    right = np.concatenate([half, middle[-1:]])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], low, [False]]).astype(np.int8)))
    return [(float(left[a]), float(right[b - 1])) for a, b in edges.reshape(-1, 2).tolist()]


def _time(seconds: float, end: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if end < 3_600:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def draw_png(figure: Figure, recordings: list[Recording], threshold: float | None) -> None:
    """Draw recordings below one another, each with its name."""
    parts = figure.subfigures(len(recordings), 1, squeeze=False)[:, 0]
    for part, recording in zip(parts, recordings, strict=True):
        part.suptitle(_plain(recording.path.name), fontsize="medium", x=0.01, ha="left")
        if recording.seconds:
            draw_recording(part, recording, threshold, ON_PAPER)
        else:
            part.text(0.5, 0.5, NOT_DECODED, ha="center", color=ON_PAPER.muted)


def _plain(name: str) -> str:
    """A name that matplotlib takes for text, not for a formula, and that has what fonts have."""
    return name.encode(errors="backslashreplace").decode().replace("$", r"\$")
