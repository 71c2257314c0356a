"""The truth from a key file of any known layout, told by its columns."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import TrialsError
from aasist_deploy.textfile import excerpt, numbered_fields, read_text
from aasist_deploy.trials import asvspoof5, asvspoof2019, asvspoof2021, in_the_wild, manifest
from aasist_deploy.trials._parsing import Names, checked_label, entries_or_error
from aasist_deploy.trials._types import NO_ATTACK, ProtocolEntry, Trial

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TRACK_2021: Final[dict[int, asvspoof2021.Track]] = {
    len(columns.names.split()): track for track, columns in asvspoof2021.METADATA.items()
}
_HEADER_KEY: Final = ("filename", "cm-label")
_KNOWN: Final = (
    f"Known keys: ASVspoof 2019 ({asvspoof2019.COLUMNS}); ASVspoof 2021 trial_metadata.txt of LA, "
    "PA or DF (8, 12 or 13 columns); ASVspoof 5 track 1 (10 columns) and track 2 "
    f"({asvspoof5.COLUMNS_2}); a header with filename and cm-label; In-the-Wild meta.csv; "
    "a CSV manifest with path and label."
)


def read_key(path: Path) -> tuple[ProtocolEntry, ...]:
    """Read the truth of a split from a protocol, key or manifest, plain or gzip-compressed.

    Returns:
        One entry for each utterance, in the file's order; all splits of a manifest, all subsets
        of ASVspoof 2021 metadata.

    Raises:
        TrialsError: The columns are those of no known layout, or the file is not as its layout.
    """
    text = read_text(path, TrialsError)
    number, fields = next(numbered_fields(text), (0, []))
    if not fields:
        raise TrialsError(f"{path} lists no utterances.")
    header = _csv_header(text)
    if set(manifest.COLUMNS) <= header:
        return _entries(manifest.parse_manifest(path))
    if set(in_the_wild.COLUMNS) <= header:
        return _entries(in_the_wild.parse_meta(path))
    if set(_HEADER_KEY) <= set(fields):
        return _with_header(path, text, fields)
    if len(fields) == 5:
        if fields[2] in {"F", "M"} and fields[4] in {"target", "nontarget", "spoof"}:
            return asvspoof5.parse_protocol_5_track_2(path)
        return asvspoof2019.parse_protocol_2019(path)
    if len(fields) == len(asvspoof5.COLUMNS_1.split()):
        return asvspoof5.parse_protocol_5_track_1(path)
    if len(fields) in _TRACK_2021:
        return asvspoof2021.parse_metadata_2021(path, _TRACK_2021[len(fields)])
    raise TrialsError(
        f"{path}:{number} has {len(fields)} columns: {excerpt(' '.join(fields))}; "
        "no known key is like that.",
        fix=_KNOWN,
    )


def _csv_header(text: str) -> set[str]:
    first = text.lstrip().partition("\n")[0].rstrip("\r")
    try:
        return set(next(csv.reader([first], strict=True), []))
    except csv.Error:
        return set()


def _entries(trials: Sequence[Trial]) -> tuple[ProtocolEntry, ...]:
    return tuple(
        ProtocolEntry(
            utterance=trial.utterance,
            label=trial.label,
            attack=trial.attack,
            speaker=trial.speaker,
            conditions=trial.conditions,
        )
        for trial in trials
    )


def _with_header(path: Path, text: str, header: Sequence[str]) -> tuple[ProtocolEntry, ...]:
    """The keys of the ASVspoof 5 evaluation: filename cm-label, or spk filename cm-label asv-label.

    The second has a line for each claimed speaker; a file is one utterance.
    """
    name_at, label_at = header.index("filename"), header.index("cm-label")
    pairs = "spk" in header
    entries: dict[str, ProtocolEntry] = {}
    names = Names(path)
    lines = numbered_fields(text)
    next(lines)
    for number, fields in lines:
        if len(fields) != len(header):
            raise TrialsError(
                f"{path}:{number} has {len(fields)} columns: {excerpt(' '.join(fields))}; "
                f"expected {len(header)}: {' '.join(header)}."
            )
        utterance = fields[name_at]
        label, attack = checked_label(fields[label_at], NO_ATTACK, f"{path}:{number}")
        entry = entries.get(utterance)
        if entry is None or not pairs:
            names.add(utterance, number)
            entries[utterance] = ProtocolEntry(
                utterance=utterance, label=label, attack=attack, speaker=None
            )
        elif entry.label != label:
            raise TrialsError(
                f"{path}:{number}: {excerpt(utterance)} is {label}, but an earlier line says "
                f"{entry.label}."
            )
    return entries_or_error(list(entries.values()), path)
