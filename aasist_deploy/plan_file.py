"""A TensorRT plan and the JSON beside it: what the plan was made from, by what, and for which GPU.

A plan is code for one GPU, and holds no place for words of ours. So `model.plan` has
`model.plan.json` beside it, with the contract of the model and the hash of the plan's bytes; a plan
whose JSON is missing or speaks of other bytes is not opened. Nothing here needs TensorRT.
docs/contract.md describes the layout for other implementations.
"""

from __future__ import annotations

import json
import os
import shlex
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.contract import ModelContract
from aasist_deploy.errors import ModelFileError, OutputError
from aasist_deploy.textfile import json_of, not_in_a_line

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAN_SCHEMA: Final = "aasist-deploy/plan/1"
RUNTIMES: Final = ("tensorrt", "tensorrt_rtx")
Profile = tuple[int, int, int]  # smallest, optimal and largest batch
DEFAULT_PROFILE: Final[Profile] = (1, 8, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContract:
    """What a plan says of itself.

    Attributes:
        contract: What the ONNX file said of the model: input, outputs, precision, calibration.
        plan_sha256: Hash of the plan's bytes.
        plan_bytes: How many there are.
        onnx_sha256: Hash of the whole ONNX file that the plan was built from.
        runtime: Module that built it, and must run it: "tensorrt" or "tensorrt_rtx".
        tensorrt_version: Version of that module.
        sm: Compute capability that it was built for, "9.0"; several are separated by blanks, and
            "8.0+" is what a hardware-compatible plan runs on.
        profiles: (smallest, optimal, largest) batch of each optimization profile.
        tf32: Whether fp32 products may be computed in TF32.
        cuda_version: Newest CUDA version of the driver it was built under; None without a driver.
        gpu_name: GPU it was built on; None when it was built for other machines.
        build: The other options of the builder: `optimization_level`, `workspace_mib`,
            `version_compatible`, `hardware_compatible`, `refittable`, `for_sm`, `detailed`.
        schema: Version of this layout; a reader refuses one that it does not know.
    """

    contract: ModelContract
    plan_sha256: str
    plan_bytes: int
    onnx_sha256: str
    runtime: str
    tensorrt_version: str
    sm: str
    profiles: tuple[Profile, ...]
    tf32: bool
    build: dict[str, Any]
    cuda_version: str | None = None
    gpu_name: str | None = None
    schema: str = PLAN_SCHEMA

    def __post_init__(self) -> None:
        """Refuse values that no reader could act on."""
        if self.schema != PLAN_SCHEMA:
            raise ModelFileError(
                f"The plan's description is '{self.schema}'; this version reads '{PLAN_SCHEMA}'.",
                fix="use the version of aasist-deploy that built the plan, or build it again",
            )
        if self.runtime not in RUNTIMES:
            raise ModelFileError(
                f"The plan's runtime is '{self.runtime}'; known are: {', '.join(RUNTIMES)}."
            )
        if not self.profiles:
            raise ModelFileError("The plan has no optimization profile.")
        for profile in self.profiles:
            sizes: tuple[Any, ...] = profile  # read from a file: neither number nor type is known
            whole = len(sizes) == 3 and all(type(size) is int for size in sizes)
            if not whole or not 1 <= profile[0] <= profile[1] <= profile[2]:
                raise ModelFileError(
                    f"The plan's profile is {profile!r}; it must be three whole numbers, smallest, "
                    f"optimal and largest batch, in this order."
                )
        for name in ("plan_sha256", "onnx_sha256", "tensorrt_version", "sm"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ModelFileError(f"The plan's {name} is {getattr(self, name)!r}, not a text.")
        for name in (
            "plan_sha256", "onnx_sha256", "tensorrt_version", "sm", "gpu_name", "cuda_version",
        ):  # fmt: skip
            text = getattr(self, name)
            if text is not None and (not isinstance(text, str) or not_in_a_line(text) is not None):
                raise ModelFileError(
                    f"The plan's {name} is {text!r:.80}; it must be one line of text."
                )
        if type(self.plan_bytes) is not int or type(self.tf32) is not bool:
            raise ModelFileError(
                f"The plan's plan_bytes is {self.plan_bytes!r} and its tf32 {self.tf32!r}; they "
                f"must be a whole number and true or false."
            )
        if not isinstance(self.build, dict):
            raise ModelFileError("The plan's build is no mapping of names to values.")

    @property
    def sms(self) -> tuple[str, ...]:
        """Compute capabilities that the plan was built for, one by one."""
        return tuple(self.sm.split())

    @property
    def max_batch(self) -> int:
        """The largest batch of any profile."""
        return max(profile[2] for profile in self.profiles)

    def built_for(self) -> str:
        """What built it and for what: "TensorRT 10.13.3.9 for NVIDIA H200 (sm 9.0)"."""
        name = "TensorRT-RTX" if self.runtime == "tensorrt_rtx" else "TensorRT"
        gpu = f"sm {self.sm}" if self.gpu_name is None else f"{self.gpu_name} (sm {self.sm})"
        return f"{name} {self.tensorrt_version} for {gpu}"

    def to_dict(self) -> dict[str, Any]:
        """The description as plain JSON types; the model's contract is one of its values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: Path) -> PlanContract:
        """Read back what `to_dict` gave, also after JSON; keys that are not known are left out.

        Args:
            values: Field name -> plain JSON value.
            path: The JSON file, for messages.

        Raises:
            ModelFileError: it is of another version, or incomplete.
        """
        try:
            known = {f.name for f in fields(cls)}
            taken = {name: value for name, value in values.items() if name in known}
            if taken.get("schema", "") == PLAN_SCHEMA:
                taken["contract"] = ModelContract.from_dict(taken["contract"], path)
                taken["profiles"] = tuple(tuple(profile) for profile in taken["profiles"])
            else:
                taken["schema"] = taken.get("schema", "")  # refused by the class, with both names
            return cls(**taken)
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}", fix=error.fix) from error
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ModelFileError(
                f"The description {path} cannot be read: {error}.", fix="build the plan again"
            ) from error


def json_path(plan: Path) -> Path:
    """The place of the JSON that belongs to a plan: `model.plan` -> `model.plan.json`."""
    return plan.with_name(plan.name + ".json")


def write_plan(plan_bytes: bytes, contract: PlanContract, path: Path) -> None:
    """Put a plan and its JSON in place; a reader sees the old pair, the new pair, or a mismatch.

    Both files are complete before the first of them is moved into place, and `read_plan` refuses a
    plan beside the JSON of another, so that no moment shows a plan with wrong words about it.

    Args:
        plan_bytes: The serialized engine.
        contract: What it is; must hold the hash and the size of these bytes.
        path: Where the plan goes.

    Raises:
        ModelFileError: the contract speaks of other bytes.
        OutputError: the place cannot be written.
    """
    _check_bytes(plan_bytes, contract, path)
    text = json.dumps(contract.to_dict(), indent=2, sort_keys=True) + "\n"
    places = ((path.resolve(), plan_bytes), (json_path(path).resolve(), text.encode()))
    temporaries: list[Path] = []
    try:
        try:
            for place, content in places:
                temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
                temporaries.append(temporary)
                with temporary.open("wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
            for temporary, (place, _) in zip(temporaries, places, strict=True):
                temporary.replace(place)
        finally:
            for temporary in temporaries:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.",
            fix="name a place in an existing folder that you may write to",
        ) from error


def read_plan(path: Path | str) -> tuple[PlanContract, bytes]:
    """Read a plan with its JSON, and check that the bytes are those it was written for.

    Returns:
        What the plan says of itself, and its bytes; give a runtime these bytes, not the file.

    Raises:
        ModelFileError: there is no plan or no JSON, the JSON is of another version or damaged, or
            the plan is cut short or altered.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be read: {error.strerror}.", fix="check the path and its permissions"
        ) from error
    contract = read_plan_contract(path)
    _check_bytes(content, contract, path)
    return contract, content


def read_plan_contract(path: Path) -> PlanContract:
    """Read the JSON beside a plan alone; the plan's bytes are not looked at.

    Raises:
        ModelFileError: there is no JSON, or it is of another version or damaged.
    """
    beside = json_path(path)
    try:
        values = json_of(beside.read_bytes())
    except FileNotFoundError as error:
        raise ModelFileError(
            f"{path} has no {beside.name} beside it: nothing says what the plan takes, what it "
            f"gives and which GPU it is for.",
            fix="copy both files together, or build the plan: aasist-deploy export MODEL --to trt",
        ) from error
    except OSError as error:
        raise ModelFileError(f"{beside} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ModelFileError(
            f"{beside} is not JSON: {error}.", fix="copy both files again, or build the plan again"
        ) from error
    if not isinstance(values, dict):
        raise ModelFileError(f"{beside} holds no JSON object.", fix="build the plan again")
    return PlanContract.from_dict(values, beside)


def rebuild_command(plan: PlanContract) -> str:
    """The command that builds such a plan again from its ONNX file, with the same options."""
    words = ["aasist-deploy", "export", "model.onnx", "--to", "trt", "-o", "model.plan"]
    if plan.profiles != (DEFAULT_PROFILE,):
        for profile in plan.profiles:
            words += ["--profile", ",".join(map(str, profile))]
    if plan.tf32:
        words.append("--tf32")
    options = plan.build
    if options.get("optimization_level") is not None:
        words += ["--builder-level", str(options["optimization_level"])]
    if options.get("workspace_mib") is not None:
        words += ["--workspace-mib", str(options["workspace_mib"])]
    for name in ("version_compatible", "hardware_compatible", "refittable"):
        if options.get(name):
            words.append(f"--{name.replace('_', '-')}")
    return shlex.join(words)


def _check_bytes(content: bytes, contract: PlanContract, path: Path) -> None:
    """Refuse bytes that are not those of the contract."""
    again = f"copy {path.name} and {json_path(path).name} together, or build the plan again"
    if len(content) != contract.plan_bytes:
        raise ModelFileError(
            f"{path} is cut short or not the plan it was: it has {len(content)} bytes, "
            f"{json_path(path).name} says {contract.plan_bytes}.",
            fix=again,
        )
    found = sha256(content).hexdigest()
    if found != contract.plan_sha256:
        raise ModelFileError(
            f"{path} was altered: its bytes hash to {found[:12]}, {json_path(path).name} says "
            f"{contract.plan_sha256[:12]}. A plan is code, and this one is not run.",
            fix=again,
        )
