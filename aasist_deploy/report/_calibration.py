"""How the scores would have to be bent to be log-likelihood ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.metrics.cllr import cllr
from aasist_deploy.metrics.pav import pav
from aasist_deploy.report._scales import thin
from aasist_deploy.report._svg import BONAFIDE, INK, MUTED, RULE, picture
from aasist_deploy.report._words import Row, number, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_LLR_LIMITS: Final = (3.0, 12.0)  # the axis reaches at least, at most so far from 0
_MIN_TRIALS: Final = 10  # of each class, below which the steps say nothing


def affine_calibration(report: Mapping[str, Any]) -> tuple[float, float] | None:
    """(scale, offset) of score -> log-likelihood ratio from the model file, if it has them."""
    if report.get("scores_are_llr") is True:
        return 1.0, 0.0
    calibration = (report["model"] or {}).get("calibration")
    if not isinstance(calibration, dict):
        return None
    scale, offset = number(calibration, "scale"), number(calibration, "offset")
    return None if scale is None or offset is None or scale <= 0 else (scale, offset)


def calibration_figure(
    report: Mapping[str, Any], bonafide: NDArray[np.float64], spoof: NDArray[np.float64]
) -> dict[str, str | None] | None:
    """Draw the log-likelihood ratio that isotonic regression gives each score on these trials.

    Returns:
        A figure with its caption, or None when there are too few trials to say anything.
    """
    if min(len(bonafide), len(spoof)) < _MIN_TRIALS:
        return None
    affine = affine_calibration(report)
    scale, offset = affine or (1.0, 0.0)
    bins = pav(scale * bonafide + offset, scale * spoof + offset)
    scores, llr = bins.thresholds, bins.llr
    finite = llr[np.isfinite(llr)]
    if len(finite) == 0:
        return None
    reach = float(np.clip(np.abs(finite).max() * 1.1, *_LLR_LIMITS))
    inside = scores[np.isfinite(llr)]
    span = max(float(inside.max() - inside.min()), 1.0)
    left, right = float(inside.min() - 0.15 * span), float(inside.max() + 0.15 * span)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (1, 1.5)))
        if affine is not None:
            ends = np.array([left, right])
            axes.plot(ends, ends, color=INK, linewidth=1.1, linestyle=(0, (4, 3)),
                      label="perfectly calibrated")  # fmt: skip
        y = np.clip(llr, -2 * reach, 2 * reach)
        keep = thin(scores, y, right - left, 2 * reach)
        axes.plot(scores[keep], y[keep], color=BONAFIDE, linewidth=1.8, drawstyle="steps-post",
                  label="these trials (isotonic)")  # fmt: skip
        axes.set_xlim(left, right)
        axes.set_ylim(-reach, reach)
        axes.set_xlabel("Log-likelihood ratio from the model file" if affine else "Score")
        axes.set_ylabel("Log-likelihood ratio on these trials")
        axes.grid(visible=True, color=RULE, linewidth=0.6)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, frameon=False,
            labelcolor=INK, handlelength=1.8, columnspacing=1.4, borderpad=0.2,
        )  # fmt: skip

    caption = "Each score against the log-likelihood ratio that isotonic regression gives it here. "
    if affine is None:
        caption += (
            "The model file holds no calibration: a score is no log-likelihood ratio, and 0 is "
            "no natural threshold."
        )
    else:
        caption += (
            "Above the dashed line the model's ratio is too cautious about bona fide speech, "
            "below it too trusting."
        )
    return {
        "svg": picture(draw, name="calibration", label=f"Calibration. {caption}"),
        "said": None,
        "caption": caption,
    }


def calibration_rows(
    report: Mapping[str, Any], bonafide: NDArray[np.float64], spoof: NDArray[np.float64]
) -> list[Row]:
    """What the scores cost as log-likelihood ratios, before and after calibration."""
    rows: list[Row] = []
    before = number(report, "cllr_bits")
    least = number(report, "min_cllr_bits")
    affine = affine_calibration(report)
    if affine is not None:
        before = cllr(bonafide, spoof) if before is None else before
        rows.append(("Cllr of the scores as they are", f"{before:.4f} bits"))
        scale, offset = affine
        before = cllr(scale * bonafide + offset, scale * spoof + offset)
        rows.append(("Cllr with the model file's calibration", f"{before:.4f} bits"))
    elif before is not None:
        rows.append(("Cllr of the scores as they are", f"{before:.4f} bits"))
    if least is not None:
        rows.append(("minCllr: after the best monotone calibration", f"{least:.4f} bits"))
    if before is not None and least is not None:
        rows.append(("lost to calibration", f"{before - least:.4f} bits"))
    for key, name in (("act_dcf", "actDCF"), ("min_dcf", "minDCF")):
        value = number(report, key)
        if value is not None:
            rows.append((name, f"{value:.4f}"))
    model = report["model"] or {}
    if model.get("calibration") or rows:
        rows.append(("calibration in the model file", plain(model.get("calibration"))))
    if report.get("calibration_note"):
        rows.append(("note", plain(report["calibration_note"])))
    return rows
