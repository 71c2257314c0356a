"""The figures of one system's scores: histogram, and error rates and costs by threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from aasist_deploy.metrics import det_curve
from aasist_deploy.report._scales import clipped_probit, probit_ticks, rate_limits, thin
from aasist_deploy.report._svg import BONAFIDE, INK, MUTED, RULE, SERIES, SPOOF, picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_RUG_LIMIT: Final = 200  # up to this many trials of a class each one gets its own tick
_TAIL: Final = 0.05  # percent of the trials at either end that may lie outside a threshold axis
_MARGIN: Final = 1.25  # of a cost of 1, above which the curve is of no interest
_COST_STYLES: Final = ((SERIES[2], "-"), (SERIES[3], (0, (4, 1.5))))


class CostCurve(NamedTuple):
    """A normalised cost (c0 + c1 Pmiss + c2 Pfa) / norm; `minimum` as the report states it."""

    name: str
    c0: float
    c1: float
    c2: float
    norm: float


def histogram_svg(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64], threshold: float, label: str
) -> str:
    """Draw, as an `<svg>` element, how the scores of both classes lie around the threshold."""
    both = np.concatenate([bonafide, spoof, [threshold]])
    n_bins = int(np.clip(np.sqrt(len(both)), 16, 64))
    edges = np.linspace(both.min(), both.max(), n_bins + 1)
    if edges[-1] - edges[0] < 1e-9 * max(1.0, abs(edges[0])):  # all scores alike
        edges = edges[0] + np.linspace(-0.5, 0.5, n_bins + 1)
    classes = (("bona fide", bonafide, BONAFIDE, "-"), ("spoof", spoof, SPOOF, (0, (3, 1.5))))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        highest = 0.0
        for name, scores, color, style in classes:
            share = np.histogram(scores, edges)[0] / len(scores) * 100
            highest = max(highest, share.max())
            axes.stairs(share, edges, fill=True, color=color, alpha=0.22, linewidth=0)
            axes.stairs(share, edges, color=color, linewidth=1.4, linestyle=style, label=name)
        for level, (_, scores, color, _) in zip((-0.035, -0.065), classes, strict=True):
            if len(scores) <= _RUG_LIMIT:
                place = np.full(len(scores), level * highest)
                axes.plot(scores, place, "|", color=color, markersize=5, markeredgewidth=1)
        axes.axvline(threshold, color=INK, linewidth=1.1, label="EER threshold")
        axes.set_ylim(-0.1 * highest if min(map(len, (bonafide, spoof))) <= _RUG_LIMIT else 0,
                      highest * 1.05)  # fmt: skip
        axes.set_xlabel("Score (higher: more likely bona fide)")
        axes.set_ylabel("Trials of the class in a bin, %")
        axes.yaxis.grid(visible=True, color=RULE, linewidth=0.6)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, frameon=False,
            labelcolor=INK, handlelength=1.5, columnspacing=1.4, borderpad=0.2,
        )  # fmt: skip

    return picture(draw, name="histogram", label=label)


def threshold_svg(
    bonafide: NDArray[np.float64],
    spoof: NDArray[np.float64],
    eer_percent: float,
    threshold: float,
    costs: Sequence[CostCurve],
    label: str,
) -> str:
    """Draw both error rates, and below them the costs, by threshold, with the minima marked.

    Args:
        bonafide: Scores of bona fide trials, at least one.
        spoof: Scores of spoofed trials, at least one.
        eer_percent: Where the error rates meet.
        threshold: The score at which they do.
        costs: Normalised costs to draw; at most two.
        label: Text alternative of the picture.
    """
    thresholds, accepted, miss = det_curve(bonafide, spoof)
    low, high = rate_limits(max(len(bonafide), len(spoof)), [eer_percent])
    high = 1 - low
    left, right = _threshold_limits(bonafide, spoof, threshold)
    inside = (thresholds >= left - (right - left)) & (thresholds <= right + (right - left))
    x, accepted, miss = thresholds[inside], accepted[inside], miss[inside]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(
            2 if costs else 1, 1, sharex=True, squeeze=False,
            gridspec_kw={"height_ratios": [3, 2]} if costs else None,
        )[:, 0]  # fmt: skip
        rates, lines = panels[0], []
        for name, rate, color, style in (
            ("bona fide rejected", miss, BONAFIDE, "-"),
            ("spoof accepted", accepted, SPOOF, (0, (3, 1.5))),
        ):
            y, ends = clipped_probit(rate, low, high)
            keep = thin(x, y, right - left, ends[1] - ends[0])
            lines += rates.plot(x[keep], y[keep], color=color, linewidth=1.6, linestyle=style,
                                label=name, drawstyle="steps-pre")  # fmt: skip
            rates.set_ylim(*ends)
        point, _ = clipped_probit(np.array([eer_percent / 100]), low, high)
        rates.plot([threshold], point, marker="o", markersize=6, color=INK)
        probit_ticks(rates.yaxis, low, high)
        rates.set_ylabel("Error rate, %")
        for index, cost in enumerate(costs):
            color, style = _COST_STYLES[index % 2]
            y = (cost.c0 + cost.c1 * miss + cost.c2 * accepted) / cost.norm
            keep = thin(x, y, right - left, _MARGIN)
            lines += panels[1].plot(x[keep], y[keep], color=color, linewidth=1.6, linestyle=style,
                                    label=cost.name, drawstyle="steps-pre")  # fmt: skip
            best = int(np.argmin(y))
            panels[1].plot([x[best]], [y[best]], marker="D", markersize=5, color=color)
        if costs:
            panels[1].set_ylim(0, _MARGIN)
            panels[1].set_ylabel("t-DCF")
        for axes in panels:
            axes.axvline(threshold, color=MUTED, linewidth=0.9, linestyle=(0, (1, 1.5)))
            axes.grid(visible=True, color=RULE, linewidth=0.6)
            axes.set_xlim(left, right)
        panels[-1].set_xlabel("Threshold: scores at or above it are accepted")
        rates.legend(
            handles=lines, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, frameon=False,
            labelcolor=INK, handlelength=1.8, columnspacing=1.4, borderpad=0.2,
        )  # fmt: skip

    return picture(draw, name="threshold", label=label)


def _threshold_limits(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64], threshold: float
) -> tuple[float, float]:
    """From where hardly a bona fide trial is rejected to where hardly a spoof is accepted."""
    ends = np.array([
        np.percentile(bonafide, _TAIL), np.percentile(spoof, 100 - _TAIL), threshold
    ])  # fmt: skip
    span = max(float(ends.max() - ends.min()), 1e-6 * max(1.0, abs(threshold)))
    return float(ends.min() - 0.15 * span), float(ends.max() + 0.15 * span)
