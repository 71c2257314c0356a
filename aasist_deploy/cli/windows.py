"""What `stream` and `scan` share: the hop, the threshold, and the model as a maker of scorers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from aasist_deploy.calibration import Calibration
from aasist_deploy.engines import open_engine
from aasist_deploy.errors import UsageError
from aasist_deploy.resolve import backend_of, model_file
from aasist_deploy.streaming.each_window import EachWindowScorer, window_length
from aasist_deploy.streaming.rows import RowRules
from aasist_deploy.streaming.voice import VoiceActivity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.streaming import WindowScorer

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
_DEFAULT_HOP_FRAMES: Final = 7  # 0.957 s: near a second, and a multiple of AASIST's frame
_DEFAULT_HOP_S: Final = 1.0  # where there are no frames
_FRAME_SAMPLES: Final = {"AASIST": 3**7}  # a pool of 3 after the filters and after each of 6 blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowModel:
    """A model that is open, and how it scores windows.

    Attributes:
        contract: Of the model.
        device: What it runs on.
        backend: Of the engine.
        path: The model's file.
        new_scorer: Makes the scorer of one stream.
        hop_samples: Of its scorers.
        window_samples: Of its scorers.
        batch: Windows scored together, at most.
        restart_every: Windows after which a scan starts anew, to go on from there.
        way: How windows are scored, in words.
    """

    contract: ModelContract
    device: str
    backend: str
    path: Path
    new_scorer: Callable[[], WindowScorer]
    hop_samples: int
    window_samples: int
    batch: int
    restart_every: int
    way: str

    def rules(self, threshold: str | None, min_speech: float) -> RowRules:
        """What becomes of scores of this model.

        Raises:
            UsageError: the threshold is neither a number nor one of the model's.
        """
        held = self.contract.calibration
        return RowRules(
            calibration=None if held is None else Calibration.from_dict(held),
            threshold=threshold_of(threshold, self.contract),
            min_speech=min_speech,
        )

    def meter(self, vad: bool) -> Callable[[], VoiceActivity] | None:
        """A maker of voice activity meters, when they are wanted."""
        rate = self.contract.sample_rate_hz
        return (lambda: VoiceActivity(rate)) if vad else None


@contextmanager
def open_windows(
    model: str,
    backend: str | None,
    options: Callable[[str], dict[str, Any]],
    *,
    hop_frames: int | None,
    hop_s: float | None,
    window_s: float | None,
    batch: int,
) -> Iterator[WindowModel]:
    """Open MODEL for sliding windows.

    Args:
        model: As it was typed.
        backend: As it was typed, or None.
        options: From the backend's name to the options of `open_engine`.
        hop_frames: Hop in frames, or None.
        hop_s: Hop in seconds, or None.
        window_s: Window in seconds, or None.
        batch: Windows scored together, at most.

    Raises:
        UsageError: hop or window do not fit the model, or both hops were given.
    """
    path = model_file(model, backend)
    name = backend_of(path, backend)
    with open_engine(path, name, **options(name)) as engine:
        rate = engine.contract.sample_rate_hz
        window = window_length(
            engine.contract, None if window_s is None else round(window_s * rate)
        )
        hop = hop_of(engine.contract, hop_frames, hop_s)
        yield WindowModel(
            contract=engine.contract,
            device=engine.device,
            backend=engine.backend,
            path=path,
            new_scorer=lambda: EachWindowScorer(engine, hop, window_samples=window, batch=batch),
            hop_samples=hop,
            window_samples=window,
            batch=batch,
            restart_every=8 * batch,
            way="each window by a pass of its own",
        )


def hop_of(contract: ModelContract, frames: int | None, seconds: float | None) -> int:
    """The hop in samples.

    Raises:
        UsageError: both were given, the seconds are no hop, or the network has no frames.
    """
    frame = _FRAME_SAMPLES.get(contract.architecture)
    if frames is not None and seconds is not None:
        raise UsageError("--hop-frames and --hop-s were both given.", fix="leave one out")
    if seconds is not None:
        hop = round(seconds * contract.sample_rate_hz)
        if not 1 <= hop <= 3_600 * contract.sample_rate_hz:
            raise UsageError(f"--hop-s is {seconds:g}; it must be above 0 and at most 3600 s.")
        return hop
    if frame is None:
        if frames is not None:
            raise UsageError(
                f"--hop-frames {frames}: the frames of {contract.architecture} are not known.",
                fix="give the hop in seconds: --hop-s 1",
            )
        return round(_DEFAULT_HOP_S * contract.sample_rate_hz)
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
