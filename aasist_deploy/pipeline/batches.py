"""Decoded files to rows: a bounded number of files ahead, full batches, the order of the input.

Files are scored in groups. A group starts with an empty batch and ends with the file that fills
one, so which windows share a batch depends only on where the group starts. A run that goes on at
the start of a group therefore computes the bits that an uninterrupted run computes.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.calibration import Calibration, p_spoof
from aasist_deploy.errors import AudioError
from aasist_deploy.pipeline.rows import ScoredFile
from aasist_deploy.pipeline.stages import Decoders, Piece, Wanted
from aasist_deploy.pipeline.windows import Cutter, WindowRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from aasist_deploy.engines import Engine
    from aasist_deploy.inputs import AudioInput
    from aasist_deploy.pipeline.stages import About

log = logging.getLogger(__name__)

# A group ends after so many times the batch, however few of its files could be decoded.
_FILES_PER_WINDOW: Final = 16


@dataclass(slots=True)
class _Started:
    """A file whose decoding has begun: its first piece, and what gives the others."""

    source: AudioInput
    first: Piece | None = None
    rest: Iterator[Piece] | None = None
    error: str | None = None


@dataclass(slots=True)
class _Heard:
    """A file all of whose windows are in the batches of its group."""

    source: AudioInput
    n_windows: int = 0
    about: About | None = None
    error: str | None = None
    tiled: bool = False
    cut: bool = False
    scores: list[float] = field(default_factory=list)


class Batcher:
    """Scores files in groups.

    Args:
        engine: Opened model; it is called from the thread that iterates.
        decoders: Who decodes.
        rule: Which windows are scored.
        batch: Windows scored together; a variable-length model scores one at a time.
        decode_workers: Files decoded at the same time.
    """

    def __init__(
        self,
        engine: Engine,
        decoders: Decoders,
        *,
        rule: WindowRule,
        batch: int,
        decode_workers: int,
    ) -> None:
        rule.check(engine.contract)
        self._engine, self._decoders, self._rule = engine, decoders, rule
        self._batch = batch if engine.contract.n_samples is not None else 1
        self._workers = decode_workers
        self._wanted = Wanted(
            sample_rate_hz=engine.contract.sample_rate_hz,
            max_samples=rule.samples_needed(engine.contract),
            whole=rule.n_windows == 1,
        )
        held = engine.contract.calibration
        self._calibration = None if held is None else Calibration.from_dict(held)

    def groups(self, sources: Iterable[AudioInput]) -> Iterator[list[ScoredFile]]:
        """Rows of all files in their order, group by group."""
        files: list[_Heard] = []
        waiting: list[tuple[_Heard, NDArray[np.float32]]] = []
        n_windows = 0
        for started in self._started(sources):
            file = _Heard(started.source)
            files.append(file)
            for wave in self._windows(started, file):
                waiting.append((file, wave))
                n_windows += 1
                if len(waiting) == self._batch:
                    self._score(waiting)
                    waiting = []
            if n_windows >= self._batch or len(files) >= self._batch * _FILES_PER_WINDOW:
                self._score(waiting)
                yield [self._row(file) for file in files]
                files, waiting, n_windows = [], [], 0
        if files:
            self._score(waiting)
            yield [self._row(file) for file in files]

    def _started(self, sources: Iterable[AudioInput]) -> Iterator[_Started]:
        """Files in their order, each with its first piece decoded, a bounded number ahead."""
        ahead = 2 * self._batch + self._workers
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        queue: deque[Future[_Started]] = deque()
        try:
            for source in sources:
                queue.append(pool.submit(self._start, source))
                if len(queue) > ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _start(self, source: AudioInput) -> _Started:
        if source.error is not None:
            return _Started(source, error=source.error)
        try:
            pieces = self._decoders.pieces(source, self._wanted)
            first = next(pieces)
            if first.about is not None:  # all of it: let go of the file now
                for _ in pieces:
                    pass
                return _Started(source, first)
        except AudioError as error:
            return _Started(source, error=str(error))
        return _Started(source, first, pieces)

    def _windows(self, started: _Started, file: _Heard) -> Iterator[NDArray[np.float32]]:
        """Windows of one file; fills in what is known of it."""
        if started.error is not None:
            file.error = started.error
            return
        contract = self._engine.contract
        cutter = Cutter(contract, self._rule)
        piece, last = started.first, 0
        try:
            while piece is not None:
                if not piece.joined:
                    cutter.gap()
                for wave in cutter.push(piece.samples):
                    file.n_windows += 1
                    yield wave
                file.about = piece.about
                piece = None if started.rest is None else next(started.rest, None)
            for wave in cutter.finish():
                file.n_windows += 1
                last = len(wave)
                yield wave
        except AudioError as error:
            file.error = str(error)
            return
        finally:
            close = getattr(started.rest, "close", None)
            if close is not None:
                close()
        if file.n_windows == 0:
            file.error = f"{file.source.path} has no {contract.n_samples} samples without a gap."
        file.tiled = cutter.n_samples < last
        file.cut = self._rule.n_windows == 1 and cutter.n_samples > last
        about = file.about
        if about is not None and about.note is not None:
            # A second decoder is exact; what else a note says concerns the score.
            level = logging.INFO if about.second_decoder else logging.WARNING
            log.log(level, "%s: %s", file.source.path, about.note)

    def _score(self, waiting: list[tuple[_Heard, NDArray[np.float32]]]) -> None:
        if not waiting:
            return
        scores = self._engine.score(np.stack([wave for _, wave in waiting])).tolist()
        for (file, _), score in zip(waiting, scores, strict=True):
            file.scores.append(score)

    def _row(self, file: _Heard) -> ScoredFile:
        path = file.source.path
        if file.error is not None or file.about is None:
            return ScoredFile(path=path, error=file.error or f"{path} has no end.")
        score = self._rule.combine(file.scores)
        finite = math.isfinite(score) and all(map(math.isfinite, file.scores))
        llr = float(self._calibration.llr(score)) if finite and self._calibration else None
        bad = next((one for one in file.scores if not math.isfinite(one)), score)
        return ScoredFile(
            path=path,
            score=score if finite else None,
            error=None if finite else f"{path}: the model's score is {bad}.",
            seconds=file.about.seconds,
            second_decoder=file.about.second_decoder,
            resampled=file.about.resampled,
            tiled=file.tiled,
            cut=file.cut,
            note=file.about.note,
            llr=llr,
            p_spoof=None if llr is None else float(p_spoof(llr)),
            window_scores=tuple(file.scores),
        )
