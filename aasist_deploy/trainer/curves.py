"""The curves of a run as one picture: losses, dev EER, dev min t-DCF and the learning rate."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import OutputError
from aasist_deploy.trainer.log import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from aasist_deploy.trainer.log import Row

_TRAIN, _DEV, _RATE = "#2f6db3", "#c2571a", "#4f7f3c"  # told apart with any colour vision
_INK, _MUTED, _RULE = "#1c1c1c", "#5c5c5c", "#dddddd"
_WIDTH_INCHES, _PANEL_INCHES, _DPI = 8.0, 2.1, 120
_MANY_STEPS: Final = 500
_MARKED: Final = 60  # epochs up to which each has its own dot
_SMOOTHED: Final = 25  # the smoothed loss looks back on one part in so many of the steps


def draw(log_jsonl: Path, png: Path) -> None:
    """Draw the curves of a log.

    Where fewer than two steps an epoch are logged, the training loss is the mean of each epoch;
    otherwise that of each logged step, raw and smoothed: an exponential moving average over a 25th
    of the steps, weighted so that it does not begin at 0. The best epoch is the last one whose row
    says so (`best`), else the first with the lowest `dev_eer_percent`. What no row has is left out.

    Args:
        log_jsonl: A `log.jsonl` of `RunLog`. Rows of steps: loss, lr. Rows of epochs:
            train_loss, dev_loss, dev_eer_percent, dev_min_tdcf, best.
        png: Where the picture goes; replaced whole.

    Raises:
        OutputError: the log cannot be read, has no rows, or the picture cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    rows = read_rows(log_jsonl)
    if not rows:
        raise OutputError(
            f"{log_jsonl} has no rows to draw.", fix="draw the curves after the first epoch"
        )
    steps = [row for row in rows if row["kind"] == "step"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    panels: list[Callable[[Axes], None]] = [lambda axes: _losses(axes, steps, epochs)]
    if any(row.get("dev_eer_percent") is not None for row in epochs):
        panels.append(lambda axes: _dev(axes, epochs, "dev_eer_percent", "Dev EER, %"))
    if any(row.get("dev_min_tdcf") is not None for row in epochs):
        panels.append(lambda axes: _dev(axes, epochs, "dev_min_tdcf", "Dev min t-DCF"))
    if any(row.get("lr") is not None for row in steps):
        panels.append(lambda axes: _rates(axes, steps))

    figure = Figure(
        figsize=(_WIDTH_INCHES, _PANEL_INCHES * len(panels) + 0.6), layout="constrained"
    )
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    best = best_epoch(epochs)
    last = max(row["step"] for row in rows)
    for axes, panel in zip(all_axes, panels, strict=True):
        axes.set_axisbelow(True)
        axes.grid(visible=True, color=_RULE, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, colors=_MUTED, labelcolor=_INK)
        panel(axes)
        if best:
            axes.axvline(best["step"], color=_MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        axes.set_xlim(0, last * 1.01)
    all_axes[-1].set_xlabel("Step", fontsize=10, color=_INK)
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    all_axes[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    figure.align_ylabels(all_axes)
    if all_axes[0].lines:
        figure.legend(
            *all_axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3,
            fontsize=9, frameon=False, labelcolor=_INK,
        )  # fmt: skip
    if epochs:
        per_epoch = epochs[-1]["step"] / epochs[-1]["epoch"]
        top = all_axes[0].secondary_xaxis(
            "top", functions=(lambda step: step / per_epoch, lambda epoch: epoch * per_epoch)
        )
        top.set_xlabel("Epoch", fontsize=10, color=_INK)
        top.tick_params(labelsize=9, colors=_MUTED, labelcolor=_INK)
        top.spines["top"].set_visible(False)
        top.xaxis.get_major_locator().set_params(integer=True)
    if best:
        figure.suptitle(_words(best), fontsize=10.5, color=_INK, x=0.01, ha="left")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI, facecolor="white")
    _replace(png, picture.getvalue())


def best_epoch(epochs: list[Row]) -> Row | None:
    """The row of the best epoch: the last that says so, else the first with the lowest EER."""
    said = [row for row in epochs if row.get("best")]
    if said:
        return said[-1]
    scored = [row for row in epochs if row.get("dev_eer_percent") is not None]
    return min(scored, key=lambda row: row["dev_eer_percent"]) if scored else None


def smoothed(values: NDArray[np.float64], span: float) -> NDArray[np.float64]:
    """Exponential moving average over about `span` values; its weights add up to 1 everywhere."""
    keep = 1.0 - 1.0 / max(span, 1.0)
    total = weight = 0.0
    result = np.empty_like(values)
    for index, value in enumerate(values):
        total, weight = keep * total + value, keep * weight + 1.0
        result[index] = total / weight
    return result


def _series(rows: list[Row], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values of the rows that have the figure."""
    pairs = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _losses(axes: Axes, steps: list[Row], epochs: list[Row]) -> None:
    x, raw = _series(steps, "loss")
    x_mean, mean = _series(epochs, "train_loss")
    if len(x_mean) and len(x) < 2 * len(x_mean):
        axes.plot(
            x_mean, mean, color=_TRAIN, linewidth=1.8, marker=_marker(x_mean), markersize=4,
            label="train, mean of each epoch",
        )  # fmt: skip
        axes.set_ylim(0, 1.1 * max(mean.max(), *_series(epochs, "dev_loss")[1], 1e-6))
    elif len(x):
        axes.plot(x, raw, color=_TRAIN, linewidth=0.7, alpha=0.3, label="train, each step")
        smooth = smoothed(raw, len(raw) / _SMOOTHED)
        axes.plot(x, smooth, color=_TRAIN, linewidth=1.8, label="train, smoothed")
        # In a long run a few spikes would press everything else to the floor.
        highest = np.quantile(raw, 0.99) if len(raw) > _MANY_STEPS else raw.max()
        axes.set_ylim(0, 1.1 * max(highest, *_series(epochs, "dev_loss")[1], 1e-6))
    x, dev = _series(epochs, "dev_loss")
    if len(x):
        axes.plot(x, dev, color=_DEV, linewidth=1.5, marker=_marker(x), markersize=4, label="dev")
    axes.set_ylabel("Loss", fontsize=10, color=_INK)


def _dev(axes: Axes, epochs: list[Row], name: str, label: str) -> None:
    x, y = _series(epochs, name)
    axes.plot(x, y, color=_DEV, linewidth=1.5, marker=_marker(x), markersize=4)
    best = best_epoch(epochs)
    if best and best.get(name) is not None:
        axes.plot([best["step"]], [best[name]], color=_INK, marker="D", markersize=6)
    axes.set_ylim(0, max(1.1 * float(y.max()), 1e-6))
    axes.set_ylabel(label, fontsize=10, color=_INK)


def _rates(axes: Axes, steps: list[Row]) -> None:
    x, y = _series(steps, "lr")
    axes.plot(x, y, color=_RATE, linewidth=1.8, marker=_marker(x), markersize=4)
    axes.set_ylim(0, 1.1 * max(float(y.max()), 1e-12))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.yaxis.get_offset_text().set_fontsize(9)
    axes.set_ylabel("Learning rate", fontsize=10, color=_INK)


def _marker(x: NDArray[np.float64]) -> str:
    return "o" if len(x) <= _MARKED else ""


def _words(best: dict[str, Any]) -> str:
    figures = (
        [f"dev EER {best['dev_eer_percent']:.2f} %"]
        if best.get("dev_eer_percent") is not None
        else []
    )
    if best.get("dev_min_tdcf") is not None:
        figures.append(f"min t-DCF {best['dev_min_tdcf']:.4f}")
    return f"Best epoch {best['epoch']}" + (": " if figures else "") + ", ".join(figures)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.",
            fix="free some space or give a folder that you may write to",
        ) from error
