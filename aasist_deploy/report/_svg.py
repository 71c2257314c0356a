"""From matplotlib to an SVG element that takes its colours and font from the page."""

from __future__ import annotations

import html
import io
import re
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

# Stand-ins that no theme would use; in the SVG they become the page's variables, so that one
# picture is legible in light, in dark and on paper.
INK, MUTED, RULE = "#010203", "#010204", "#010205"
BONAFIDE, SPOOF = "#010206", "#010207"
SERIES: Final = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216")
_VARIABLES: Final = {
    INK: "ink", MUTED: "muted", RULE: "rule", BONAFIDE: "bonafide", SPOOF: "spoof",
    **{color: f"s{number}" for number, color in enumerate(SERIES, start=1)},
}  # fmt: skip
# Lines differ by dash as well as by colour: print and colour vision take one of the two away.
# In points, for a line of this width.
LINE_WIDTH: Final = 1.8
DASHES: Final[tuple[tuple[float, ...], ...]] = (
    (), (6, 2.5), (1.6, 1.8), (8, 2, 1.6, 2), (3.5, 1.5), (8, 2, 1.6, 2, 1.6, 2)
)  # fmt: skip
SIZE_INCHES: Final = (4.6, 4.1)
# matplotlib reads svg.fonttype and its kind from process-wide settings while it draws.
_SETTINGS: Final = threading.Lock()


def linestyle(dashes: tuple[float, ...]) -> str | tuple[float, tuple[float, ...]]:
    """Return a row of DASHES as matplotlib takes it; it scales dashes by the width of the line."""
    return (0, tuple(dash / LINE_WIDTH for dash in dashes)) if dashes else "-"


def picture(
    draw: Callable[[Figure], None],
    *,
    name: str,
    label: str,
    size: tuple[float, float] = SIZE_INCHES,
) -> str:
    """Draw a figure as an `<svg>` element.

    Args:
        draw: Fills the figure, with the colours of this module only.
        name: Goes in front of all ids of the picture; no two pictures of a page share one.
        label: Text alternative of the picture.
        size: Width and height in inches, which the page scales to its column.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings = {  # whatever style the caller's process has chosen, the report looks the same
        key: value
        for key, value in mpl.rcParamsDefault.items()
        if key.startswith(("axes", "figure", "font", "grid", "legend", "lines", "path", "patch",
                           "savefig", "svg", "text", "xtick", "ytick"))
    } | {
        "svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9.5, "text.color": INK,
        "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.linewidth": 0.8,
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        "xtick.color": MUTED, "ytick.color": MUTED,
        "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    }  # fmt: skip
    with _SETTINGS, mpl.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
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
    # Several figures share the page: without a prefix each would have an `axes_1`.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var(--{variable})")
    return svg.strip()
