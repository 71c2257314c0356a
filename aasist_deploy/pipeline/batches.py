"""Decoded files to rows: a bounded number of files ahead, full batches, the order of the input.

Files are scored in groups. A group starts with an empty batch and ends with the file that fills
one, so which windows share a batch depends only on where the group starts. A run that goes on at
the start of a group therefore computes the bits that an uninterrupted run computes. Groups also end
where a chunk of inputs does, whatever is in the files, so that machines that know nothing of each
other's chunks form the same batches.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from aasist_deploy.calibration import Calibration, p_spoof
from aasist_deploy.errors import AudioError
from aasist_deploy.pipeline.rows import ScoredFile
from aasist_deploy.pipeline.stages import Decoders, Piece, Wanted, let_go
from aasist_deploy.pipeline.windows import Cutter, WindowRule

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.engines import Engine
    from aasist_deploy.inputs import Address, AudioInput
    from aasist_deploy.pipeline.stages import About

log = logging.getLogger(__name__)

Wave = TypeVar("Wave")

DEFAULT_BATCH: Final = 8  # of an engine that does not say what is best for it

_LEAST_FILES: Final = 8  # of a chunk: what a task of a cluster costs is shared by its files


class Described(Protocol):
    """What is known of a model that is open here or elsewhere; an engine is one."""

    @property
    def contract(self) -> ModelContract:
        """What it takes and gives."""
        ...

    @property
    def backend(self) -> str:
        """What runs it."""
        ...

    @property
    def device(self) -> str:
        """What it runs on."""
        ...


class Scorer(Described, Protocol):
    """Something that scores files: the engine of this process, or engines of a cluster."""

    @property
    def best_batch(self) -> int:
        """How many windows are best scored together when nobody says."""
        ...

    def groups(
        self, sources: Iterable[AudioInput], *, rule: WindowRule, batch: int, before: int = 0
    ) -> Generator[list[ScoredFile], None, None]:
        """Rows of all files in their order, in groups that each start with an empty batch.

        Closing it early ends what is under way.

        Args:
            sources: What to score; it is read only a little ahead.
            rule: Which windows are scored.
            batch: Windows scored together; a variable-length model scores one at a time.
            before: How many inputs came before these, in groups that are done.

        Raises:
            UsageError: the rule does not fit the model.
        """
        ...


@dataclass(slots=True)
class HeardFile:
    """What is known of a file once all its windows are in the batches of its group.

    Attributes:
        path: The file, as given.
        n_windows: How many windows it has.
        about: What its decoder said at its end.
        error: Why it has no score, or None.
        tiled: It was shorter than its window.
        cut: It was longer than the one window that is scored.
        scores: Of its windows, as far as they are scored.
    """

    path: Path | Address
    n_windows: int = 0
    about: About | None = None
    error: str | None = None
    tiled: bool = False
    cut: bool = False
    scores: list[float] = field(default_factory=list)


def wanted_of(contract: ModelContract, rule: WindowRule) -> Wanted:
    """What is to be read of each file."""
    return Wanted(
        sample_rate_hz=contract.sample_rate_hz,
        max_samples=rule.samples_needed(contract),
        whole=rule.n_windows == 1,
    )


def windows_of(
    pieces: Iterator[Piece], contract: ModelContract, rule: WindowRule, file: HeardFile
) -> Iterator[NDArray[np.float32]]:
    """Windows of one file; fills in what is known of it, an error among it."""
    cutter, last = Cutter(contract, rule), 0
    try:
        for piece in pieces:
            if not piece.joined:
                cutter.gap()
            for wave in cutter.push(piece.samples):
                file.n_windows += 1
                yield wave
            file.about = piece.about
        for wave in cutter.finish():
            file.n_windows += 1
            last = len(wave)
            yield wave
    except AudioError as error:
        file.error = str(error)
        return
    finally:
        let_go(pieces)
    if file.n_windows == 0:
        file.error = f"{file.path} has no {contract.n_samples} samples without a gap."
    file.tiled = cutter.n_samples < last
    file.cut = rule.n_windows == 1 and cutter.n_samples > last


def files_per_chunk(batch: int) -> int:
    """How many inputs a chunk has: those of full batches, where each has one window."""
    return batch * math.ceil(_LEAST_FILES / batch)


class Step(NamedTuple, Generic[Wave]):
    """What `grouped` comes to next.

    Attributes:
        windows: A batch, each window with its file; none if the group ends with a batch.
        group: The files of a group, all of whose windows were given, or None.
    """

    windows: list[tuple[HeardFile, Wave]]
    group: list[HeardFile] | None


def grouped(
    files: Iterable[tuple[HeardFile, Iterable[Wave]]], batch: int, before: int = 0
) -> Iterator[Step[Wave]]:
    """Put files into groups, and the windows of each group into batches.

    Args:
        files: Each with its windows, in order; a file is complete when its windows are exhausted.
        batch: Windows scored together.
        before: How many files came before these.
    """
    group: list[HeardFile] = []
    waiting: list[tuple[HeardFile, Wave]] = []
    n_windows, chunk = 0, files_per_chunk(batch)
    for place, (file, waves) in enumerate(files, start=before + 1):
        group.append(file)
        for wave in waves:
            waiting.append((file, wave))
            n_windows += 1
            if len(waiting) == batch:
                yield Step(waiting, None)
                waiting = []
        if n_windows >= batch or place % chunk == 0:
            yield Step(waiting, group)
            group, waiting, n_windows = [], [], 0
    if group:
        yield Step(waiting, group)


def row_of(file: HeardFile, rule: WindowRule, calibration: Calibration | None) -> ScoredFile:
    """The row of a file whose windows are all scored."""
    path = file.path
    if file.error is not None or file.about is None:
        return ScoredFile(path=path, error=file.error or f"{path} has no end.")
    note_in_log(file)
    score = rule.combine(file.scores)
    finite = math.isfinite(score) and all(map(math.isfinite, file.scores))
    llr = float(calibration.llr(score)) if finite and calibration else None
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


def note_in_log(file: HeardFile) -> None:
    """Log what the decoder had to say of a file."""
    about = file.about
    if about is not None and about.note is not None:
        # A second decoder is exact; what else a note says concerns the score.
        level = logging.INFO if about.second_decoder else logging.WARNING
        log.log(level, "%s: %s", file.path, about.note)


def best_batch(engine: Engine) -> int:
    """How many windows are best scored together by an engine, in its own words."""
    said = getattr(engine, "best_batch", DEFAULT_BATCH)
    return said if isinstance(said, int) else DEFAULT_BATCH


def calibration_of(contract: ModelContract) -> Calibration | None:
    """The calibration of a model, if it has one."""
    return None if contract.calibration is None else Calibration.from_dict(contract.calibration)


class LocalScorer:
    """Scores files with the engine of this process.

    Args:
        engine: Opened model; it is called from the thread that iterates.
        decoders: Who decodes.
        decode_workers: Files decoded at the same time.
    """

    def __init__(self, engine: Engine, decoders: Decoders, decode_workers: int) -> None:
        self._engine, self._decoders, self._workers = engine, decoders, decode_workers
        self.contract, self.backend, self.device = engine.contract, engine.backend, engine.device
        self.best_batch = best_batch(engine)
        self._batch: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def groups(
        self, sources: Iterable[AudioInput], *, rule: WindowRule, batch: int, before: int = 0
    ) -> Generator[list[ScoredFile], None, None]:
        """See `Scorer`."""
        contract = self.contract
        rule.check(contract)
        batch = batch if contract.n_samples is not None else 1
        calibration = calibration_of(contract)
        ahead = 2 * batch + self._workers
        with closing(self._started(sources, wanted_of(contract, rule), ahead)) as started:
            files = (
                (file, windows_of(pieces, contract, rule, file) if file.error is None else ())
                for file, pieces in started
            )
            for windows, group in grouped(files, batch, before):
                if windows:
                    self._score(windows)
                if group is not None:
                    yield [row_of(file, rule, calibration) for file in group]

    def _started(
        self, sources: Iterable[AudioInput], wanted: Wanted, ahead: int
    ) -> Generator[tuple[HeardFile, Iterator[Piece]], None, None]:
        """Files in their order, each with its first piece decoded, a bounded number ahead."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        queue: deque[Future[tuple[HeardFile, Iterator[Piece]]]] = deque()
        try:
            for source in sources:
                file = HeardFile(source.path, error=source.error)
                pieces: Iterator[Piece] = iter(())
                if source.error is None:
                    pieces = self._decoders.pieces(source, wanted)  # here, where they are in order
                queue.append(pool.submit(_begun, file, pieces))
                if len(queue) > ahead:
                    yield queue[0].result()
                    queue.popleft()
            while queue:
                yield queue[0].result()
                queue.popleft()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            # A file holds its decoder until it is let go of, and those behind it wait for one.
            for begun in queue:
                if not begun.cancelled():
                    with suppress(Exception):  # nobody waits for it any more
                        let_go(begun.result()[1])
            pool.shutdown(wait=True)

    def _score(self, waiting: list[tuple[HeardFile, NDArray[np.float32]]]) -> None:
        shape = (len(waiting), len(waiting[0][1]))
        # Fresh memory for each batch would cost more than filling it: the system must clear it.
        if shape != self._batch.shape:
            self._batch = np.empty(shape, np.float32)
        np.stack([wave for _, wave in waiting], out=self._batch)
        scores = self._engine.score(self._batch).tolist()
        for (file, _), score in zip(waiting, scores, strict=True):
            file.scores.append(score)


def _begun(file: HeardFile, pieces: Iterator[Piece]) -> tuple[HeardFile, Iterator[Piece]]:
    """Decode the first piece of a file, and let go of the file if that is all of it."""
    if file.error is not None:
        return file, pieces
    try:
        first = next(pieces)
        if first.about is not None:
            for _ in pieces:
                pass
            return file, iter((first,))
    except AudioError as error:
        file.error = str(error)
        return file, iter(())
    return file, _Begun(first, pieces)


class _Begun:
    """All pieces of a file whose first one is decoded already."""

    def __init__(self, first: Piece, rest: Iterator[Piece]) -> None:
        self._first: Piece | None = first
        self._rest = rest

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        first, self._first = self._first, None
        return next(self._rest) if first is None else first

    def close(self) -> None:
        self._first = None
        let_go(self._rest)
