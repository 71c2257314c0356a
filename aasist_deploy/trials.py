"""Datasets: which utterances there are, where their audio lies, and which of them are spoofed.

A path read from a file never leaves the folder it belongs to: a protocol or manifest that names
`../x`, `/x` or an utterance with a slash is refused before anything is opened.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from aasist_deploy.errors import TrialsError
from aasist_deploy.textfile import excerpt, numbered_fields, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Label = Literal["bonafide", "spoof"]

NO_ATTACK: Final = "-"  # the ASVspoof protocols' own sign for "not an attack"

_PROTOCOL_2019_COLUMNS: Final = "speaker utterance - attack key"
_SPLITS_2019: Final = ("train", "dev", "eval")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolEntry:
    """One line of a protocol: what an utterance is, without where its audio lies."""

    utterance: str
    label: Label
    attack: str
    speaker: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One utterance to score.

    Attributes:
        utterance: Name that score files use.
        path: The audio file; it may be missing on disk.
        label: The truth.
        attack: Attack name of a spoof, "-" for bona fide or when it is not known.
        speaker: Claimed speaker, where the protocol says.
    """

    utterance: str
    path: Path
    label: Label
    attack: str
    speaker: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The trials of one split, in the order of the protocol.

    Attributes:
        name: Name in the registry.
        split: The part that was loaded.
        trials: One or more; utterance names are unique.
        asv_scores: Scores of a speaker verification system on the same split, for the t-DCF.
        protocol: The file that the trials were read from.
    """

    name: str
    split: str
    trials: tuple[Trial, ...]
    asv_scores: Path | None
    protocol: Path

    def missing_audio(self) -> list[Trial]:
        """Return the trials whose audio is not on disk."""
        return [trial for trial in self.trials if not trial.path.is_file()]

    def require_audio(self) -> None:
        """Check that the audio of all trials is on disk.

        Raises:
            TrialsError: Some of it is not.
        """
        missing = self.missing_audio()
        if missing:
            first = missing[0].path
            raise TrialsError(
                f"{len(missing)} of {len(self.trials)} utterances of {self.protocol} "
                f"are not under {first.parent}; first: {first.name}.",
                fix="Unpack the whole corpus there, or give a protocol of what is there.",
            )


def load_dataset(name: str, root: Path, split: str) -> Dataset:
    """Load the trials of one split of a dataset.

    Args:
        name: One of `dataset_names()`.
        root: Where the dataset lies. asvspoof2019-la: the folder that holds
            ASVspoof2019_LA_cm_protocols, or its parent with the folder LA. manifest: a CSV file
            with the columns path, label and optionally attack, speaker, utterance, split; or the
            folder of a manifest.csv.
        split: asvspoof2019-la: train, dev or eval. manifest: a value of the column split, or all.

    Raises:
        TrialsError: The name is not known, or the dataset is not as it should be.
    """
    loader = _LOADERS.get(name)
    if loader is None:
        raise TrialsError(
            f"There is no dataset {name!r}; known are {', '.join(_LOADERS)}.",
            fix="Use one of these names, or write a CSV manifest and use the name manifest.",
        )
    return loader(root, split)


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` knows."""
    return tuple(_LOADERS)


def parse_protocol_2019(path: Path) -> tuple[ProtocolEntry, ...]:
    """Read a countermeasure protocol of ASVspoof 2019, plain or gzip-compressed.

    Returns:
        One entry for each line `speaker utterance - attack key`, in the file's order.

    Raises:
        TrialsError: A line has another number of columns or another key, an utterance appears
            twice or is no plain file name, or there is no line at all.

    Source: ASVspoof 2019 LA, README.LA.txt, "protocol files".
    """
    entries = []
    seen: dict[str, str] = {}
    for number, fields in numbered_fields(read_text(path, TrialsError)):
        where = f"{path}:{number}"
        if len(fields) != 5:
            raise TrialsError(
                f"{where} has {len(fields)} columns: {excerpt(' '.join(fields))}; "
                f"expected 5: {_PROTOCOL_2019_COLUMNS}.",
                fix="Give a protocol of ASVspoof 2019 (…cm.eval.trl.txt), not a score file.",
            )
        speaker, utterance, _, attack, key = fields
        label = _checked_label(key, attack, where)
        _check_utterance(utterance, where, seen)
        entries.append(
            ProtocolEntry(utterance=utterance, label=label, attack=attack, speaker=speaker)
        )
    if not entries:
        raise TrialsError(f"{path} lists no utterances.")
    return tuple(entries)


def _load_asvspoof2019_la(root: Path, split: str) -> Dataset:
    if split not in _SPLITS_2019:
        raise TrialsError(
            f"asvspoof2019-la has no split {split!r}.", fix=f"Use {', '.join(_SPLITS_2019)}."
        )
    corpus = _find_corpus(root, "ASVspoof2019_LA_cm_protocols")
    suffix = "train.trn" if split == "train" else f"{split}.trl"
    protocol = corpus / "ASVspoof2019_LA_cm_protocols" / f"ASVspoof2019.LA.cm.{suffix}.txt"
    audio = corpus / f"ASVspoof2019_LA_{split}" / "flac"
    trials = tuple(
        Trial(
            utterance=entry.utterance,
            path=audio / f"{entry.utterance}.flac",
            label=entry.label,
            attack=entry.attack,
            speaker=entry.speaker,
        )
        for entry in parse_protocol_2019(protocol)
    )
    asv_scores = (
        corpus / "ASVspoof2019_LA_asv_scores" / f"ASVspoof2019.LA.asv.{split}.gi.trl.scores.txt"
    )
    return Dataset(
        name="asvspoof2019-la",
        split=split,
        trials=trials,
        asv_scores=asv_scores if asv_scores.is_file() else None,
        protocol=protocol,
    )


def _find_corpus(root: Path, marker: str) -> Path:
    candidates = (root, root / "LA")
    for candidate in candidates:
        if (candidate / marker).is_dir():
            return candidate
    try:
        held = sorted(entry.name for entry in root.iterdir())
    except OSError as cause:
        raise TrialsError(f"{root} cannot be listed: {cause.strerror or cause}.") from cause
    shown = ", ".join(held[:5]) + (f" and {len(held) - 5} more" if len(held) > 5 else "")
    raise TrialsError(
        f"No folder {marker} in {root} or in {root / 'LA'}; {root} holds {shown or 'nothing'}.",
        fix=f"Give the folder of the unpacked corpus that holds {marker}.",
    )


def _load_manifest(root: Path, split: str) -> Dataset:
    manifest = root / "manifest.csv" if root.is_dir() else root
    reader = csv.DictReader(io.StringIO(read_text(manifest, TrialsError), newline=""), strict=True)
    trials = []
    try:
        missing = sorted({"path", "label"} - set(reader.fieldnames or ()))
        if missing:
            raise TrialsError(
                f"{manifest}:1 lacks the column {' and '.join(missing)}; "
                f"it has {excerpt(', '.join(reader.fieldnames or ()))}.",
                fix="Start with the header path,label[,attack,speaker,utterance,split].",
            )
        if split != "all" and "split" not in (reader.fieldnames or ()):
            raise TrialsError(
                f"{manifest} has no column split to take {split!r} from.",
                fix="Use the split all, or add the column.",
            )
        seen: dict[str, str] = {}
        seen_splits = set()
        for row in reader:
            where = f"{manifest}:{reader.line_num}"
            if None in row or None in row.values():
                raise TrialsError(
                    f"{where} does not have the {len(reader.fieldnames or ())} columns "
                    "of the header.",
                    fix="Quote fields that hold a comma; leave no column out.",
                )
            seen_splits.add(row.get("split", ""))
            if split in {"all", row.get("split")}:
                trials.append(_manifest_trial(row, manifest.parent, where, seen))
    except csv.Error as cause:
        raise TrialsError(f"{manifest}:{reader.line_num} is not valid CSV: {cause}.") from cause
    if not trials:
        held = f" with split {split!r}; it has {excerpt(', '.join(sorted(seen_splits)))}"
        raise TrialsError(f"{manifest} has no line{held if seen_splits else ''}.")
    return Dataset(
        name="manifest", split=split, trials=tuple(trials), asv_scores=None, protocol=manifest
    )


def _manifest_trial(
    row: Mapping[str, str], folder: Path, where: str, seen: dict[str, str]
) -> Trial:
    relative = PurePosixPath(row["path"])
    if not relative.name or relative.is_absolute() or ".." in relative.parts or "\0" in row["path"]:
        raise TrialsError(
            f"{where}: the path {excerpt(row['path'])} does not stay under {folder}.",
            fix="Put the manifest at the top of the audio and write paths relative to its folder.",
        )
    utterance = row.get("utterance") or relative.stem
    attack = row.get("attack") or NO_ATTACK
    for column, value in (("utterance", utterance), ("attack", attack)):
        if len(value.split()) != 1 or value != value.strip():
            raise TrialsError(
                f"{where}: the {column} {excerpt(value)} holds blanks, "
                "which score files use between columns.",
                fix=f"Give each line a value without blanks in the column {column}.",
            )
    label = _checked_label(row["label"], attack, where)
    _check_utterance(utterance, where, seen)
    return Trial(
        utterance=utterance,
        path=folder / relative,
        label=label,
        attack=attack,
        speaker=row.get("speaker") or None,
    )


def _checked_label(key: str, attack: str, where: str) -> Label:
    if key == "spoof":
        return "spoof"
    if key != "bonafide":
        raise TrialsError(f"{where}: the key is {excerpt(key)}; expected bonafide or spoof.")
    if attack != NO_ATTACK:
        raise TrialsError(
            f"{where} is bona fide but names the attack {excerpt(attack)}.",
            fix=f"Write {NO_ATTACK} as the attack, or spoof as the key.",
        )
    return "bonafide"


def _check_utterance(utterance: str, where: str, seen: dict[str, str]) -> None:
    if "/" in utterance or "\0" in utterance or ".." in utterance:
        raise TrialsError(
            f"{where}: the utterance {excerpt(utterance)} is not a plain file name.",
            fix="Utterances are names without folders, '/' and '..'.",
        )
    if utterance in seen:
        raise TrialsError(
            f"{where} lists the utterance {excerpt(utterance)} again, after {seen[utterance]}.",
            fix="Keep one line for each utterance; in a manifest, a column utterance can "
            "tell files of the same name in different folders apart.",
        )
    seen[utterance] = where


_LOADERS: Final[Mapping[str, Callable[[Path, str], Dataset]]] = {
    "asvspoof2019-la": _load_asvspoof2019_la,
    "manifest": _load_manifest,
}
