"""Write what an evaluation found: report.json for programs and report.html for people.

The page is one file: no script, no font, picture or style from elsewhere, and a content security
policy that would block them. Names of files and utterances are written by strangers; they are
escaped, and characters that could reorder or hide text are shown by their code.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aasist_deploy.errors import OutputError
from aasist_deploy.report._page import render_page
from aasist_deploy.textfile import write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["write_report"]


def write_report(
    report: Mapping[str, Any],
    *,
    scores: NDArray[np.float64],
    is_bonafide: NDArray[np.bool_],
    attacks: Sequence[str],
    utterances: Sequence[str],
    out_dir: Path,
) -> tuple[Path, Path]:
    """Write report.json and report.html into a folder, which is made when it is missing.

    Args:
        report: What docs/report-json.md describes; written to report.json as it is.
        scores: (n,) scores of the trials that could be scored; higher means more likely bona fide.
        is_bonafide: (n,) truth of the same trials.
        attacks: Attack of each trial, "-" for bona fide.
        utterances: Name of each trial.
        out_dir: Folder for the two files; older reports in it are replaced.

    Returns:
        The paths of report.json and report.html.

    Raises:
        MetricError: A class has no trial, or a score is NaN or infinite.
        OutputError: The folder cannot be made or written, or `report` holds a value that JSON
            does not have, such as NaN.
        ValueError: `scores`, `is_bonafide`, `attacks` and `utterances` differ in length.
    """
    lengths = [len(scores), len(is_bonafide), len(attacks), len(utterances)]
    if len(set(lengths)) != 1:
        raise ValueError(f"scores, is_bonafide, attacks, utterances have lengths {lengths}")
    try:
        text = json.dumps(report, indent=2, allow_nan=False)
    except (TypeError, ValueError) as cause:
        raise OutputError(
            f"The report holds a value that JSON does not have: {cause}.",
            fix="Give null where a number is not known.",
        ) from cause
    page = render_page(report, scores, is_bonafide, attacks, utterances)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise OutputError(
            f"The folder {out_dir} cannot be made: {cause.strerror or cause}.",
            fix="Name a folder in a place that you may write to.",
        ) from cause
    paths = out_dir / "report.json", out_dir / "report.html"
    write_text_atomically(paths[0], [text, "\n"])
    write_text_atomically(paths[1], [page])
    return paths
