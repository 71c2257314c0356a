"""Corpora: fetched and unpacked safely, checked against their publishers' counts, and counted.

`CORPORA` says what there is, `download_corpus` gets one, `verify_corpus` checks that it is whole,
and `split_stats` says what is in it. The layout is the one that `aasist_deploy.trials` reads.
"""

from aasist_deploy.corpora._download import (
    ARCHIVES,
    MIRROR_VARIABLE,
    Fetched,
    download_corpus,
)
from aasist_deploy.corpora._measure import Measured, measure
from aasist_deploy.corpora._registry import CORPORA, corpus_of
from aasist_deploy.corpora._stats import SplitStats, split_stats, trials_by_split
from aasist_deploy.corpora._types import Archive, Corpus, Count
from aasist_deploy.corpora._unpack import BadArchiveError, Unpacked, unpack
from aasist_deploy.corpora._verify import (
    ArchiveCheck,
    SplitCheck,
    Verification,
    verify_corpus,
)

__all__ = [
    "ARCHIVES",
    "CORPORA",
    "MIRROR_VARIABLE",
    "Archive",
    "ArchiveCheck",
    "BadArchiveError",
    "Corpus",
    "Count",
    "Fetched",
    "Measured",
    "SplitCheck",
    "SplitStats",
    "Unpacked",
    "Verification",
    "corpus_of",
    "download_corpus",
    "measure",
    "split_stats",
    "trials_by_split",
    "unpack",
    "verify_corpus",
]
