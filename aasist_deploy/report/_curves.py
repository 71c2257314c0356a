"""The trade-off curves, DET and ROC, of one system or of several laid over one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.metrics import det_curve
from aasist_deploy.report._scales import (
    clipped_probit,
    percent,
    probit,
    probit_ticks,
    rate_limits,
    thin,
)
from aasist_deploy.report._svg import (
    BONAFIDE,
    DASHES,
    INK,
    LINE_WIDTH,
    MUTED,
    RULE,
    SERIES,
    SPOOF,
    linestyle,
    picture,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_LEAST_SPOOFS: Final = 10  # accepted, below which a share of them is mostly chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What one system contributes to a figure.

    Attributes:
        bonafide: Scores of bona fide trials, at least one.
        spoof: Scores of spoofed trials, at least one.
        eer_percent: Where its point goes.
        interval: Confidence interval of that rate in percent, or None.
    """

    bonafide: NDArray[np.float64]
    spoof: NDArray[np.float64]
    eer_percent: float
    interval: tuple[float, float] | None = None

    def rates(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(k,) share of spoof accepted and (k,) share of bona fide rejected, by threshold."""
        _, accepted, miss = det_curve(self.bonafide, self.spoof)
        return accepted, miss

    @property
    def separates(self) -> bool:
        """Whether some threshold makes no error: such a curve has no point on a DET's axes."""
        accepted, miss = self.rates()
        return bool(np.any((accepted == 0) & (miss == 0)))


def style_of(index: int, n_curves: int) -> tuple[str, tuple[float, ...]]:
    """Colour and dashes of a curve; one curve alone has the colour of the page's figures."""
    if n_curves == 1:
        return BONAFIDE, ()
    return SERIES[index % len(SERIES)], DASHES[(index + index // len(SERIES)) % len(DASHES)]


def det_svg(curves: Sequence[Curve], label: str) -> str | None:
    """Draw DET curves on normal deviate axes with their EER points.

    Args:
        curves: In the order of their colours; those that separate the classes are left out.
        label: Text alternative of the picture.

    Returns:
        An `<svg>` element, or None when no curve has a point on these axes.
    """
    drawn = [(index, curve) for index, curve in enumerate(curves) if not curve.separates]
    if not drawn:
        return None
    low, high = rate_limits(
        max(max(len(c.bonafide), len(c.spoof)) for _, c in drawn),
        [c.eer_percent for _, c in drawn],
    )

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        ends = probit(np.array([low, high]))
        axes.plot(ends, ends, color=RULE, linewidth=1, linestyle=(0, (4, 3)))
        for index, curve in drawn:
            color, dashes = style_of(index, len(curves))
            (x, _), (y, _) = (clipped_probit(rate, low, high) for rate in curve.rates())
            keep = thin(x, y, ends[1] - ends[0], ends[1] - ends[0])
            axes.plot(x[keep], y[keep], color=color, linewidth=LINE_WIDTH,
                      linestyle=linestyle(dashes), solid_joinstyle="round")  # fmt: skip
            _eer_point(axes, curve, low, high, SPOOF if len(curves) == 1 else color)
        if len(curves) == 1:
            _eer_name(axes, drawn[0][1], low, high)
        probit_ticks(axes.xaxis, low, high)
        probit_ticks(axes.yaxis, low, high)
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_aspect("equal")
        axes.set_xlabel("Spoof accepted, %")
        axes.set_ylabel("Bona fide rejected, %")
        axes.grid(visible=True, color=RULE, linewidth=0.6)

    return picture(draw, name="det", label=label)


def _eer_point(axes: Axes, curve: Curve, low: float, high: float, color: str) -> None:
    point = probit(np.clip([curve.eer_percent / 100], low, high))[0]
    if curve.interval is not None:
        ends = probit(np.clip(np.array(curve.interval) / 100, low, high))
        axes.plot(ends, ends, color=color, linewidth=5, alpha=0.35, solid_capstyle="butt")
    axes.plot([point], [point], marker="o", markersize=6.5, color=color, clip_on=False)


def _eer_name(axes: Axes, curve: Curve, low: float, high: float) -> None:
    point = probit(np.clip([curve.eer_percent / 100], low, high))[0]
    upper = point > probit(np.array([low, high])).mean()
    axes.annotate(
        f"EER {percent(curve.eer_percent)}\N{NO-BREAK SPACE}%", (point, point), color=INK,
        xytext=(-9, -9) if upper else (9, 9), textcoords="offset points",
        ha="right" if upper else "left", va="top" if upper else "bottom",
    )  # fmt: skip


def roc_svg(curves: Sequence[Curve], label: str) -> str | None:
    """Draw ROC curves: bona fide accepted against spoof accepted, the latter on a log axis.

    The log axis shows the part where a countermeasure works; on a plain one the curves of good
    systems are all the upper left corner.

    Returns:
        An `<svg>` element, or None when every curve is that corner.
    """
    drawn = [(index, curve) for index, curve in enumerate(curves) if not curve.separates]
    if not drawn:
        return None
    finest = min(100 * _LEAST_SPOOFS / max(len(c.spoof) for _, c in drawn), 10.0)
    low = 10.0 ** np.floor(np.log10(finest))
    bottoms = []
    for _, curve in drawn:
        accepted, miss = curve.rates()
        bottoms.append(100 * (1 - miss[accepted * 100 >= low][-1]))
    bottom = next(step for step in (99, 98, 95, 90, 80, 60, 40, 0) if step <= min(bottoms))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for index, curve in drawn:
            color, dashes = style_of(index, len(curves))
            accepted, miss = curve.rates()
            x = np.log10(np.maximum(accepted * 100, low / 10))
            y = 100 * (1 - miss)
            keep = thin(x, y, 2 - np.log10(low), 100.0 - bottom)
            axes.plot(10 ** x[keep], y[keep], color=color, linewidth=LINE_WIDTH,
                      linestyle=linestyle(dashes), solid_joinstyle="round")  # fmt: skip
            axes.plot([max(curve.eer_percent, low)], [100 - curve.eer_percent], marker="o",
                      markersize=6.5, color=SPOOF if len(curves) == 1 else color)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlim(low, 100)
        axes.set_ylim(bottom, 100 + (100 - bottom) * 0.02)
        ticks = 10.0 ** np.arange(round(np.log10(low)), 3)
        axes.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("Spoof accepted, %")
        axes.set_ylabel("Bona fide accepted, %")
        axes.grid(visible=True, color=RULE, linewidth=0.6)
        axes.tick_params(which="both", color=MUTED)

    return picture(draw, name="roc", label=label)
