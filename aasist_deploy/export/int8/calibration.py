"""Real audio from which the ranges of 8-bit values are taken, and what it must not be."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from aasist_deploy.engines.onnx import import_onnxruntime
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from aasist_deploy.export.precision import GateAudio


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationAudio:
    """What ranges are taken from.

    Attributes:
        waves: (n, N) windows of real audio.
        names: (n,) what the clips are called, without folder and suffix.
        bona_fide: (n,) truth, or None when it is not known.
        source: Where the audio is from, for the contract.
    """

    waves: NDArray[np.float32]
    names: tuple[str, ...]
    bona_fide: NDArray[np.bool_] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse what ranges cannot be taken from."""
        if len(self.waves) == 0:
            raise UsageError(
                "There is no audio to calibrate on.",
                fix="--calibrate FOLDER with some dozens of clips of training or development data",
            )
        if len(self.names) != len(self.waves):
            raise UsageError(f"There are {len(self.waves)} clips and {len(self.names)} names.")
        truth = self.bona_fide
        if truth is None:
            return
        if len(truth) != len(self.waves):
            raise UsageError(f"There are {len(self.waves)} clips and {len(truth)} labels.")
        if truth.all() or not truth.any():
            only, other = ("bona fide", "spoofed") if truth.all() else ("spoofed", "bona fide")
            raise UsageError(
                f"All {len(truth)} clips to calibrate on are {only}: ranges would be unknown for "
                f"{other} speech.",
                fix=f"add {other} clips to the folder of --calibrate",
            )


def refuse_overlap(
    calibration: CalibrationAudio, audio: GateAudio, evaluation: Collection[str] = ()
) -> None:
    """Refuse to calibrate on what scores are checked on: the check would say too little.

    A clip is the same when it has the name of another, or its very samples under another name.

    Args:
        calibration: What ranges would be taken from.
        audio: What the gate measures on.
        evaluation: Names of clips that are for evaluation.

    Raises:
        UsageError: they share clips.
    """
    for names, where in (
        (set(audio.names), "--gate-audio"),
        (set(evaluation), "--evaluation-list"),
    ):
        shared = [name for name in calibration.names if name in names]
        if shared:
            raise UsageError(
                f"{len(shared)} of {len(calibration.names)} clips to calibrate on are in {where} "
                f"too, e.g. {shared[0]}.",
                fix="calibrate on training or development clips that nothing is evaluated on",
            )
    gate = {_digest(wave) for wave in audio.waves}
    same = [
        n for n, w in zip(calibration.names, calibration.waves, strict=True) if _digest(w) in gate
    ]
    if same:
        raise UsageError(
            f"{len(same)} of {len(calibration.names)} clips to calibrate on hold the very samples "
            f"of a clip of --gate-audio, under another name: e.g. {same[0]}.",
            fix="calibrate on training or development clips that nothing is evaluated on",
        )


def calibrate(
    model: onnx.ModelProto,
    values: Collection[str],
    waves: NDArray[np.float32],
    *,
    on_clip: Callable[[], None] | None = None,
) -> dict[str, tuple[float, float]]:
    """The ranges of these values on real audio: smallest and largest, by ONNX Runtime.

    Args:
        model: The fp32 graph.
        values: Names of values inside it.
        waves: (n, N) windows.
        on_clip: Called after each wave.
    """
    import_onnxruntime()
    from onnxruntime.quantization.calibrate import MinMaxCalibrater

    class Calibrater(MinMaxCalibrater):  # type: ignore[misc]  # onnxruntime has no types
        """Takes the named values alone."""

        def select_tensors_to_calibrate(self, model: Any) -> tuple[set[str], set[int]]:  # noqa: ANN401, ARG002
            return set(values), {onnx.TensorProto.FLOAT}

    (name,) = (value.name for value in model.graph.input)
    with tempfile.TemporaryDirectory() as folder:
        plain = onnx.shape_inference.infer_shapes(model)
        onnx.save(plain, Path(folder) / "fp32.onnx")
        taker = Calibrater(
            Path(folder) / "fp32.onnx",
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
        )
        taker.augment_graph()
        taker.create_inference_session()
        for wave in waves:
            taker.collect_data(_Once({name: wave[None]}))
            if on_clip is not None:
                on_clip()
        found = taker.compute_data()
    pairs = {value: found[value].range_value for value in values}
    return {
        value: (float(np.min(low)), float(np.max(high))) for value, (low, high) in pairs.items()
    }


class _Once:
    """One wave, as ONNX Runtime's calibration asks for it."""

    def __init__(self, feed: dict[str, NDArray[np.float32]]) -> None:
        self.feed: dict[str, NDArray[np.float32]] | None = feed

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        feed, self.feed = self.feed, None
        return feed


def _digest(wave: NDArray[np.float32]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(wave).tobytes()).digest()
