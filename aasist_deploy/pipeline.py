"""From files to scores: parallel decode, windows, batches, engine, rows in the input's order.

Decoding runs in threads (libsndfile releases the GIL) a bounded number of files ahead of the
engine, so memory does not grow with the number of files. A file that cannot be scored becomes a
row with its error.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.audio import Audio, fit_length, read_audio
from aasist_deploy.calibration import Calibration, p_spoof
from aasist_deploy.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.engines import Engine

log = logging.getLogger(__name__)

DEFAULT_BATCH: Final = 8
DECODE_THREADS: Final = 4  # two keep a CPU engine busy many times over; more help on slow disks


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredFile:
    """What became of one file; exactly one of `score` and `error` is not None.

    Attributes:
        path: The file, as given.
        score: In the model's score definition, higher means more likely bona fide.
        error: Why there is no score.
        seconds: Duration of the file's audio, or None when it could not be decoded.
        second_decoder: The usual decoder refused the file and another one read it.
        resampled: The file had another sample rate than the model.
        tiled: The clip was shorter than the window and was repeated.
        cut: The clip was longer than the window; its start was scored.
        note: What the decoder had to say of the file, or None.
        llr: Log-likelihood ratio in nats, when the model is calibrated and there is a score.
        p_spoof: Probability of spoof at a prior of 0.5; as `llr`.
    """

    path: Path
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


@dataclass(frozen=True, slots=True)
class _Window:
    path: Path
    wave: NDArray[np.float32]
    audio: Audio


def window_rule(contract: ModelContract) -> str:
    """Which part of a file is scored, in words."""
    if contract.n_samples is None:
        return (
            f"the whole file up to {contract.max_samples or 'any number of'} samples; "
            f"shorter than {contract.min_samples}: tiled"
        )
    return f"the first {contract.n_samples} samples; shorter files are tiled"


def window_of(wave: NDArray[np.float32], contract: ModelContract) -> NDArray[np.float32]:
    """The part of a clip that is scored, tiled where the clip is shorter than the window.

    Args:
        wave: (N,) samples at the contract's rate, N >= 1.
        contract: Of the model.

    Returns:
        (contract.n_samples,) samples, or for a variable-length model between min_samples and
        max_samples of them.
    """
    if contract.n_samples is not None:
        return fit_length(wave, contract.n_samples)
    longest = contract.max_samples or len(wave)
    return fit_length(wave, max(contract.min_samples, min(len(wave), longest)))


def score_files(
    engine: Engine,
    paths: Iterable[Path],
    *,
    batch: int = DEFAULT_BATCH,
    decode_threads: int = DECODE_THREADS,
) -> Iterator[ScoredFile]:
    """Score files one window each, yielding a row for every path in the order given.

    Args:
        engine: Opened model.
        paths: May be long or endless; it is read only a little ahead.
        batch: Windows scored together. A variable-length model scores one at a time.
        decode_threads: Files decoded at the same time.
    """
    contract = engine.contract
    size = batch if contract.n_samples is not None else 1
    waiting: list[_Window | ScoredFile] = []
    n_windows = 0
    for item in _decoded(paths, contract, decode_threads, ahead=2 * size + decode_threads):
        waiting.append(item)
        n_windows += isinstance(item, _Window)
        if n_windows == size:
            yield from _scored(engine, waiting)
            waiting, n_windows = [], 0
    yield from _scored(engine, waiting)


def _decoded(
    paths: Iterable[Path], contract: ModelContract, threads: int, ahead: int
) -> Iterator[_Window | ScoredFile]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    queue: deque[Future[_Window | ScoredFile]] = deque()
    try:
        for path in paths:
            queue.append(pool.submit(_decode, path, contract))
            if len(queue) > ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode(path: Path, contract: ModelContract) -> _Window | ScoredFile:
    longest = contract.n_samples or contract.max_samples
    try:
        # One sample more than the window tells a longer file from one that just fits.
        audio = read_audio(
            path,
            sample_rate_hz=contract.sample_rate_hz,
            max_samples=None if longest is None else longest + 1,
        )
    except AudioError as error:
        return ScoredFile(path=path, error=str(error))
    if audio.note is not None:
        # A second decoder is exact; what else a note says (a file cut short) concerns the score.
        level = logging.INFO if audio.second_decoder else logging.WARNING
        log.log(level, "%s: %s", path, audio.note)
    return _Window(path, window_of(audio.wave, contract), audio)


def _scored(engine: Engine, waiting: list[_Window | ScoredFile]) -> Iterator[ScoredFile]:
    windows = [item for item in waiting if isinstance(item, _Window)]
    held = engine.contract.calibration
    calibration = None if held is None else Calibration.from_dict(held)
    scores: Iterator[float] = iter(
        engine.score(np.stack([w.wave for w in windows])).tolist() if windows else ()
    )
    for item in waiting:
        if isinstance(item, ScoredFile):
            yield item
            continue
        n_samples, audio, score = len(item.wave), item.audio, next(scores)
        finite = math.isfinite(score)
        llr = float(calibration.llr(score)) if finite and calibration else None
        yield ScoredFile(
            path=item.path,
            score=score if finite else None,
            error=None if finite else f"{item.path}: the model's score is {score}.",
            seconds=audio.seconds,
            second_decoder=audio.second_decoder,
            resampled=audio.source_rate_hz != engine.contract.sample_rate_hz,
            tiled=len(audio.wave) < n_samples,
            cut=len(audio.wave) > n_samples,
            note=audio.note,
            llr=llr,
            p_spoof=None if llr is None else float(p_spoof(llr)),
        )
