"""What a dataset is made of: trials, what is known of each, and what is official for the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aasist_deploy.errors import TrialsError

if TYPE_CHECKING:
    from pathlib import Path

Label = Literal["bonafide", "spoof"]
MetricFamily = Literal["eer", "2019", "2021", "asvspoof5-t1", "asvspoof5-t2"]

NO_ATTACK: Final = "-"  # the ASVspoof protocols' own sign for "not an attack"
NOT_APPLICABLE: Final = "-"  # and for a condition that a trial does not have


class Conditions(Mapping[str, str]):
    """Condition name -> value of one trial; immutable, hashable, and shared between trials.

    A plain dictionary for each of 680,774 trials would take half a gigabyte.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"Conditions({self._values!r})"


NO_CONDITIONS: Final = Conditions()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolEntry:
    """One line of a protocol: what an utterance is, without where its audio lies."""

    utterance: str
    label: Label
    attack: str
    speaker: str | None
    conditions: Mapping[str, str] = NO_CONDITIONS

    def __post_init__(self) -> None:
        """Make the conditions immutable."""
        _freeze_conditions(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One utterance to score.

    Attributes:
        utterance: Name that score files use.
        path: The audio file; it may be missing on disk.
        label: The truth.
        attack: Attack name of a spoof, "-" for bona fide or when it is not known.
        speaker: Claimed speaker, where the protocol says; may hold blanks.
        conditions: What else the protocol says, e.g. codec or vocoder; "-" where a condition does
            not apply, such as the vocoder of a bona fide utterance. Immutable.
    """

    utterance: str
    path: Path
    label: Label
    attack: str
    speaker: str | None
    conditions: Mapping[str, str] = NO_CONDITIONS

    def __post_init__(self) -> None:
        """Make the conditions immutable."""
        _freeze_conditions(self)


def _freeze_conditions(item: ProtocolEntry | Trial) -> None:
    if not isinstance(item.conditions, Conditions):
        object.__setattr__(item, "conditions", Conditions(item.conditions))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The trials of one split, in the order of the protocol.

    Attributes:
        name: Name in the registry.
        split: The part that was loaded.
        trials: One or more; utterance names are unique.
        asv_scores: Scores of a speaker verification system on the same split, for the t-DCF.
        protocol: The file that the trials were read from.
        metrics: The metrics that are official here; "eer" where the EER is the only one. Those of
            "asvspoof5-t2" take the ASV rates that the challenge fixed.
        asv_key: The truth of `asv_scores`, where they do not hold it themselves (ASVspoof 2021).
    """

    name: str
    split: str
    trials: tuple[Trial, ...]
    asv_scores: Path | None
    protocol: Path
    metrics: MetricFamily = "eer"
    asv_key: Path | None = None

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


def trials_of(entries: tuple[ProtocolEntry, ...], audio: Path) -> tuple[Trial, ...]:
    """The trials of protocol entries whose audio is `audio`/<utterance>.flac."""
    return tuple(
        Trial(
            utterance=entry.utterance,
            path=audio / f"{entry.utterance}.flac",
            label=entry.label,
            attack=entry.attack,
            speaker=entry.speaker,
            conditions=entry.conditions,
        )
        for entry in entries
    )
