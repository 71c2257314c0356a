"""ASVspoof 2019 LA and PA: logical access (synthesis, conversion) and physical access (replay)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from aasist_deploy.trials._parsing import (
    Names,
    SharedConditions,
    check_split,
    checked_label,
    entries_or_error,
    find_in_corpus,
    protocol_lines,
)
from aasist_deploy.trials._types import (
    NOT_APPLICABLE,
    Conditions,
    Dataset,
    ProtocolEntry,
    trials_of,
)

if TYPE_CHECKING:
    from pathlib import Path

Access = Literal["LA", "PA"]

SPLITS: Final = ("train", "dev", "eval")
COLUMNS: Final = "speaker utterance - attack key"
# README.PA.txt: environment (S, R, D_s) in letters a to c, attack (D_a, Q) in letters A to C.
_ENVIRONMENT: Final = ("room_size", "reverberation", "talker_distance")
_REPLAY: Final = ("attacker_distance", "replay_device_quality")
_FIX: Final = "Give a protocol of ASVspoof 2019 (…cm.eval.trl.txt), not a score file."


def load(access: Access, root: Path, split: str) -> Dataset:
    """Load a split of `root`, the folder LA or PA of the corpus or its parent."""
    name = f"asvspoof2019-{access.lower()}"
    check_split(name, split, SPLITS)
    suffix = "train.trn" if split == "train" else f"{split}.trl"
    file = f"ASVspoof2019_{access}_cm_protocols/ASVspoof2019.{access}.cm.{suffix}.txt"
    protocol = find_in_corpus(
        root,
        (file, f"{access}/{file}"),
        fix=f"Give the folder of the unpacked corpus that holds {file.partition('/')[0]}.",
    )
    corpus = protocol.parent.parent
    asv_scores = (
        corpus
        / f"ASVspoof2019_{access}_asv_scores"
        / f"ASVspoof2019.{access}.asv.{split}.gi.trl.scores.txt"
    )
    return Dataset(
        name=name,
        split=split,
        trials=trials_of(
            parse_protocol_2019(protocol), corpus / f"ASVspoof2019_{access}_{split}" / "flac"
        ),
        asv_scores=asv_scores if asv_scores.is_file() else None,
        protocol=protocol,
        metrics="2019",
    )


def parse_protocol_2019(path: Path) -> tuple[ProtocolEntry, ...]:
    """Read a countermeasure protocol of ASVspoof 2019 LA or PA, plain or gzip-compressed.

    Returns:
        One entry for each line `speaker utterance - attack key`, in the file's order. Where the
        third column is an environment (PA), it and the attack are taken apart into conditions:
        environment, room_size, reverberation, talker_distance (a to c), attacker_distance and
        replay_device_quality (A to C, "-" for bona fide).

    Raises:
        TrialsError: A line has another number of columns or another key, an utterance appears
            twice or is no plain file name, or there is no line at all.

    Source: ASVspoof 2019, README.LA.txt and README.PA.txt, "protocols".
    """
    entries = []
    names, shared = Names(path), SharedConditions()
    for number, (speaker, utterance, environment, attack, key) in protocol_lines(
        path, COLUMNS, _FIX
    ):
        label, attack = checked_label(key, attack, f"{path}:{number}")  # noqa: PLW2901
        names.add(utterance, number)
        entries.append(
            ProtocolEntry(
                utterance=utterance,
                label=label,
                attack=attack,
                speaker=speaker,
                conditions=_physical_access(shared, environment, attack),
            )
        )
    return entries_or_error(entries, path)


def _physical_access(shared: SharedConditions, environment: str, attack: str) -> Conditions:
    if environment == NOT_APPLICABLE:
        return shared.of((), ())
    names, values = ["environment"], [environment]
    if len(environment) == len(_ENVIRONMENT):
        names += _ENVIRONMENT
        values += environment
    names += _REPLAY
    values += attack if len(attack) == len(_REPLAY) else NOT_APPLICABLE * len(_REPLAY)
    return shared.of(names, values)
