"""What the registry states agrees with the loaders, with itself, and with the protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from aasist_deploy.corpora import CORPORA, Archive, Count, corpus_of
from aasist_deploy.errors import UsageError
from aasist_deploy.trials import dataset_splits, read_key

if TYPE_CHECKING:
    from pathlib import Path


def test_the_five_corpora_are_there() -> None:
    names = ["asvspoof2019-la", "asvspoof2021-la", "asvspoof2021-df", "asvspoof5", "in-the-wild"]
    assert list(CORPORA) == names
    assert [corpus_of(name).name for name in names] == names
    with pytest.raises(UsageError, match="known: asvspoof2019-la, asvspoof2021-la"):
        corpus_of("asvspoof2017")


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_read_by_the_loader_of_its_dataset(name: str) -> None:
    corpus = CORPORA[name]
    assert set(corpus.splits) <= set(dataset_splits(corpus.dataset))
    assert set(corpus.counts) <= set(corpus.splits)
    assert corpus.licence
    assert corpus.citation
    for split in corpus.splits:
        assert corpus.archives_of([split])


@pytest.mark.parametrize("name", CORPORA)
def test_every_archive_has_an_address_with_https(name: str) -> None:
    for archive in CORPORA[name].archives:
        assert archive.urls
        assert all(urlsplit(url).scheme == "https" for url in archive.urls)


@pytest.mark.parametrize("name", CORPORA)
def test_classes_add_up_to_trials(name: str) -> None:
    corpus = CORPORA[name]
    for count in corpus.counts.values():
        if count.bonafide is not None:
            assert count.spoof is not None
            assert count.bonafide + count.spoof == count.trials
    if corpus.n_trials is not None:
        assert sum(count.trials for count in corpus.counts.values()) < corpus.n_trials


def test_a_split_of_asvspoof_5_needs_its_parts_and_the_protocols() -> None:
    corpus = CORPORA["asvspoof5"]
    files = {split: [a.file for a in corpus.archives_of([split])] for split in corpus.splits}
    assert files["dev"] == [
        "ASVspoof5_protocols.tar.gz", "flac_D_aa.tar", "flac_D_ab.tar", "flac_D_ac.tar"
    ]  # fmt: skip
    assert {split: len(some) for split, some in files.items()} == {"train": 6, "dev": 4, "eval": 11}
    assert len(corpus.archives) == 19
    assert corpus.archives_of() == corpus.archives


def test_counts_of_2019_are_those_of_its_protocols(shared: Path) -> None:
    folder = shared / "data" / "ASVspoof2019_LA_full"
    for split, count in CORPORA["asvspoof2019-la"].counts.items():
        (file,) = folder.glob(f"*.{split}.*")
        entries = read_key(file)
        n_bonafide = sum(entry.label == "bonafide" for entry in entries)
        found = Count(trials=len(entries), bonafide=n_bonafide, spoof=len(entries) - n_bonafide)
        assert found == count


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"file": "../x.zip"}, "is not the name"),
        ({"file": "x.rar"}, "is not the name"),
        ({"md5": ("ABC",)}, "are not md5 sums"),
        ({"about_bytes": 0}, "disagree"),
        ({"n_bytes": 2}, "disagree"),
    ],
)
def test_a_malformed_archive_is_refused(fields: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"file": "x.zip", "urls": ("https://x",), "about_bytes": 1, **fields}
    with pytest.raises(UsageError, match=message):
        Archive(**given)


def test_a_corpus_names_each_archive_once_and_only_its_own_splits(corpus_at: Any) -> None:
    one = Archive(file="x.zip", urls=("https://x",), about_bytes=1)
    with pytest.raises(UsageError, match="each has its own name"):
        corpus_at("https://x", archives=(one, one))
    other = Archive(file="y.zip", urls=("https://x",), about_bytes=1, splits=("test",))
    with pytest.raises(UsageError, match="has no split test"):
        corpus_at("https://x", archives=(one, other))
