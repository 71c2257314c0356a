"""What earlier evaluations left in their folders, read again for another page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import ScoresError, UsageError
from aasist_deploy.report._hardest import hardest_trials
from aasist_deploy.scores import read_scores
from aasist_deploy.textfile import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

ROBUSTNESS_FILE: Final = "robustness.json"
_SCHEMA_PREFIX: Final = "aasist-deploy/report/"
_SCHEMA_READ: Final = "aasist-deploy/report/1"
_NUMBER: Final = (int, float)
# Keys that every report.json has, with the types that the page relies on.
_KEYS: Final[Mapping[str, tuple[type, ...]]] = {
    "schema": (str,),
    "created": (str,),
    "command": (str,),
    "compat": (str,),
    "eer_percent": _NUMBER,
    "eer_threshold": _NUMBER,
    "min_tdcf_2019": (*_NUMBER, type(None)),
    "min_tdcf_2019_note": (str, type(None)),
    "n_bonafide": (int,),
    "n_spoof": (int,),
    "attacks": (dict,),
    "polarity": (dict,),
    "asv": (dict, type(None)),
    "dataset": (dict,),
    "model": (dict, type(None)),
    "backend": (dict, type(None)),
    "timing": (dict, type(None)),
    "audio": (dict, type(None)),
    "failures": (list,),
    "environment": (dict,),
}
_NESTED: Final[Mapping[str, Mapping[str, tuple[type, ...]]]] = {
    "polarity": {"reversed": (bool,), "negated_eer_percent": _NUMBER,
                 "message": (str, type(None))},
    "dataset": {"name": (str,), "split": (str, type(None)), "n_trials": (int,)},
    "backend": {"name": (str,), "device": (str,)},
    "timing": {"seconds": _NUMBER, "trials_per_second": _NUMBER, "audio_seconds": _NUMBER},
    "audio": {"n_second_decoder": (int,), "n_resampled": (int,), "n_tiled": (int,),
              "n_cut": (int,)},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One evaluated system.

    Attributes:
        label: What the page calls it.
        report: report.json, with `hardest`.
        utterances: Unique names of the scored trials.
        scores: (n,) finite; higher means more bona fide.
        is_bonafide: (n,) the truth.
        attacks: (n,) attack names, "-" for none.
        robustness: robustness.json of the same folder, or None.
    """

    label: str
    report: Mapping[str, Any]
    utterances: tuple[str, ...]
    scores: NDArray[np.float64]
    is_bonafide: NDArray[np.bool_]
    attacks: tuple[str, ...]
    robustness: Mapping[str, Any] | None = None

    @property
    def bonafide(self) -> NDArray[np.float64]:
        """Scores of the bona fide trials."""
        return self.scores[self.is_bonafide]

    @property
    def spoof(self) -> NDArray[np.float64]:
        """Scores of the spoofed trials."""
        return self.scores[~self.is_bonafide]


def read_system(folder: Path, label: str | None = None) -> System:
    """Read report.json and scores.txt, and robustness.json where there is one.

    Args:
        folder: What `eval --out` wrote.
        label: Name on the page; the folder's name unless given.

    Raises:
        UsageError: One of the two files is not there.
        ScoresError: A file is damaged, of another version, or the two are not of one evaluation.
    """
    for name in ("report.json", "scores.txt"):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder} holds no {name}.",
                fix=f"Name the folder of an evaluation: aasist-deploy eval ... --out {folder}",
            )
    report = _checked(_object(folder / "report.json"), folder / "report.json")
    table = read_scores(folder / "scores.txt")
    if table.is_bonafide is None or table.attacks is None:
        raise ScoresError(
            f"{folder / 'scores.txt'} does not say which trials are bona fide, or the attacks.",
            fix="Evaluate again; eval writes lines of utterance attack key score.",
        )
    counted = int(table.is_bonafide.sum()), int((~table.is_bonafide).sum())
    stated = report["n_bonafide"], report["n_spoof"]
    if counted != stated:
        raise ScoresError(
            f"In {folder}, report.json is about {stated[0]} bona fide and {stated[1]} spoofed "
            f"trials, scores.txt holds {counted[0]} and {counted[1]}: they are not of one "
            "evaluation.",
            fix="Evaluate again.",
        )
    if not _are_rows(report.get("hardest")):
        report["hardest"] = hardest_trials(
            table.scores, table.is_bonafide, table.attacks, table.utterances,
            float(report["eer_threshold"]),
        )  # fmt: skip
    return System(
        label=label or folder.resolve().name,
        report=report,
        utterances=table.utterances,
        scores=table.scores,
        is_bonafide=table.is_bonafide,
        attacks=table.attacks,
        robustness=read_robustness(folder / ROBUSTNESS_FILE),
    )


def read_robustness(path: Path) -> dict[str, Any] | None:
    """Read what `aasist-deploy robustness` wrote; None when the file is not there.

    Raises:
        ScoresError: It cannot be read or is something else.
    """
    if not path.is_file():
        return None
    found = _object(path)
    if not str(found.get("schema")).startswith("aasist-deploy/robustness/"):
        raise ScoresError(
            f"{path} is no robustness sweep: its schema is {found.get('schema')!r}.",
            fix="Write it with: aasist-deploy robustness MODEL --dataset ... --out FOLDER",
        )
    return found


def _object(path: Path) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON number")

    try:
        found = json.loads(read_text(path, ScoresError), parse_constant=refuse)
    except (ValueError, RecursionError) as cause:
        raise ScoresError(f"{path} is not valid JSON: {cause}.", fix="Write it again.") from cause
    if not isinstance(found, dict):
        raise ScoresError(f"{path} is {type(found).__name__}, not a JSON object.")
    return found


def _checked(report: dict[str, Any], path: Path) -> dict[str, Any]:
    schema = str(report.get("schema"))
    if schema != _SCHEMA_READ:
        known = schema.startswith(_SCHEMA_PREFIX)
        raise ScoresError(
            f"{path} has the schema {schema!r}; this version reads {_SCHEMA_READ!r}.",
            fix="Use the version of aasist-deploy that wrote it, or evaluate again."
            if known else "Name the folder that eval wrote.",
        )  # fmt: skip
    _check_types(report, _KEYS, path, "")
    for key, nested in _NESTED.items():
        if report[key] is not None:
            _check_types(report[key], nested, path, f"{key}.")
    for index, failure in enumerate(report["failures"]):
        if not isinstance(failure, dict):
            raise ScoresError(f"{path}: failures[{index}] is no object.")
        _check_types(failure, dict.fromkeys(("utterance", "path", "error"), (str,)), path,
                     f"failures[{index}].")  # fmt: skip
    return report


def _check_types(
    values: Mapping[str, Any], wanted: Mapping[str, tuple[type, ...]], path: Path, where: str
) -> None:
    for key, types in wanted.items():
        value = values.get(key)
        right = isinstance(value, types) and (bool in types or not isinstance(value, bool))
        if key not in values or not right or (isinstance(value, float) and math.isinf(value)):
            names = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise ScoresError(
                f"{path}: {where}{key} is {value!r:.80}; expected {names}.",
                fix="Evaluate again, or undo what was changed by hand.",
            )


def _are_rows(rows: object) -> bool:
    texts, numbers = ("utterance", "label", "attack"), ("score", "margin")
    return isinstance(rows, list) and all(
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) for key in texts)
        and all(type(row.get(key)) in {int, float} for key in numbers)
        for row in rows
    )
