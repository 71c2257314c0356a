"""ASVspoof 5: track 1 (countermeasure alone) and track 2 (countermeasure before verification)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from aasist_deploy.errors import TrialsError
from aasist_deploy.textfile import excerpt
from aasist_deploy.trials._parsing import (
    Names,
    SharedConditions,
    check_split,
    checked_label,
    entries_or_error,
    find_in_corpus,
    first_folder,
    look_in_corpus,
    protocol_lines,
)
from aasist_deploy.trials._types import (
    NO_CONDITIONS,
    NOT_APPLICABLE,
    Dataset,
    Label,
    ProtocolEntry,
    trials_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SplitTrack = Literal[1, 2]

SPLITS_1: Final = ("train", "dev", "eval")
SPLITS_2: Final = ("dev", "eval")
# Source: README.txt of the ASVspoof 5 database, section 3; the files have no header.
COLUMNS_1: Final = (
    "speaker utterance gender codec codec_quality codec_seed attack_tag attack key tmp"
)
COLUMNS_2: Final = "target_speaker utterance gender attack key"

_AUDIO: Final = {"train": "flac_T", "dev": "flac_D", "eval": "flac_E_eval"}
_LABELS_2: Final[Mapping[str, Label]] = {
    "target": "bonafide",
    "nontarget": "bonafide",
    "spoof": "spoof",
}
_FIX: Final = "Give the protocols of the ASVspoof 5 release (ASVspoof5_protocols)."


def load(track: SplitTrack, root: Path, split: str) -> Dataset:
    """Load a split of `root`, which holds flac_T, flac_D, flac_E_eval and the protocols."""
    name = f"asvspoof5-t{track}"
    check_split(name, split, SPLITS_1 if track == 1 else SPLITS_2)
    audio = first_folder(root, (_AUDIO[split], f"flac/{_AUDIO[split]}"))
    track_1 = _in_folders(
        "ASVspoof5.train.tsv" if split == "train" else f"ASVspoof5.{split}.track_1.tsv"
    )
    if track == 1:
        protocol = find_in_corpus(root, track_1, fix=_FIX)
        entries = parse_protocol_5_track_1(protocol)
    else:
        files = [f"ASVspoof5.{split}.{name}" for name in ("track_2.trial.tsv", "trial.tsv")]
        protocol = find_in_corpus(root, [c for file in files for c in _in_folders(file)], fix=_FIX)
        entries = parse_protocol_5_track_2(protocol)
        known = look_in_corpus(root, track_1)
        if known is not None:
            entries = _with_conditions(entries, parse_protocol_5_track_1(known))
    return Dataset(
        name=name,
        split=split,
        trials=trials_of(entries, audio),
        asv_scores=None,
        protocol=protocol,
        metrics="asvspoof5-t1" if track == 1 else "asvspoof5-t2",
    )


def parse_protocol_5_track_1(path: Path) -> tuple[ProtocolEntry, ...]:
    """Read ASVspoof5.train.tsv or ASVspoof5.{dev,eval}.track_1.tsv, plain or gzip-compressed.

    Returns:
        One entry for each line, in the file's order, with the conditions gender, codec ("none"
        where the file says "-"), codec_quality, and attack_tag (how the attacker adapted).

    Raises:
        TrialsError: As for `parse_protocol_2019`.
    """
    entries = []
    names, shared = Names(path), SharedConditions()
    for number, fields in protocol_lines(path, COLUMNS_1, _FIX):
        speaker, utterance, gender, codec, quality, _, tag, attack, key, _ = fields
        label, attack = checked_label(key, attack, f"{path}:{number}")
        names.add(utterance, number)
        entries.append(
            ProtocolEntry(
                utterance=utterance,
                label=label,
                attack=attack,
                speaker=speaker,
                conditions=shared.of(
                    ("gender", "codec", "codec_quality", "attack_tag"),
                    (gender, "none" if codec == NOT_APPLICABLE else codec, quality, tag),
                ),
            )
        )
    return entries_or_error(entries, path)


def parse_protocol_5_track_2(path: Path) -> tuple[ProtocolEntry, ...]:
    """Read ASVspoof5.{dev,eval}.track_2.trial.tsv, plain or gzip-compressed.

    A line is a pair of a target speaker and a file; a file is in several pairs and is one
    utterance for a countermeasure, whose score does not depend on the claimed speaker.

    Returns:
        One entry for each file, in the order of its first line, without a speaker: the first
        column is who is claimed, not who speaks.

    Raises:
        TrialsError: As for `parse_protocol_2019`; also when a pair appears twice, or a file is
            both bona fide and spoof.
    """
    entries: dict[str, ProtocolEntry] = {}
    pairs: dict[tuple[str, str], int] = {}
    names = Names(path)
    for number, (target, utterance, _, attack, key) in protocol_lines(path, COLUMNS_2, _FIX):
        where = f"{path}:{number}"
        if key not in _LABELS_2:
            raise TrialsError(
                f"{where}: the key is {excerpt(key)}; expected {', '.join(_LABELS_2)}."
            )
        label, attack = checked_label(_LABELS_2[key], attack, where)  # noqa: PLW2901
        first = pairs.setdefault((target, utterance), number)
        if first != number:
            raise TrialsError(
                f"{where} lists {excerpt(utterance)} for {excerpt(target)} again, "
                f"after {path}:{first}.",
                fix="Keep one line for each pair of speaker and file.",
            )
        entry = entries.get(utterance)
        if entry is None:
            names.add(utterance, number)
            entries[utterance] = ProtocolEntry(
                utterance=utterance, label=label, attack=attack, speaker=None
            )
        elif (entry.label, entry.attack) != (label, attack):
            raise TrialsError(
                f"{where}: {excerpt(utterance)} is {label} {attack}, but an earlier line says "
                f"{entry.label} {entry.attack}."
            )
    return entries_or_error(list(entries.values()), path)


def _in_folders(file: str) -> list[str]:
    return [file, f"ASVspoof5_protocols/{file}", f"protocols/{file}"]


def _with_conditions(
    entries: tuple[ProtocolEntry, ...], known: tuple[ProtocolEntry, ...]
) -> tuple[ProtocolEntry, ...]:
    """Track 2 entries with the speakers and conditions that track 1 knows of the same files."""
    by_name = {entry.utterance: entry for entry in known}
    return tuple(
        ProtocolEntry(
            utterance=entry.utterance,
            label=entry.label,
            attack=entry.attack,
            speaker=by_name[entry.utterance].speaker if entry.utterance in by_name else None,
            conditions=by_name[entry.utterance].conditions
            if entry.utterance in by_name
            else NO_CONDITIONS,
        )
        for entry in entries
    )
