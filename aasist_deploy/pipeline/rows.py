"""What became of one file: the row that every output is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.inputs import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredFile:
    """What became of one file; exactly one of `score` and `error` is not None.

    Attributes:
        path: The file or its address, as given; of a member of an archive, the archive's path and
            its name there.
        score: In the model's score definition, higher means more likely bona fide.
        error: Why there is no score.
        seconds: Duration of the file's audio, or None when it could not be decoded.
        second_decoder: The usual decoder refused the file and another one read it.
        resampled: The file had another sample rate than the model.
        tiled: The clip was shorter than the window and was repeated.
        cut: The clip was longer than the window, and only its start was scored.
        note: What the decoder had to say of the file, or None.
        llr: Log-likelihood ratio in nats, when the model is calibrated and there is a score.
        p_spoof: Probability of spoof at a prior of 0.5; as `llr`.
        window_scores: Scores of the file's windows in their order, of which `score` is made.
    """

    path: Path | Address
    score: float | None = None
    error: str | None = None
    seconds: float | None = None
    second_decoder: bool = False
    resampled: bool = False
    tiled: bool = False
    cut: bool = False
    note: str | None = None
    llr: float | None = None
    p_spoof: float | None = None
    window_scores: tuple[float, ...] = ()
