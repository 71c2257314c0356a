"""How a TensorRT plan is built: the options of the builder, checked before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import UsageError
from aasist_deploy.plan_file import DEFAULT_PROFILE, Profile

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.contract import ModelContract

BUILDER_LEVELS: Final = range(6)  # 0 builds fastest, 5 looks longest; TensorRT's own default is 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How a plan is built. The precision is no option: it is what the ONNX graph says.

    Attributes:
        profiles: (smallest, optimal, largest) batch of each optimization profile; none means one
            profile, 1 to 32 and best at 8, within what the model allows.
        tf32: Compute fp32 products in TF32, which rounds their factors to 10 bits of mantissa.
            Off, so that fp32 means fp32.
        optimization_level: How long the builder looks for fast kernels, 0 to 5; None: TensorRT's
            own default.
        workspace_mib: Limit of scratch memory in MiB; None: all of the GPU's memory.
        timing_cache: File that keeps measured kernel times between builds; made when missing.
        version_compatible: The plan also runs in later TensorRT of the same major version.
        hardware_compatible: The plan runs on Ampere and every later GPU, at some cost in speed.
        refittable: Weights can be replaced without building again.
        device: Number of the GPU that the plan is built on, and for.
        for_sm: Compute capabilities, such as "8.6", of other machines that the plan is for; then
            no GPU is needed here. TensorRT-RTX alone can do that.
        detailed: Keep the details of layers in the plan, for a layer report.
    """

    profiles: tuple[Profile, ...] = ()
    tf32: bool = False
    optimization_level: int | None = None
    workspace_mib: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    refittable: bool = False
    device: int = 0
    for_sm: tuple[str, ...] = ()
    detailed: bool = False

    def __post_init__(self) -> None:
        """Refuse what no builder could do, before anything is loaded."""
        for profile in self.profiles:
            if not 1 <= profile[0] <= profile[1] <= profile[2]:
                raise UsageError(
                    f"The profile {','.join(map(str, profile))} is not a smallest, an optimal and "
                    f"a largest batch in this order.",
                    fix="for example --profile 1,8,32",
                )
        level = self.optimization_level
        if level is not None and level not in BUILDER_LEVELS:
            raise UsageError(
                f"The builder's level is {level}; it must be {BUILDER_LEVELS[0]} to "
                f"{BUILDER_LEVELS[-1]}."
            )
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise UsageError(f"The workspace is {self.workspace_mib} MiB; it must be 1 or more.")
        if self.device < 0:
            raise UsageError(f"The device is {self.device}; it must be 0 or more.")
        for sm in self.for_sm:
            if re.fullmatch(r"[1-9]\d?\.\d", sm) is None:
                raise UsageError(f"The compute capability is '{sm}'; it must be like 8.6 or 12.0.")
        if self.for_sm and self.hardware_compatible:
            raise UsageError(
                "A plan is either hardware-compatible or for named compute capabilities.",
                fix="leave out one of --hardware-compatible and --for-sm",
            )

    def profiles_for(self, contract: ModelContract) -> tuple[Profile, ...]:
        """The profiles of this model, the default one where none was given.

        Raises:
            UsageError: a profile goes beyond the batches that the model takes.
        """
        smallest, largest = contract.batch
        if not self.profiles:
            low, best, high = (max(size, smallest) for size in DEFAULT_PROFILE)
            limit = high if largest is None else largest
            return ((min(low, limit), min(best, limit), min(high, limit)),)
        for profile in self.profiles:
            if profile[0] < smallest or (largest is not None and profile[2] > largest):
                allowed = f"{smallest} to {'any' if largest is None else largest}"
                raise UsageError(
                    f"The profile {','.join(map(str, profile))} does not fit the model, which "
                    f"takes batches of {allowed}.",
                    fix="export the model with --batch dynamic, or give another --profile",
                )
        return self.profiles

    def to_build(self) -> dict[str, Any]:
        """What a plan says of the options beside its profiles and TF32."""
        return {
            "optimization_level": self.optimization_level,
            "workspace_mib": self.workspace_mib,
            "version_compatible": self.version_compatible,
            "hardware_compatible": self.hardware_compatible,
            "refittable": self.refittable,
            "for_sm": list(self.for_sm),
            "detailed": self.detailed,
        }


def profile_of(text: str) -> Profile:
    """A profile as a user types it: "1,8,32", or "8" for 8,8,8.

    Raises:
        UsageError: it is not one or three whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (1, 3) or not all(part.isdecimal() for part in parts):
        raise UsageError(
            f"--profile is '{text}'; it must be three whole numbers, or one for a fixed batch.",
            fix="give the smallest, the optimal and the largest batch: --profile 1,8,32",
        )
    sizes = [int(part) for part in parts]
    return (sizes[0], sizes[len(parts) // 2], sizes[-1])


def sm_of(text: str) -> str:
    """A compute capability as a user types it: "86", "sm86" or "8.6" are "8.6"; "120" is "12.0".

    Raises:
        UsageError: it is none.
    """
    digits = text.strip().lower().removeprefix("sm").removeprefix("_").replace(".", "")
    if re.fullmatch(r"[1-9]\d{1,2}", digits) is None:
        raise UsageError(
            f"'{text}' is no compute capability.", fix="give numbers such as 86, 89 or 120"
        )
    return f"{digits[:-1]}.{digits[-1]}"
