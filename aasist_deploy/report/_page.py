"""From the report's values to the page of one system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.report._calibration import calibration_figure, calibration_rows
from aasist_deploy.report._curves import Curve, det_svg, roc_svg
from aasist_deploy.report._figures import histogram_svg, threshold_svg
from aasist_deploy.report._operating import cost_curves, operating_points
from aasist_deploy.report._players import add_players
from aasist_deploy.report._render import render
from aasist_deploy.report._scales import percent
from aasist_deploy.report._sections import (
    MAX_ROWS,
    attack_rows,
    condition_tables,
    hardest_rows,
    heat_maps,
    robustness_table,
    share_words,
)
from aasist_deploy.report._verdict import (
    facts_of,
    interval_strip,
    notes_of,
    title_of,
    verdict_of,
    warnings_of,
)
from aasist_deploy.report._words import (
    PERCENT,
    Row,
    confidence_words,
    interval,
    level_percent,
    plain,
    rows_of,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

N_WORST: Final = 10


def render_page(
    report: Mapping[str, Any],
    scores: NDArray[np.float64],
    is_bonafide: NDArray[np.bool_],
    *,
    robustness: Mapping[str, Any] | None = None,
    players: int = 0,
) -> str:
    """Return report.html.

    Args:
        report: report.json, with `hardest`.
        scores: (n,) scores; higher means more likely bona fide.
        is_bonafide: (n,) truth of the same trials.
        robustness: robustness.json of the same model, or None.
        players: How many of the hardest trials can be heard.
    """
    scores = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(is_bonafide, dtype=np.bool_)
    bonafide, spoof = scores[truth], scores[~truth]
    curves = _curve_figures(report, bonafide, spoof)  # first: it refuses what has no error rates
    sweep = robustness_table(robustness, report["model"])
    hardest = [dict(row) for row in report["hardest"][: max(N_WORST, players)]]
    add_players(hardest, players)
    failures = list(report["failures"])
    calibration = calibration_rows(report, bonafide, spoof)
    sections = [
        ("figures", "Errors and scores", True),
        ("thresholds", "Thresholds", True),
        ("attacks", "Attacks", True),
        ("conditions", "Conditions", bool(report.get("conditions") or report.get("cells"))),
        ("calibration", "Calibration", bool(calibration)),
        ("robustness", "Robustness", sweep is not None),
        ("worst", "Hardest trials", True),
        ("decoding", "Decoding", bool(_decoded_otherwise(report) or report["audio"])),
        ("failures", "Files that could not be scored", bool(failures)),
        ("data", "Data and run", True),
        ("model", "Model", True),
        ("environment", "Made with", True),
    ]
    return render(
        "template.html.j2",
        title=title_of(report),
        created=report["created"],
        verdict=visible(verdict_of(report)),
        strip=interval_strip(report),
        warnings=warnings_of(report, len(bonafide), len(spoof), sweep),
        facts=facts_of(report),
        notes=notes_of(report),
        confidence=confidence_words(report),
        level=level_percent(report),
        contents=[(name, said) for name, said, there in sections if there],
        figures=curves,
        points=operating_points(bonafide, spoof, report),
        attacks=attack_rows(report),
        conditions=condition_tables(report),
        maps=heat_maps(report),
        calibration=calibration,
        reliability=calibration_figure(report, bonafide, spoof) if calibration else None,
        sweep=sweep,
        worst=hardest_rows(hardest),
        has_players=any(row.get("player") for row in hardest),
        decoding=_decoding(report),
        otherwise=_decoded_otherwise(report)[:MAX_ROWS],
        n_otherwise=len(_decoded_otherwise(report)),
        failures=failures[:MAX_ROWS],
        n_failures=len(failures),
        dataset=_dataset(report),
        model=rows_of(report["model"]),
        environment=rows_of(report["environment"]),
        command=report["command"],
        schema=report["schema"],
    )


def _curve_figures(
    report: Mapping[str, Any], bonafide: NDArray[np.float64], spoof: NDArray[np.float64]
) -> list[dict[str, str | None]]:
    eer, threshold = float(report["eer_percent"]), float(report["eer_threshold"])
    curve = Curve(
        bonafide=bonafide, spoof=spoof, eer_percent=eer, interval=interval(report, "eer_percent")
    )
    said = f"the equal error rate is {percent(eer)} percent"
    det = det_svg([curve], f"DET curve; {said}")
    roc = roc_svg([curve], f"ROC curve; {said}")
    band = " and the band its confidence interval" if curve.interval and det else ""
    costs = cost_curves(report)
    also = "; below, the normalised t-DCF, each minimum marked by a diamond" if costs else ""
    figures: list[dict[str, str | None]] = [
        {
            "svg": det,
            "said": None if det else _no_curve(len(bonafide), len(spoof)),
            "caption": "Detection error trade-off: every threshold is a point, both axes on a "
            f"normal deviate scale. Lower left is better; the dot is the EER{band}.",
        }
    ]
    if roc:
        figures.append({
            "svg": roc,
            "said": None,
            "caption": "ROC: how much bona fide speech passes for a share of spoofs that passes, "
            "the latter on a log scale. Upper left is better; the dot is the EER.",
        })  # fmt: skip
    return [
        *figures,
        {
            "svg": histogram_svg(bonafide, spoof, threshold, (
                f"Histogram of the scores of {len(bonafide)} bona fide and {len(spoof)} spoofed "
                f"trials; the threshold of the equal error rate, {percent(eer)} percent, is at "
                f"{threshold:.4f}")),
            "said": None,
            "caption": "Scores of each class, in percent of that class, with the threshold of "
            "the EER.",
        },
        {
            "svg": threshold_svg(bonafide, spoof, eer, threshold, costs, (
                "Both error rates by threshold; they meet at the equal error rate, "
                f"{percent(eer)} percent, at {threshold:.4f}{also}")),
            "said": None,
            "caption": "What moving the threshold does: the two error rates, which meet at the "
            f"EER (dot, dotted line){also}.",
        },
    ]  # fmt: skip


def _no_curve(n_bonafide: int, n_spoof: int) -> str:
    # An event never seen in n trials has, at 95 % confidence, a rate below 1 - 0.05 ** (1 / n).
    bound = 100 * (1 - 0.05 ** (1 / min(n_bonafide, n_spoof)))
    return (
        "No curve to draw: at the EER threshold there is not one error of either kind. "
        f"{n_bonafide:,} bona fide and {n_spoof:,} spoofed trials show no more than this: "
        f"both error rates are below {bound:.2g}{PERCENT}, at 95{PERCENT} confidence."
    )


def _decoded_otherwise(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Files that took the second decoder or that there is a note about."""
    listed = report.get("decoding")
    return [
        {
            "utterance": plain(entry.get("utterance")),
            "decoder": "second" if entry.get("second_decoder") else "first",
            "note": plain(entry.get("note")),
        }
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, dict)
    ]


def _decoding(report: Mapping[str, Any]) -> list[Row]:
    audio, n_all = report["audio"], report["dataset"]["n_trials"]
    if audio is None:
        return []
    return [
        ("decoded by the second decoder", share_words(audio["n_second_decoder"], n_all)),
        ("resampled", share_words(audio["n_resampled"], n_all)),
        ("repeated to the model's length", share_words(audio["n_tiled"], n_all)),
        ("cut to the model's length", share_words(audio["n_cut"], n_all)),
    ]


def _dataset(report: Mapping[str, Any]) -> list[Row]:
    dataset, timing = report["dataset"], report["timing"]
    names = {"name": "dataset", "n_trials": "trials", "asv_scores": "ASV scores"}
    rows = [(names.get(key, key), plain(value)) for key, value in dataset.items()]
    if report["asv"] is not None:
        rows += [(f"ASV {key}", plain(value)) for key, value in report["asv"].items()]
    for key in ("min_tdcf_2019_costs", "min_tdcf_2021_costs"):
        if report.get(key):
            rows.append((f"weights of the t-DCF ({key[9:13]})", plain(report[key])))
    if timing is not None:
        rows.append(
            ("time", f"{timing['seconds']:,.1f} s for {timing['audio_seconds']:,.1f} s of audio")
        )
    backend = report["backend"]
    if backend is not None:
        rows += [("backend", plain(backend["name"])), ("device", plain(backend["device"]))]
        if backend.get("details"):
            rows.append(("backend details", plain(backend["details"])))
    rows.append(("compat", plain(report["compat"])))
    return rows
