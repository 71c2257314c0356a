"""From files to scores: parallel decode, windows, batches, engine, rows in the input's order.

Decoding runs a bounded number of files ahead of the engine, so memory does not grow with the number
of files. A file that cannot be scored becomes a row with its error.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aasist_deploy.inputs import AudioInput
from aasist_deploy.pipeline.batches import DEFAULT_BATCH, LocalScorer, Scorer, best_batch
from aasist_deploy.pipeline.rows import ScoredFile
from aasist_deploy.pipeline.stages import Decoders, InThreads
from aasist_deploy.pipeline.windows import FIRST, WindowRule, window_of, window_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aasist_deploy.engines import Engine

__all__ = [
    "DECODE_WORKERS",
    "DEFAULT_BATCH",
    "FIRST",
    "Decoders",
    "InThreads",
    "LocalScorer",
    "ScoredFile",
    "Scorer",
    "WindowRule",
    "best_batch",
    "score_files",
    "window_of",
    "window_rule",
]

DECODE_WORKERS: Final = 4  # two keep a CPU engine busy many times over; more help on slow disks


def score_files(
    engine: Engine,
    paths: Iterable[Path | AudioInput],
    *,
    batch: int = DEFAULT_BATCH,
    decode_workers: int = DECODE_WORKERS,
    rule: WindowRule = FIRST,
    decoders: Decoders | None = None,
) -> Iterator[ScoredFile]:
    """Score files, yielding a row for every one in the order given.

    Args:
        engine: Opened model.
        paths: May be long or endless; it is read only a little ahead.
        batch: Windows scored together. A variable-length model scores one at a time.
        decode_workers: Files decoded at the same time.
        rule: Which windows of a file are scored.
        decoders: Who decodes; threads of this process unless given.

    Raises:
        UsageError: the rule does not fit the model.
    """
    scorer = LocalScorer(engine, decoders or InThreads(), decode_workers)
    sources = (AudioInput(path) if isinstance(path, Path) else path for path in paths)
    with closing(scorer.groups(sources, rule=rule, batch=batch)) as groups:
        for group in groups:
            yield from group
