"""Write what an evaluation found: report.json for programs and report.html for people.

The page is one file: no script, no font, picture or style from elsewhere, and a content security
policy that would block them. Names of files and utterances are written by strangers; they are
escaped, and characters that could reorder or hide text are shown by their code.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import OutputError
from aasist_deploy.metrics import Bootstrap
from aasist_deploy.report._cells import cross_conditions
from aasist_deploy.report._compare import check_systems, comparison_of
from aasist_deploy.report._comparison_page import render_comparison
from aasist_deploy.report._hardest import hardest_trials
from aasist_deploy.report._page import render_page
from aasist_deploy.report._scan_page import write_scan_page, write_scan_png
from aasist_deploy.report._systems import (
    ROBUSTNESS_FILE,
    System,
    read_robustness,
    read_system,
)
from aasist_deploy.textfile import write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Enough for the ends of a 95 % interval to about a tenth of it.
N_BOOTSTRAP: Final = 1000

__all__ = [
    "N_BOOTSTRAP",
    "System",
    "read_system",
    "write_comparison",
    "write_page",
    "write_report",
    "write_scan_page",
    "write_scan_png",
]


def write_report(
    report: Mapping[str, Any],
    *,
    scores: NDArray[np.float64],
    is_bonafide: NDArray[np.bool_],
    attacks: Sequence[str],
    utterances: Sequence[str],
    out_dir: Path,
    conditions: Mapping[str, Sequence[str]] | None = None,
    paths: Sequence[Path] | None = None,
    players: int = 0,
) -> tuple[Path, Path]:
    """Write report.json and report.html into a folder, which is made when it is missing.

    Args:
        report: What docs/report-json.md describes. `hardest`, and `cells` where the trials have
            conditions, are added when they are not in it.
        scores: (n,) scores of the trials that could be scored; higher means more likely bona fide.
        is_bonafide: (n,) truth of the same trials.
        attacks: Attack of each trial, "-" for bona fide.
        utterances: Name of each trial.
        out_dir: Folder for the two files; older reports in it are replaced. A robustness.json
            that lies there becomes a part of the page.
        conditions: Name of a condition, such as "codec" -> its value for each trial.
        paths: Audio file of each trial.
        players: How many of the hardest trials can be heard in the page, at most 50.

    Returns:
        The paths of report.json and report.html.

    Raises:
        MetricError: A class has no trial, or a score is NaN or infinite.
        OutputError: The folder cannot be made or written, or `report` holds a value that JSON
            does not have, such as NaN.
        ScoresError: robustness.json is there and cannot be read.
        ValueError: `scores`, `is_bonafide`, `attacks` and `utterances` differ in length.
    """
    columns = {"scores": scores, "is_bonafide": is_bonafide, "attacks": attacks}
    columns |= {"utterances": utterances, **(conditions or {})}
    if paths is not None:
        columns["paths"] = paths
    lengths = [len(column) for column in columns.values()]
    if len(set(lengths)) != 1:
        raise ValueError(f"{', '.join(columns)} have lengths {lengths}")
    scores = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(is_bonafide, dtype=np.bool_)
    full = dict(report)
    if conditions and "cells" not in full:
        full["cells"] = cross_conditions(
            scores, truth, attacks, conditions, compat=report["compat"]
        )
    if "hardest" not in full:
        full["hardest"] = hardest_trials(
            scores,
            truth,
            attacks,
            utterances,
            float(report["eer_threshold"]),
            None if paths is None else [str(path) for path in paths],
        )
    try:
        text = json.dumps(full, indent=2, allow_nan=False)
    except (TypeError, ValueError) as cause:
        raise OutputError(
            f"The report holds a value that JSON does not have: {cause}.",
            fix="Give null where a number is not known.",
        ) from cause
    robustness = read_robustness(out_dir / ROBUSTNESS_FILE)
    page = render_page(full, scores, truth, robustness=robustness, players=players)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise OutputError(
            f"The folder {out_dir} cannot be made: {cause.strerror or cause}.",
            fix="Name a folder in a place that you may write to.",
        ) from cause
    written = out_dir / "report.json", out_dir / "report.html"
    write_text_atomically(written[0], [text, "\n"])
    write_text_atomically(written[1], [page])
    return written


def write_page(system: System, out: Path, *, players: int = 0) -> None:
    """Write the page of one system that was evaluated earlier.

    Args:
        system: From `read_system`.
        out: The file; replaced when it is there.
        players: How many of the hardest trials can be heard in the page, at most 50.

    Raises:
        MetricError: A class has no trial.
        OutputError: The place cannot be written.
    """
    page = render_page(
        system.report,
        system.scores,
        system.is_bonafide,
        robustness=system.robustness,
        players=players,
    )
    write_text_atomically(out, [page])


def write_comparison(
    systems: Sequence[System],
    out: Path,
    *,
    command: str,
    allow_different: bool = False,
    n_bootstrap: int = N_BOOTSTRAP,
) -> dict[str, Any]:
    """Write the page of several systems side by side.

    Args:
        systems: Two or more, from `read_system`; the others are compared with the first.
        out: The file; replaced when it is there.
        command: The command line, shown on the page.
        allow_different: Take systems that were scored on different trials.
        n_bootstrap: Resamples of the paired comparison, at least 1.

    Returns:
        The figures of the page (docs/report.md).

    Raises:
        UsageError: Two systems have one label, or there are too many.
        ScoresError: Their trials differ.
        MetricError: A class has no trial.
        OutputError: The place cannot be written.
    """
    check_systems(systems, allow_different=allow_different)
    comparison = comparison_of(systems, Bootstrap(n=n_bootstrap))
    write_text_atomically(out, [render_comparison(systems, comparison, command)])
    return comparison
