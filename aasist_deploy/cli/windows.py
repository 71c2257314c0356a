"""What `stream` and `scan` share: the hop, the threshold, and the model as a maker of scorers."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aasist_deploy.calibration import Calibration
from aasist_deploy.cli.common import stderr
from aasist_deploy.cli.window_options import hop_of, threshold_of
from aasist_deploy.contract import read_contract
from aasist_deploy.engines import open_engine
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, UsageError
from aasist_deploy.published import named, names
from aasist_deploy.resolve import exported, model_file
from aasist_deploy.streaming import StreamScorer, open_stream_model
from aasist_deploy.streaming.each_window import EachWindowScorer, window_length
from aasist_deploy.streaming.rows import RowRules
from aasist_deploy.streaming.shared_frames import (
    FRAMES_PER_CALL_OF_RECORDINGS,
    MAX_FRAMES_PER_CALL,
)
from aasist_deploy.streaming.voice import VoiceActivity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aasist_deploy.cli.engine_options import EngineChoice, Opening
    from aasist_deploy.contract import ModelContract
    from aasist_deploy.engines import Engine
    from aasist_deploy.streaming import WindowScorer

# From here on each window alone is as cheap: a window has 29 frames, and a call costs more than
# the frames that it brings. Measured in calls of recordings: at 16 frames a stream is 1.5 times
# cheaper, at 24 neither, at 29 it is 1.2 times dearer (docs/streaming.md).
ALONE_FROM_HOP_FRAMES: Final = 24
# A scan that goes on computes again what follows the last place to start anew: a few batches, or
# frames of some ten seconds. Starting anew costs windows that share frames 29 frames each time.
_RESTART_BATCHES: Final = 8
_RESTART_FRAMES: Final = 2_048
# Of ordinary files, whose contract has no frames: a pool of 3 after the filters and after each of 6
# blocks, in every configuration. Without torch the network is not there to ask;
# tests/unit/export/test_stream_form.py holds it to `StreamGeometry.frame_samples`.
FRAME_SAMPLES: Final = {"AASIST": 3**7}


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
        chunk_samples: What a scan pushes at once.
        restart_every: Windows after which a scan starts anew, to go on from there.
        way: How windows are scored, in words.
        says: What runs the model, and why.
        why_not: Why windows do not share their frames, or that they had better not, where somebody
            might expect it.
    """

    contract: ModelContract
    device: str
    backend: str
    path: Path
    new_scorer: Callable[[], WindowScorer]
    hop_samples: int
    window_samples: int
    batch: int
    chunk_samples: int
    restart_every: int
    way: str
    says: str
    why_not: str | None

    def say(self) -> None:
        """Say on stderr what runs, and how."""
        rate = self.contract.sample_rate_hz
        why = "" if self.why_not is None else f" ({self.why_not})"
        stderr.print(
            f"backend: {self.says}; windows of {self.window_samples / rate:.3f} s every "
            f"{self.hop_samples / rate:.3f} s, {self.way}{why}",
            style="dim",
            markup=False,
        )

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says of windows and of what runs the model.

    Attributes:
        model: MODEL.
        engine: What runs it.
        hop_frames: --hop-frames.
        hop_s: --hop-s.
        window_s: --window-s.
        batch: Windows scored together, at most.
        live: Whether somebody waits for each score.
    """

    model: str
    engine: EngineChoice
    hop_frames: int | None
    hop_s: float | None
    window_s: float | None
    batch: int
    live: bool

    @property
    def by_frames(self) -> bool:
        """Whether windows may start at frames only, which sharing frames needs."""
        return self.hop_s is None and self.window_s is None and not self.engine.code

    @property
    def too_far(self) -> str | None:
        """Why sharing frames would not pay, or None."""
        if self.hop_frames is None or self.hop_frames < ALONE_FROM_HOP_FRAMES:
            return None
        return f"no dearer at {self.hop_frames} frames than sharing what windows have in common"


@contextmanager
def open_windows(asked: Asked) -> Iterator[WindowModel]:
    """Open MODEL for sliding windows: so that they share their frames, if it can.

    It can with a file of `export --stream`, with the name of a model, and with a checkpoint of a
    network that has frames, when the hop is a number of frames. From `ALONE_FROM_HOP_FRAMES` on a
    name or checkpoint is scored window by window, which is then cheaper and gives the same.

    Raises:
        UsageError: hop or window do not fit the model, or both hops were given.
    """
    if asked.hop_frames is not None and asked.hop_s is not None:
        raise UsageError("--hop-frames and --hop-s were both given.", fix="leave one out")
    path, why_not = _file_of(asked)
    way = asked.engine.opening(path)
    with ExitStack() as stack:
        if _is_for_streams(path):
            yield stack.enter_context(_open_shared(path, way, asked))
            return
        if path.suffix != ".onnx" and way.backend == "torch" and asked.by_frames:
            why_not = asked.too_far
            if why_not is None:
                try:
                    opened = stack.enter_context(_open_shared(path, way, asked))
                except UsageError as error:
                    why_not = str(error)
                else:
                    yield opened
                    return
        engine = stack.enter_context(open_engine(path, way.backend, **way.options))
        yield _each_alone(engine, path, way, asked, why_not)


def _each_alone(
    engine: Engine, path: Path, way: Opening, asked: Asked, why_not: str | None
) -> WindowModel:
    """An open engine that scores every window by a pass of its own.

    Raises:
        UsageError: hop or window do not fit the model.
    """
    contract = engine.contract
    wanted = None if asked.window_s is None else round(asked.window_s * contract.sample_rate_hz)
    window = window_length(contract, wanted)
    frame = FRAME_SAMPLES.get(contract.architecture)
    hop = hop_of(contract, asked.hop_frames, asked.hop_s, frame)
    return WindowModel(
        contract=contract,
        device=engine.device,
        backend=engine.backend,
        path=path,
        new_scorer=lambda: EachWindowScorer(engine, hop, window_samples=window, batch=asked.batch),
        hop_samples=hop,
        window_samples=window,
        batch=asked.batch,
        chunk_samples=asked.batch * hop,
        restart_every=_RESTART_BATCHES * asked.batch,
        way="each window by a pass of its own",
        says=way.says(engine.device),
        why_not=why_not,
    )


def _file_of(asked: Asked) -> tuple[Path, str | None]:
    """The file of MODEL; for a name, the one for streams if it can be had, else why it cannot."""
    backend = asked.engine.backend
    named_model = not Path(asked.model).is_file() and asked.model in names()
    if not named_model or backend == "torch" or not asked.by_frames:
        return model_file(asked.model, backend), None
    if asked.too_far:
        return model_file(asked.model, backend), asked.too_far
    try:
        with stderr.status("the first use exports the model for streams, in about a minute"):
            return exported(named(asked.model), stream=True), None
    except (UsageError, EnvironmentLacks) as error:
        return model_file(asked.model, backend), str(error)


def _is_for_streams(path: Path) -> bool:
    """Whether a file is one for streams; what is wrong with it, the engine says on opening it."""
    if path.suffix != ".onnx":
        return False
    try:
        return read_contract(path, stream=None)[0].stream is not None
    except ModelFileError:
        return False


@contextmanager
def _open_shared(path: Path, way: Opening, asked: Asked) -> Iterator[WindowModel]:
    """Open a model for streams.

    Raises:
        UsageError: the network has no frames, or what was asked for needs windows between them.
    """
    options = {k: v for k, v in way.options.items() if k in ("threads", "precision")}
    for name, value in way.options.items():
        if name not in options and value not in (None, "cpu", "latency"):
            raise UsageError(
                f"--{name} {value} is not for streams.", fix="use a file that takes whole waves"
            )
    with open_stream_model(path, way.backend, **options) as model:
        contract, layout = model.contract, model.layout
        rate, frame = contract.sample_rate_hz, layout.frame_samples
        if asked.window_s is not None and round(asked.window_s * rate) != layout.window_samples:
            raise UsageError(
                f"--window-s is {asked.window_s:g}; this file for streams has windows of "
                f"{layout.window_samples / rate:g} s.",
                fix="leave --window-s out, or export a file for streams of that window: "
                f"--stream --samples {round(asked.window_s * rate)}",
            )
        hop = hop_of(contract, asked.hop_frames, asked.hop_s, frame)
        if hop % frame:
            near = max(1, round(hop / frame))
            raise UsageError(
                f"--hop-s {asked.hop_s:g} is {hop / frame:.3f} frames; windows that share their "
                f"frames start at whole ones, {frame / rate:.5f} s apart.",
                fix=f"--hop-frames {near}, or a file exported without --stream",
            )
        n_frames = hop // frame
        per_call = MAX_FRAMES_PER_CALL if asked.live else FRAMES_PER_CALL_OF_RECORDINGS
        yield WindowModel(
            contract=contract,
            device=model.device,
            backend=model.backend,
            path=path,
            new_scorer=lambda: StreamScorer(model, n_frames, per_call),
            hop_samples=hop,
            window_samples=layout.window_samples,
            batch=1,
            chunk_samples=16 * frame,
            restart_every=max(64, _RESTART_FRAMES // n_frames),
            way="frames that windows share are computed once",
            says=way.says(model.device),
            why_not="each window by a pass of its own would be cheaper at this hop: "
            "give an ordinary file, or the model's name"
            if asked.too_far
            else None,
        )
