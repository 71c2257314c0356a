"""What the configurations of all built-in networks share: reading a mapping, and its checks.

A configuration has the keys of the `model_config` object in a published `.conf` file.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from aasist_deploy.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

Channels = tuple[int, int]  # [in, out] of a residual block

# What a configuration may ask for: far above every published network (1,024, 1,024 and 64,600),
# and below what one altered number in a file could fill a machine's memory with.
MAX_SIZE: Final = 4_096
MAX_TAPS: Final = 16_001
MAX_SAMPLES: Final = 86_400 * 16_000  # a day


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig(ABC):
    """The keys that every built-in network has.

    Attributes:
        architecture: One of the names that `build_model` knows the network by.
        nb_samp: Samples of a training crop at 16 kHz.
        first_conv: Taps of the sinc filters; even values are rounded up to odd.
        filts: Number of sinc filters, then [in, out] channels of the residual blocks.
    """

    network: ClassVar[str]  # its name in messages
    published_file: ClassVar[str]  # the published file to compare with
    n_filts: ClassVar[int]  # entries of `filts`

    architecture: str
    nb_samp: int
    first_conv: int
    filts: tuple[Any, ...]

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any]) -> Self:
        """Check a configuration read from a file; keys with a default may be missing.

        Raises:
            CheckpointError: a key is missing or unknown, or a value has the wrong form.
        """
        known = {f.name for f in fields(cls)}
        required = {f.name for f in fields(cls) if f.default is MISSING}
        given = {str(key) for key in config}  # of a checkpoint, a key may be anything
        missing, unknown = required - given, given - known
        if missing or unknown:
            raise CheckpointError(
                f"The model configuration does not fit {cls.network}: missing are "
                f"{', '.join(sorted(missing)) or 'none'}, unknown are "
                f"{', '.join(sorted(unknown)) or 'none'}.",
                fix=f"compare with the model_config object of the published {cls.published_file}",
            )
        try:
            return cls(**{name: cls._parsed(name, value) for name, value in config.items()})
        except (TypeError, ValueError, LookupError, OverflowError) as error:
            raise CheckpointError(
                f"The model configuration has a value of the wrong form: {error}.",
                fix=f"compare with the model_config object of the published {cls.published_file}",
            ) from error

    @classmethod
    def _parsed(cls, name: str, value: Any) -> Any:  # noqa: ANN401  # whatever a JSON file holds
        if name == "architecture":
            return str(value)
        if name == "filts":
            first, *pairs = value
            return (whole(first), *[channels(pair) for pair in pairs])
        if name in ("nb_samp", "first_conv"):
            return whole(value)
        return cls._parsed_own(name, value)

    @classmethod
    def _parsed_own(cls, name: str, value: Any) -> Any:  # noqa: ANN401, ARG003
        """The value of a key that this network alone has; a wrong form raises ValueError, etc."""
        return whole(value)

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            CheckpointError: residual blocks that do not chain, or a size out of its range.
        """
        if len(self.filts) != self.n_filts:
            raise CheckpointError(
                f"The model configuration has {len(self.filts)} filts; {self.network} takes "
                f"{self.n_filts}."
            )
        given = self.first_channels
        for number, (taken, made) in enumerate(self.block_channels):
            if taken != given:
                raise CheckpointError(
                    f"The configured filts do not chain: block {number} takes {taken} channels and "
                    f"is given {given}."
                )
            given = made
        channels_made = [made for _, made in self.block_channels]
        if min(self.nb_samp, self.first_conv, *self.sizes, *channels_made) < 1:
            raise CheckpointError("The model configuration has a size below 1.")
        largest = max(*self.sizes, *channels_made, self.filts[0])
        if largest > MAX_SIZE or self.first_conv > MAX_TAPS or self.nb_samp > MAX_SAMPLES:
            raise CheckpointError(
                f"The model configuration has a size of {largest:.9g}, filters of "
                f"{self.first_conv:.9g} taps and windows of {self.nb_samp:.9g} samples; at most "
                f"{MAX_SIZE}, {MAX_TAPS} and {MAX_SAMPLES} are built."
            )
        if self.nb_samp < self.min_samples:
            raise CheckpointError(
                f"The configured nb_samp is {self.nb_samp}; {self.network} with this first_conv "
                f"takes at least {self.min_samples} samples."
            )
        self._check()

    @property
    @abstractmethod
    def min_samples(self) -> int:
        """The shortest wave that the network is run on."""

    @property
    def block_channels(self) -> tuple[Channels, ...]:
        """[in, out] channels of the six residual blocks: the last pair of `filts` is for three."""
        first, second, third, last = self.filts[1:]
        return (first, second, third, last, last, last)

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """Further numbers that must be at least one."""

    @property
    def first_channels(self) -> int:
        """Channels that the first residual block is given."""
        return 1

    def _check(self) -> None:  # noqa: B027  # a network may have nothing to add
        """Further checks of one network."""

    def settings(self) -> dict[str, Any]:
        """The configuration as plain JSON types; `from_mapping` takes it back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def whole(value: object) -> int:
    """The value as an int.

    Raises:
        ValueError: it is no whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def channels(pair: Any) -> Channels:  # noqa: ANN401  # whatever a JSON file holds
    """The two whole numbers of a list.

    Raises:
        TypeError: it is no list.
        ValueError: it has not two members, or one is no whole number.
    """
    first, second = pair
    return whole(first), whole(second)
