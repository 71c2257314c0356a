"""Options of sliding windows, as `stream` and `scan` have them, and what they mean for a model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Final

import typer

from aasist_deploy.errors import UsageError
from aasist_deploy.streaming.output import RowText

if TYPE_CHECKING:
    from aasist_deploy.contract import ModelContract
    from aasist_deploy.streaming.output import WindowFormat
    from aasist_deploy.streaming.rows import RowRules

_DEFAULT_HOP_FRAMES: Final = 7  # 0.957 s: near a second, and a multiple of AASIST's frame
_DEFAULT_HOP_S: Final = 1.0  # where there are no frames
MAX_HOP_S: Final = 3_600

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


def row_text(format_: WindowFormat, rules: RowRules, *, path: bool, vad: bool) -> RowText:
    """The columns of rows; `path` where they name their file."""
    return RowText(
        format_,
        path=path,
        calibrated=rules.calibration is not None,
        speech=vad,
        decided=rules.threshold is not None,
    )


def hop_of(
    contract: ModelContract, frames: int | None, seconds: float | None, frame: int | None
) -> int:
    """The hop in samples.

    Args:
        contract: Of the model.
        frames: --hop-frames, or None.
        seconds: --hop-s, or None.
        frame: Samples of a frame, where the network has any.

    Raises:
        UsageError: the seconds are no hop, or the network has no frames.
    """
    rate = contract.sample_rate_hz
    if seconds is not None:
        hop = round(seconds * rate) if math.isfinite(seconds) else 0
        if not 1 <= hop <= MAX_HOP_S * rate:
            raise UsageError(
                f"--hop-s is {seconds:g}; it must be above 0 and at most {MAX_HOP_S} s."
            )
        return hop
    if frame is None:
        if frames is not None:
            raise UsageError(
                f"--hop-frames {frames}: the frames of {contract.architecture} are not known.",
                fix="give the hop in seconds: --hop-s 1",
            )
        return round(_DEFAULT_HOP_S * rate)
    return (frames or _DEFAULT_HOP_FRAMES) * frame


def threshold_of(text: str | None, contract: ModelContract) -> float | None:
    """A number, or a threshold that the model holds, by its name.

    Raises:
        UsageError: neither.
    """
    if text is None:
        return None
    if text in contract.thresholds:
        return contract.thresholds[text]
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or abs(value) == float("inf"):  # noqa: PLR0124  # NaN
        held = ", ".join(contract.thresholds) or "none; calibrate stores some"
        raise UsageError(
            f"--threshold is '{text}'; it must be a score, or the name of a threshold that the "
            f"model holds ({held})."
        )
    return value
