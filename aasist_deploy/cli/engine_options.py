"""Options that say what runs a model: one definition for all verbs, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Self

import typer

from aasist_deploy.engines import BACKENDS
from aasist_deploy.errors import UsageError
from aasist_deploy.resolve import chosen_backend

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.cli.project import Project

# As the engine has them (`aasist_deploy.engines.openvino`), which is not imported for --help.
Precision = Literal["fp32", "bf16", "int8", "int8+bf16"]
Hint = Literal["latency", "throughput"]

BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help=f"What runs the model: {' or '.join(BACKENDS)}. Default: the fastest one installed "
        "that is exact; it is named on stderr.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Threads of the engine. Default: the cores this process may use."),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        help="Arithmetic of the openvino backend: fp32 (the default for fp32 files) or bf16; int8 "
        "or int8+bf16 for int8 files. One that this CPU emulates is refused."
    ),
]
HintOption = Annotated[
    Hint | None,
    typer.Option(
        help="Of the openvino backend: latency gives one batch all threads (the default); "
        "throughput runs windows beside one another, for a --batch of many windows on many cores."
    ),
]
ProviderOption = Annotated[
    str,
    typer.Option(
        help="Execution provider of the onnx backend: cpu, cuda or tensorrt. One that cannot be "
        "taken is an error, never a fallback."
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="Device of the torch backend: cpu, cuda, cuda:1. Of the trt backend: cuda (the "
        "default), cuda:1."
    ),
]
CodeOption = Annotated[
    str | None,
    typer.Option(
        "--code",
        help="Class of a network of your own, as FILE.py:Class or module:Class. This code is run.",
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Windows scored together. Default: what the engine takes best, 8 on a CPU and a full "
        "batch on a GPU; 8 for scan and robustness.",
    ),
]


class Owner(NamedTuple):
    """Whose an option is.

    Attributes:
        backends: Those that have the option.
        not_given: The value that stands for no choice.
        whose: The backends in words.
        fix: What to do where another one runs the model.
    """

    backends: tuple[str, ...]
    not_given: str | None
    whose: str
    fix: str


_IN_THE_FILE: Final = "other backends compute in the precision of the file"
OWNERS: Final[dict[str, Owner]] = {
    "precision": Owner(("openvino",), None, "the backend openvino", _IN_THE_FILE),
    "hint": Owner(("openvino",), None, "the backend openvino", _IN_THE_FILE),
    "provider": Owner(("onnx",), "cpu", "the backend onnx", "use --device for torch and trt"),
    "device": Owner(
        ("torch", "trt"), "cpu", "the backends torch and trt", "use --provider for onnx"
    ),
    "code": Owner(
        ("torch",),
        None,
        "checkpoints in the backend torch",
        "leave --code out: an exported file needs no code",
    ),
}
_TELLING: Final = ("provider", "precision", "hint")  # a backend is chosen by these if none is named


class Opening(NamedTuple):
    """How a model file is opened.

    Attributes:
        backend: The backend's name.
        why: Why this one, to go on after its name and a comma.
        options: Of `open_engine`.
    """

    backend: str
    why: str
    options: dict[str, Any]

    def says(self, device: str) -> str:
        """One line about what runs the model; `device` is the opened engine's."""
        return f"{self.backend} ({device}), {self.why}"

    def of_rows(self) -> dict[str, str]:
        """What rows depend on: all options but the threads."""
        return {name: str(value) for name, value in self.options.items() if name != "threads"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """What the command line says of what runs the model.

    Attributes:
        backend: --backend; None for the one that fits the file.
        threads: --threads; None for all cores.
        precision: --precision.
        hint: --hint.
        provider: --provider.
        device: --device.
        code: --code.
    """

    backend: str | None = None
    threads: int | None = None
    precision: Precision | None = None
    hint: Hint | None = None
    provider: str = "cpu"
    device: str = "cpu"
    code: str | None = None

    def or_of(self, project: Project) -> Self:
        """With the project's backend and threads where the command line says none."""
        return replace(
            self,
            backend=self.backend or project.backend,
            threads=self.threads or project.threads,
        )

    def given(self) -> dict[str, Any]:
        """The options that belong to some backends only and have a value."""
        values = {name: getattr(self, name) for name in OWNERS}
        return {k: value for k, value in values.items() if value != OWNERS[k].not_given}

    def telling(self) -> list[str]:
        """The names of those by which a backend is chosen where none is named."""
        return [name for name in self.given() if name in _TELLING]

    def without(self, *options: str) -> Self:
        """As if these options had not been given."""
        changes: dict[str, Any] = {name: OWNERS[name].not_given for name in options}
        return replace(self, **changes)

    def only_of(self, backend: str) -> Self:
        """Without the options that do not concern this backend, for a run of several."""
        return self.without(*[k for k, own in OWNERS.items() if backend not in own.backends])

    def options_of(self, backend: str) -> dict[str, Any]:
        """The options of `open_engine` for this backend.

        Raises:
            UsageError: an option that belongs to another backend was given.
        """
        for option, value in self.given().items():
            own = OWNERS[option]
            if backend not in own.backends:
                raise UsageError(
                    f"--{option} {value} belongs to {own.whose}; this is {backend}.", fix=own.fix
                )
        options: dict[str, Any] = {"threads": self.threads}
        if backend == "openvino":
            options |= self.given()
        if backend == "onnx":
            options["provider"] = self.provider
        if backend == "torch":
            options["device"] = self.device
            if self.code is not None:
                options["code"] = self.code
        if backend == "trt":
            options["device_id"] = _gpu_of(self.device)
        return options

    def opening(self, path: Path) -> Opening:
        """The backend for a model file, as chosen by the user or for them, and its options.

        Raises:
            UsageError: there is no such backend, or an option belongs to another one.
        """
        choice = chosen_backend(path, self.backend, self.telling())
        return Opening(choice.backend, choice.why, self.options_of(choice.backend))


def _gpu_of(device: str) -> int:
    """The number of a GPU: 0 of "cuda", and of "cpu", which stands for no choice; 1 of "cuda:1"."""
    kind, _, number = device.partition(":")
    if device in ("cpu", "cuda"):
        return 0
    if kind != "cuda" or not number.isdecimal():
        raise UsageError(
            f"--device {device} is no GPU; the backend trt runs on one.", fix="cuda, cuda:1"
        )
    return int(number)
