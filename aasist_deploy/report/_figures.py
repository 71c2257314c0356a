"""The two figures of report.html, as SVG that takes its colours and font from the page."""

from __future__ import annotations

import html
import io
import re
import threading
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.metrics import det_curve

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# Stand-ins that no theme would use; in the SVG they become the page's variables, so that one
# picture is legible in light, in dark and on paper.
_INK, _MUTED, _RULE = "#010203", "#010204", "#010205"
_BONAFIDE, _SPOOF = "#010206", "#010207"
_VARIABLES: Final = {
    _INK: "ink", _MUTED: "muted", _RULE: "rule", _BONAFIDE: "bonafide", _SPOOF: "spoof"
}  # fmt: skip
_SIZE_INCHES: Final = (4.6, 4.1)
_TICKS_PERCENT: Final = (0.001, 0.01, 0.1, 1, 5, 20, 50, 80, 95, 99, 99.9)
_GRID: Final = 1 / 400  # of the axis: what the eye can tell apart on a wide screen
_RUG_LIMIT: Final = 200  # up to this many trials of a class each one gets its own tick
# matplotlib reads svg.fonttype and its kind from process-wide settings while it draws.
_SETTINGS: Final = threading.Lock()


def probit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard normal deviates of probabilities strictly between 0 and 1."""
    unique, index = np.unique(p, return_inverse=True)
    inverse = NormalDist().inv_cdf
    return np.array([inverse(value) for value in unique.tolist()], dtype=np.float64)[index]


def det_svg(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64], eer_percent: float, label: str
) -> str | None:
    """Draw the DET curve on normal deviate axes with the EER point.

    Args:
        bonafide: Scores of bona fide trials, at least one.
        spoof: Scores of spoofed trials, at least one.
        eer_percent: Where to put the point.
        label: Text alternative of the picture.

    Returns:
        An `<svg>` element, or None when some threshold separates the classes without error:
        such a curve has no point on these axes.
    """
    _, accepted, miss = det_curve(bonafide, spoof)
    if np.any((accepted == 0) & (miss == 0)):
        return None
    low, high = _limits(len(bonafide), len(spoof), eer_percent)
    # Rates of 0 and 1 lie at infinity; just outside the frame they are as invisible.
    x, y = (probit(np.clip(rate, low / 2, (1 + high) / 2)) for rate in (accepted, miss))
    ends = probit(np.array([low, high]))
    step = (ends[1] - ends[0]) * _GRID
    cells = np.round(np.stack([x, y]) / step)
    keep = np.append(True, np.any(np.diff(cells, axis=1) != 0, axis=0))

    def draw(axes: Axes) -> None:
        axes.plot(ends, ends, color=_RULE, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(x[keep], y[keep], color=_BONAFIDE, linewidth=1.8, solid_joinstyle="round")
        point = probit(np.clip([eer_percent / 100], low, high))[0]
        axes.plot([point], [point], marker="o", markersize=6.5, color=_SPOOF, clip_on=False)
        upper = point > ends.mean()
        axes.annotate(
            f"EER {percent(eer_percent)}\N{NO-BREAK SPACE}%", (point, point), color=_INK,
            xytext=(-9, -9) if upper else (9, 9), textcoords="offset points",
            ha="right" if upper else "left", va="top" if upper else "bottom",
        )  # fmt: skip
        ticks = [tick for tick in _TICKS_PERCENT if low <= tick / 100 <= high]
        places = probit(np.array(ticks) / 100)
        names = [f"{tick:g}" for tick in ticks]
        axes.set_xticks(places, names)
        axes.set_yticks(places, names)
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_aspect("equal")
        axes.set_xlabel("Spoof accepted, %")
        axes.set_ylabel("Bona fide rejected, %")
        axes.grid(visible=True, color=_RULE, linewidth=0.6)

    return _svg(draw, name="det", label=label)


def histogram_svg(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64], threshold: float, label: str
) -> str:
    """Draw, as an `<svg>` element, how the scores of both classes lie around the threshold."""
    both = np.concatenate([bonafide, spoof, [threshold]])
    n_bins = int(np.clip(np.sqrt(len(both)), 16, 64))
    edges = np.linspace(both.min(), both.max(), n_bins + 1)
    if edges[-1] - edges[0] < 1e-9 * max(1.0, abs(edges[0])):  # all scores alike
        edges = edges[0] + np.linspace(-0.5, 0.5, n_bins + 1)
    classes = (("bona fide", bonafide, _BONAFIDE, "-"), ("spoof", spoof, _SPOOF, (0, (3, 1.5))))

    def draw(axes: Axes) -> None:
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
        axes.axvline(threshold, color=_INK, linewidth=1.1, label="EER threshold")
        axes.set_ylim(-0.1 * highest if min(map(len, (bonafide, spoof))) <= _RUG_LIMIT else 0,
                      highest * 1.05)  # fmt: skip
        axes.set_xlabel("Score (higher: more likely bona fide)")
        axes.set_ylabel("Trials of the class in a bin, %")
        axes.yaxis.grid(visible=True, color=_RULE, linewidth=0.6)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, frameon=False,
            labelcolor=_INK, handlelength=1.5, columnspacing=1.4, borderpad=0.2,
        )  # fmt: skip

    return _svg(draw, name="histogram", label=label)


def percent(value: float) -> str:
    """Two decimals, or two significant digits when those would be zeros."""
    return f"{value:.2g}" if 0 < abs(value) < 0.1 else f"{value:.2f}"


def _limits(n_bonafide: int, n_spoof: int, eer_percent: float) -> tuple[float, float]:
    """Ends of both axes: fine enough for the smallest rate, wide enough for the EER."""
    smallest = max(50 / max(n_bonafide, n_spoof), eer_percent / 50)
    lows = [tick for tick in _TICKS_PERCENT if tick <= min(1.0, smallest, 100 - eer_percent)]
    high = 60.0 if eer_percent < 40 else next(
        (tick for tick in (80, 95, 99) if tick > eer_percent + 2), 99.9
    )  # fmt: skip
    return (lows[-1] if lows else _TICKS_PERCENT[0]) / 100, high / 100


def _svg(draw: Callable[[Axes], None], *, name: str, label: str) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings = {  # whatever style the caller's process has chosen, the report looks the same
        key: value
        for key, value in mpl.rcParamsDefault.items()
        if key.startswith(("axes", "figure", "font", "grid", "legend", "lines", "path", "patch",
                           "savefig", "svg", "text", "xtick", "ytick"))
    } | {
        "svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9.5, "text.color": _INK,
        "axes.edgecolor": _MUTED, "axes.labelcolor": _INK, "axes.linewidth": 0.8,
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        "xtick.color": _MUTED, "ytick.color": _MUTED,
        "xtick.labelcolor": _INK, "ytick.labelcolor": _INK,
    }  # fmt: skip
    with _SETTINGS, mpl.rc_context(settings):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True)
    return _for_page(buffer.getvalue(), name=name, label=label)


def _for_page(svg: str, *, name: str, label: str) -> str:
    """Turn a matplotlib SVG file into an element that lives well inside an HTML page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    view_box = re.search(r'viewBox="([^"]*)"', svg)
    assert view_box is not None
    opening = (
        f'<svg viewBox="{view_box[1]}" role="img" aria-label="{html.escape(label)}" '
        f'xmlns="http://www.w3.org/2000/svg">'
    )
    svg = opening + svg[svg.index(">") + 1 :]
    svg = svg.replace("xlink:href=", "href=")
    # Two figures share the page: without a prefix both would have an `axes_1`.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var(--{variable})")
    return svg.strip()
