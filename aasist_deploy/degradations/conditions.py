"""The registry: all conditions by family, and the choice among them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from aasist_deploy.degradations.base import Condition, Context, Wave
from aasist_deploy.degradations.codecs import codec_conditions
from aasist_deploy.degradations.edges import edge_conditions
from aasist_deploy.degradations.level import level_conditions
from aasist_deploy.degradations.noise import noise_conditions
from aasist_deploy.degradations.room import room_conditions
from aasist_deploy.errors import EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTROL: Final = "control"
FAMILIES: Final = (
    CONTROL,
    "gain",
    "clipping",
    "resampling",
    "codec",
    "noise",
    "reverberation",
    "silence",
    "padding",
    "offset",
    "length",
)


def _same(wave: Wave, _context: Context) -> Wave:
    return wave


IDENTITY: Final = Condition(
    name="identity",
    family=CONTROL,
    meaning="nothing: the same window scored again, in another place of a batch",
    apply=_same,
)


@cache
def all_conditions() -> tuple[Condition, ...]:
    """Every condition, grouped by family; those that cannot be had here say why."""
    found = [
        IDENTITY,
        *level_conditions(),
        *room_conditions(),
        *codec_conditions(),
        *noise_conditions(),
        *edge_conditions(),
    ]
    return tuple(sorted(found, key=lambda condition: FAMILIES.index(condition.family)))


def select(names: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions of these families and names, in the registry's order.

    Args:
        names: Families or names of conditions; none stands for all. A family also gives those of
            its conditions that are not available here, so that a report can list them.

    Raises:
        UsageError: A name is neither.
        EnvironmentLacks: A condition asked for by its own name is not available here.
    """
    conditions = all_conditions()
    by_name = {condition.name: condition for condition in conditions}
    for name in names:
        if name in FAMILIES:
            continue
        if name not in by_name:
            raise UsageError(
                f"There is no condition or family {name!r}; families are {', '.join(FAMILIES)}.",
                fix="aasist-deploy robustness --list shows all conditions",
            )
        reason = by_name[name].unavailable
        if reason is not None:
            raise EnvironmentLacks(
                f"The condition {name} is not available here: {reason}.",
                fix="leave it out, or install a PyAV whose FFmpeg has the encoder",
            )
    wanted = set(names)
    return tuple(
        condition
        for condition in conditions
        if not wanted or condition.family in wanted or condition.name in wanted
    )
