"""Several systems on the same trials: what can be said of their difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import ScoresError, UsageError
from aasist_deploy.metrics import AsvErrorRates, Bootstrap, FixedAsvRates, compare, eer
from aasist_deploy.report._words import number
from aasist_deploy.textfile import excerpt, few

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aasist_deploy.report._systems import System

COMPARISON_SCHEMA: Final = "aasist-deploy/comparison/1"
MAX_SYSTEMS: Final = 12
FIGURES: Final = (
    "eer_percent", "eer_threshold", "min_tdcf_2019", "min_tdcf_2021", "auc", "min_dcf", "act_dcf",
    "cllr_bits", "min_cllr_bits", "n_bonafide", "n_spoof",
)  # fmt: skip


def check_systems(systems: Sequence[System], *, allow_different: bool) -> None:
    """Check that the systems can stand beside one another.

    Args:
        systems: Two or more.
        allow_different: Take systems whose trials differ; then they must share some of each class.

    Raises:
        UsageError: Two have one label, or there are too many.
        ScoresError: Their trials, or the truth of a trial, differ, or they share none of a class.
    """
    labels = [system.label for system in systems]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UsageError(
            f"Two systems are called {excerpt(twice[0])}.", fix="Tell them apart: --labels a,b"
        )
    if len(systems) > MAX_SYSTEMS:
        raise UsageError(f"{len(systems)} systems; a page compares up to {MAX_SYSTEMS}.")
    first = systems[0]
    for other in systems[1:]:
        here, there = set(first.utterances), set(other.utterances)
        if here != there and not allow_different:
            raise ScoresError(
                f"{first.label} and {other.label} were not scored on the same trials: of "
                f"{len(here)} and {len(there)} they share {len(here & there)}; "
                f"{len(here - there)} are only in {first.label}{few(sorted(here - there), 40)}, "
                f"{len(there - here)} only in {other.label}{few(sorted(there - here), 40)}.",
                fix="Evaluate both on the same split, or pass --allow-different.",
            )
        mine, theirs = common_trials(first, other)
        n_genuine = int(np.count_nonzero(first.is_bonafide[mine]))
        if n_genuine in {0, len(mine)}:
            raise ScoresError(
                f"{first.label} and {other.label} share {n_genuine} bona fide and "
                f"{len(mine) - n_genuine} spoofed trials; a comparison needs some of each.",
                fix="Make a page for each of them, or evaluate both on one split.",
            )
        n_differ = int(np.count_nonzero(first.is_bonafide[mine] != other.is_bonafide[theirs]))
        if n_differ:
            raise ScoresError(
                f"{first.label} and {other.label} give {n_differ} of {len(mine)} common trials "
                "different keys.",
                fix="Evaluate both with the same protocol.",
            )


def common_trials(first: System, other: System) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(k,) places of the shared trials in the first system, (k,) and of the same in the other."""
    place = {name: index for index, name in enumerate(other.utterances)}
    pairs = [
        (index, place[name]) for index, name in enumerate(first.utterances) if name in place
    ]  # fmt: skip
    both = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def comparison_of(systems: Sequence[System], how: Bootstrap) -> dict[str, Any]:
    """Put the figures side by side, and each later system against the first, trial by trial.

    Args:
        systems: Two or more.
        how: Resampling of the paired comparison.

    Returns:
        What `aasist-deploy report --json` prints (docs/report.md).
    """
    return {
        "schema": COMPARISON_SCHEMA,
        "systems": [
            {
                "label": system.label,
                "compat": system.report["compat"],
                **{key: system.report.get(key) for key in FIGURES},
                "confidence": system.report.get("confidence"),
            }
            for system in systems
        ],
        "pairs": [_pair(systems[0], other, how) for other in systems[1:]],
    }


def _pair(first: System, other: System, how: Bootstrap) -> dict[str, Any]:
    mine, theirs = common_trials(first, other)
    truth = first.is_bonafide[mine]
    wrong = []
    for scores in (first.scores[mine], other.scores[theirs]):
        threshold = eer(scores[truth], scores[~truth]).threshold
        wrong.append((scores >= threshold) != truth)
    return {
        "first": first.label,
        "second": other.label,
        "n_common": len(mine),
        "decisions": {
            "both_right": int(np.count_nonzero(~wrong[0] & ~wrong[1])),
            "only_first_wrong": int(np.count_nonzero(wrong[0] & ~wrong[1])),
            "only_second_wrong": int(np.count_nonzero(~wrong[0] & wrong[1])),
            "both_wrong": int(np.count_nonzero(wrong[0] & wrong[1])),
        },
        "test": compare(
            first.scores[mine], other.scores[theirs], truth, how, asv=_asv_of(first, other)
        ).to_dict(),
    }


def _asv_of(first: System, other: System) -> AsvErrorRates | FixedAsvRates | None:
    """The speaker verification system of the t-DCF, when both reports used the same."""
    for key in ("asv", "asv_fixed_rates"):
        rates = first.report.get(key)
        if not isinstance(rates, dict) or rates != other.report.get(key):
            continue
        found = {name: number(rates, name) for name in rates}
        values = {name: value for name, value in found.items() if value is not None}
        if key == "asv" and {"threshold", "pfa", "pmiss", "pmiss_spoof", "eer_percent"} <= set(
            values
        ):
            return AsvErrorRates(
                threshold=values["threshold"], pfa=values["pfa"], pmiss=values["pmiss"],
                pmiss_spoof=values["pmiss_spoof"], eer=values["eer_percent"] / 100,
            )  # fmt: skip
        if key == "asv_fixed_rates" and {"pfa", "pmiss", "pfa_spoof"} <= set(values):
            return FixedAsvRates(
                pfa=values["pfa"], pmiss=values["pmiss"], pfa_spoof=values["pfa_spoof"]
            )
    return None
