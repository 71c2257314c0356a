"""ASVspoof 2021 LA, DF and PA: audio as distributed, truth from the full keys and meta-labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from aasist_deploy.errors import TrialsError
from aasist_deploy.trials._parsing import (
    Names,
    SharedConditions,
    check_split,
    checked_label,
    entries_or_error,
    find_in_corpus,
    first_folder,
    protocol_lines,
)
from aasist_deploy.trials._types import (
    NO_ATTACK,
    NOT_APPLICABLE,
    Dataset,
    ProtocolEntry,
    trials_of,
)

if TYPE_CHECKING:
    from pathlib import Path

Track = Literal["LA", "DF", "PA"]

SPLITS: Final = ("eval", "progress", "hidden", "all")
# The PA track reports its hidden trials apart: simulated, and really replayed but trimmed.
SPLITS_PA: Final = ("eval", "progress", "hidden", "hidden1", "hidden2", "all")
_HIDDEN_TRIM: Final = {"hidden1": "notrim", "hidden2": "trim"}
# "bonafide" in a column of attack properties means that there is none.
_OF_ATTACKS: Final = ("vocoder",)


class _Columns(NamedTuple):
    """Columns of trial_metadata.txt; names but the first four are conditions."""

    names: str

    @property
    def conditions(self) -> list[tuple[str, int]]:
        fixed = {"speaker", "utterance", "attack", "key"}
        return [(n, i) for i, n in enumerate(self.names.split()) if n not in fixed]

    def at(self, name: str) -> int:
        return self.names.split().index(name)


# Source: ASVspoof 2021 evaluation package, README.md ("On meta-labels") and the columns it reads.
METADATA: Final[dict[Track, _Columns]] = {
    "LA": _Columns("speaker utterance codec transmission attack key trim subset"),
    "DF": _Columns(
        "speaker utterance compressor source attack key trim subset vocoder task team "
        "gender_pair language"
    ),
    "PA": _Columns(
        "speaker utterance room microphone distance attacker_room attacker_microphone "
        "replay_device attacker_distance key trim subset"
    ),
}


def load(track: Track, root: Path, split: str) -> Dataset:
    """Load a subset of `root`, which holds ASVspoof2021_<track>_eval and the unpacked keys."""
    name = f"asvspoof2021-{track.lower()}"
    check_split(name, split, SPLITS_PA if track == "PA" else SPLITS)
    metadata = "CM/trial_metadata.txt"
    folders = (f"keys/{track}", f"{track}-keys-full/keys/{track}", f"{track}/keys", "keys")
    protocol = find_in_corpus(
        root,
        [f"{folder}/{metadata}" for folder in folders],
        fix=f"Unpack the full keys and meta-labels of the {track} track ({track}-keys-full) beside "
        f"the audio: the list inside ASVspoof2021_{track}_eval names the files without the truth.",
    )
    audio = f"ASVspoof2021_{track}_eval/flac"
    entries = tuple(
        entry
        for entry in parse_metadata_2021(protocol, track)
        if in_subset(split, entry.conditions["subset"], entry.conditions["trim"])
    )
    if not entries:
        raise TrialsError(f"{protocol} has no trial of the subset {split!r}.")
    asv_key, asv_scores = _asv_files(protocol.parent.parent / "ASV")
    return Dataset(
        name=name,
        split=split,
        trials=trials_of(entries, first_folder(root, (audio, f"{track}/{audio}"))),
        asv_scores=asv_scores,
        protocol=protocol,
        metrics="eer" if track == "DF" else "2021",  # DF: no ASV, no t-DCF (evaluation plan)
        asv_key=asv_key,
    )


def parse_metadata_2021(path: Path, track: Track) -> tuple[ProtocolEntry, ...]:
    """Read trial_metadata.txt of the countermeasure keys, plain or gzip-compressed.

    Returns:
        One entry for each line, in the file's order. All columns but speaker, utterance, attack
        and key are conditions. The PA track names no attacks.

    Raises:
        TrialsError: As for `parse_protocol_2019`.
    """
    columns = METADATA[track]
    attack_at = columns.at("attack") if track != "PA" else None
    key_at = columns.at("key")
    conditions = columns.conditions
    condition_names = [name for name, _ in conditions]
    entries = []
    names, shared = Names(path), SharedConditions()
    fix = f"Give CM/trial_metadata.txt of the full {track} keys of ASVspoof 2021."
    for number, fields in protocol_lines(path, columns.names, fix):
        label, attack = checked_label(
            fields[key_at],
            NO_ATTACK if attack_at is None else fields[attack_at],
            f"{path}:{number}",
        )
        names.add(fields[1], number)
        values = [
            NOT_APPLICABLE if name in _OF_ATTACKS and label == "bonafide" else fields[index]
            for name, index in conditions
        ]
        entries.append(
            ProtocolEntry(
                utterance=fields[1],
                label=label,
                attack=attack,
                speaker=fields[0],
                conditions=shared.of(condition_names, values),
            )
        )
    return entries_or_error(entries, path)


def in_subset(split: str, subset: str, trim: str) -> bool:
    """Whether a trial with these meta-labels belongs to the split."""
    if split in _HIDDEN_TRIM:
        return subset == "hidden" and trim == _HIDDEN_TRIM[split]
    return split in {"all", subset}


def _asv_files(folder: Path) -> tuple[Path | None, Path | None]:
    """ASV/trial_metadata.txt and ASV/<system>/score.txt, where both are there."""
    key = folder / "trial_metadata.txt"
    scores = sorted(folder.glob("*/score.txt"))  # ASVTorch_Kaldi, in whatever case
    if not key.is_file() or len(scores) != 1:
        return None, None
    return key, scores[0]
