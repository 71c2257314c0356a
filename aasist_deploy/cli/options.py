"""Options that are a number or a word, or a list of names, and options that several verbs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

import typer

from aasist_deploy.engines import BACKENDS
from aasist_deploy.errors import UsageError
from aasist_deploy.resolve import chosen_backend

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

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
ProviderOption = Annotated[
    str,
    typer.Option(
        help="Execution provider of the onnx backend: cpu, cuda or tensorrt. One that cannot be "
        "taken is an error, never a fallback."
    ),
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

# Of `stream` and `scan`.
HopFramesOption = Annotated[
    int | None,
    typer.Option(min=1, help="Hop in frames of the network, 137 ms each in AASIST. Default: 7."),
]
HopSecondsOption = Annotated[
    float | None,
    typer.Option("--hop-s", help="Hop in seconds, in place of frames. Default: about a second."),
]
WindowSecondsOption = Annotated[
    float | None,
    typer.Option("--window-s", help="Window of a variable-length model. Default: 4.04 s."),
]
ThresholdOption = Annotated[
    str | None,
    typer.Option(help="Score, or the name of a threshold in the model: at or above is bona fide."),
]
VadOption = Annotated[
    bool, typer.Option("--vad", help="Say how much of each window is speech; gate by it.")
]
MinSpeechOption = Annotated[
    float,
    typer.Option(
        "--vad-min-speech", min=0, max=1, help="With --vad: windows with less have no score."
    ),
]
DEFAULT_MIN_SPEECH: Final = 0.2


def engine_options(
    backend: str,
    *,
    threads: int | None,
    provider: str = "cpu",
    device: str = "cpu",
    code: str | None = None,
    precision: Precision | None = None,
    hint: Hint | None = None,
) -> dict[str, Any]:
    """The options of `open_engine` for this backend.

    Raises:
        UsageError: an option that belongs to another backend was given.
    """
    for option, value in (("--precision", precision), ("--hint", hint)):
        if backend != "openvino" and value is not None:
            raise UsageError(
                f"{option} {value} belongs to the backend openvino; this is {backend}.",
                fix="other backends compute in the precision of the file",
            )
    if backend != "onnx" and provider != "cpu":
        raise UsageError(
            f"--provider {provider} belongs to the backend onnx; this is {backend}.",
            fix="use --device for torch and trt",
        )
    if backend not in ("torch", "trt") and device != "cpu":
        raise UsageError(
            f"--device {device} belongs to the backends torch and trt; this is {backend}.",
            fix="use --provider for onnx",
        )
    if backend != "torch" and code is not None:
        raise UsageError(
            f"--code {code} belongs to checkpoints in the backend torch; this is {backend}.",
            fix="leave --code out: an exported file needs no code",
        )
    options: dict[str, Any] = {"threads": threads}
    if backend == "openvino":
        given = {"precision": precision, "hint": hint}
        options |= {name: value for name, value in given.items() if value is not None}
    if backend == "onnx":
        options["provider"] = provider
    if backend == "torch":
        options["device"] = device
        if code is not None:
            options["code"] = code
    if backend == "trt":
        options["device_id"] = _gpu_of(device)
    return options


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


def opening(
    path: Path,
    backend: str | None,
    *,
    threads: int | None,
    provider: str = "cpu",
    device: str = "cpu",
    code: str | None = None,
    precision: Precision | None = None,
    hint: Hint | None = None,
) -> Opening:
    """The backend for a model file, as chosen by the user or for them, and its options.

    Raises:
        UsageError: there is no such backend, or an option belongs to another one.
    """
    given = {"provider": provider != "cpu", "precision": precision, "hint": hint}
    choice = chosen_backend(path, backend, [name for name, value in given.items() if value])
    options = engine_options(
        choice.backend,
        threads=threads,
        provider=provider,
        device=device,
        code=code,
        precision=precision,
        hint=hint,
    )
    return Opening(choice.backend, choice.why, options)


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


def refuse_overwriting(output: Path, inputs: Iterable[Path]) -> None:
    """Keep an output from replacing a file that it is made from.

    Raises:
        UsageError: it is one of the inputs.
    """
    for path in inputs:
        if output.exists() and output.samefile(path):
            raise UsageError(
                f"-o {output} is the input {path}, which would be lost.",
                fix="give the output another name",
            )


def number_or(text: str, word: str, option: str) -> int | None:
    """A whole number >= 1, or None for the word.

    Raises:
        UsageError: neither.
    """
    if text == word:
        return None
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    instead = f" or '{word}'" if word else ""
    raise UsageError(f"{option} is '{text}'; it must be a whole number >= 1{instead}.")


def n_samples_of(text: str) -> int | Literal["trained"] | None:
    """The value of --samples: a number, "trained", or None for 'variable'."""
    return "trained" if text == "trained" else number_or(text, "variable", "--samples")


def names_of(text: str) -> tuple[str, ...]:
    """Names separated by commas (or |), without repeats."""
    names = (name.strip() for name in text.replace("|", ",").split(","))
    return tuple(dict.fromkeys(name for name in names if name))
