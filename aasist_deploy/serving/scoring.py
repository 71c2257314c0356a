"""One upload to a row, by the same pipeline as the verb `score`, within limits."""

from __future__ import annotations

import io
import logging
import time
import wave
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.engines.base import BaseEngine
from aasist_deploy.errors import AudioError
from aasist_deploy.inputs import AudioInput
from aasist_deploy.pipeline import ScoredFile, score_files
from aasist_deploy.pipeline.stages import Wanted, let_go
from aasist_deploy.serving.batching import AbandonedError, DynamicBatcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.pipeline import Decoders, WindowRule
    from aasist_deploy.pipeline.stages import Piece
    from aasist_deploy.serving.limits import Limits

log = logging.getLogger(__name__)

# Answers of HTTP for one file.
OK: Final = 200
TOO_LARGE: Final = 413
NOT_SCORABLE: Final = 422
FAILED: Final = 500

_WARM_UP_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a request.

    Attributes:
        name: What the client calls it; made harmless, a label and never a place.
        content: Its bytes.
    """

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one upload.

    Attributes:
        row: As the pipeline gives it.
        status: HTTP status of this file alone.
    """

    row: ScoredFile
    status: int


class Job:
    """One request's files while they are scored.

    Args:
        timeout_s: From now on; then nobody waits any more.
    """

    def __init__(self, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._given_up = False

    @property
    def left_s(self) -> float:
        """Seconds until nobody waits any more; negative afterwards."""
        return self._deadline - time.monotonic()

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more."""
        return self._given_up or self.left_s <= 0

    def give_up(self) -> None:
        """Say that nobody waits any more."""
        self._given_up = True


class FileScorer:
    """Scores uploads; any number of threads may use it.

    Args:
        contract: Of the model.
        device: What the model runs on, in words.
        batcher: Scores windows.
        decoders: Decode uploads.
        limits: Of duration and windows.
        max_batch: Windows that one file hands over at once.
    """

    def __init__(
        self,
        contract: ModelContract,
        device: str,
        batcher: DynamicBatcher,
        decoders: Decoders,
        limits: Limits,
        *,
        max_batch: int,
    ) -> None:
        # A model with a fixed batch is filled up once, where the batches are made.
        self._contract, self._device = replace(contract, batch=(1, None)), device
        self._batcher, self._decoders, self._limits = batcher, decoders, limits
        self._max_batch = max_batch

    def score(self, upload: Upload, rule: WindowRule, job: Job) -> Outcome:
        """Score one upload.

        Raises:
            AbandonedError: nobody waits any more.
            Exception: the engine's, when it fails.
        """
        if job.abandoned:
            raise AbandonedError("nobody waits for this file any more")
        bounded = _Bounded(self._decoders, self._limits.max_seconds, self._contract, job)
        windows = _WindowsOfOne(
            self._contract, self._device, self._batcher, self._max_batch, self._limits, job
        )
        source = AudioInput(Path(upload.name), upload.content)
        try:
            (row,) = score_files(
                windows,
                [source],
                batch=self._max_batch,
                decode_workers=1,
                rule=rule,
                decoders=bounded,
            )
        except _TooManyWindowsError as error:
            row = ScoredFile(path=source.path, error=f"{upload.name} {error}")
            return Outcome(row, TOO_LARGE)
        if row.error is None:
            return Outcome(row, OK)
        if bounded.too_long:
            return Outcome(row, TOO_LARGE)
        # Where the decoder reached the end, the file is not at fault.
        return Outcome(row, NOT_SCORABLE if row.seconds is None else FAILED)

    def warm_up(self, n_times: int, rule: WindowRule) -> None:
        """Score noise, so that the first request finds everything started and all memory taken.

        Args:
            n_times: As many times as there are processes that decode, which take turns.
            rule: Which windows.

        Raises:
            Exception: whatever keeps uploads from being scored.
        """
        rate_hz = self._contract.sample_rate_hz
        n_samples = max(1, min(self._contract.min_samples, int(self._limits.max_seconds * rate_hz)))
        upload = Upload("warm-up.wav", noise_wav(n_samples, rate_hz))
        wanted = Wanted(sample_rate_hz=rate_hz, max_samples=n_samples, whole=True)
        for _ in range(n_times):
            for _piece in self._decoders.pieces(
                AudioInput(Path(upload.name), upload.content), wanted
            ):
                pass
        outcome = self.score(upload, rule, Job(_WARM_UP_S))
        if outcome.status != OK:
            log.warning("the model does not score noise: %s", outcome.row.error)
        if self._contract.n_samples is not None:  # the largest batch, which takes the most memory
            shape = self._max_batch, self._contract.n_samples
            noise = np.random.default_rng(0).uniform(-0.1, 0.1, shape)
            self._batcher.score(noise.astype(np.float32), Job(_WARM_UP_S))


def noise_wav(n_samples: int, rate_hz: int) -> bytes:
    """A WAV file of 16-bit noise, mono."""
    samples = np.random.default_rng(0).integers(-3_000, 3_000, n_samples, dtype="<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate_hz)
        sound.writeframes(samples.tobytes())
    return file.getvalue()


class _TooManyWindowsError(Exception):
    """A file has more windows than are allowed."""


class _Bounded:
    """Decoders for one file that stop where it is too long, or nobody waits any more."""

    def __init__(
        self, decoders: Decoders, max_seconds: float, contract: ModelContract, job: Job
    ) -> None:
        self._decoders, self._max_seconds, self._job = decoders, max_seconds, job
        self._max_samples = int(max_seconds * contract.sample_rate_hz)
        self.too_long = False

    def pieces(self, source: AudioInput, wanted: Wanted) -> Iterator[Piece]:
        """See `Decoders`; no more is decoded than shows that a file is too long."""
        most = self._max_samples + 1
        if wanted.max_samples is None or wanted.max_samples > most:
            wanted = replace(wanted, max_samples=most)
        n_samples = 0
        pieces = self._decoders.pieces(source, wanted)
        try:
            for piece in pieces:
                if self._job.abandoned:
                    raise AbandonedError("nobody waits for this file any more")
                n_samples += len(piece.samples)
                seconds = 0.0 if piece.about is None else piece.about.seconds
                if n_samples > self._max_samples or seconds > self._max_seconds:
                    self.too_long = True
                    what = f"{seconds:.1f} s" if seconds else f"more than {self._max_seconds:g} s"
                    raise AudioError(
                        f"{source.path} lasts {what}; this server takes {self._max_seconds:g} s."
                    )
                yield piece
        finally:
            let_go(pieces)

    def close(self) -> None:
        """The decoders are the server's."""


class _WindowsOfOne(BaseEngine):
    """The engine as one file's pipeline sees it: its windows share batches with other files'."""

    backend = "served"

    def __init__(
        self,
        contract: ModelContract,
        device: str,
        batcher: DynamicBatcher,
        max_batch: int,
        limits: Limits,
        job: Job,
    ) -> None:
        super().__init__(contract, device, max_batch)
        self._batcher, self._job, self._max_windows = batcher, job, limits.max_windows
        self._n_windows = 0

    def _run(self, waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        self._n_windows += len(waves)
        if self._n_windows > self._max_windows:
            raise _TooManyWindowsError(
                f"has more than {self._max_windows} windows, which this server takes; ask for a "
                "longer hop or fewer windows."
            )
        return {"score": self._batcher.score(waves, self._job)}

    def _close(self) -> None:
        """The engine is the server's."""
