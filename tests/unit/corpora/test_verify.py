"""Verification finds what is missing, unreadable, altered, or counted otherwise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.corpora import CORPORA, Count, download_corpus, verify_corpus
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

DEV = "LA/ASVspoof2019_LA_dev/flac"


@pytest.fixture
def corpus(corpus_at: Any) -> Any:
    return corpus_at("http://127.0.0.1:1")


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_corpus_is_whole(corpus: Any, tree: Path, deep: bool) -> None:
    seen: list[Any] = []
    found = verify_corpus(
        corpus,
        tree,
        deep=deep,
        on_split=lambda split, n: seen.append((split, n)),
        on_file=lambda: seen.append("file"),
    )
    assert found.is_whole
    assert [(one.split, one.trials, one.expected) for one in found.splits] == [
        ("train", 2, 2), ("dev", 2, 2), ("eval", 2, 2)
    ]  # fmt: skip
    assert {one.n_second_decoder for one in found.splits} == {0 if deep else None}
    assert seen == [x for s in ("train", "dev", "eval") for x in ((s, 2), "file", "file")]
    assert json.loads(json.dumps(found.to_json()))["ok"] is True


def test_missing_files_are_counted_and_named(corpus: Any, tree: Path) -> None:
    (tree / DEV / "LA_1_2.flac").unlink()
    found = verify_corpus(corpus, tree)
    assert not found.is_whole
    assert [one.is_whole for one in found.splits] == [True, False, True]
    assert (found.splits[1].n_missing, found.splits[1].missing) == (1, ("LA_1_2",))
    assert verify_corpus(corpus, tree, splits=["eval"]).is_whole


def test_a_file_without_a_header_is_unreadable(corpus: Any, tree: Path) -> None:
    (tree / DEV / "LA_1_1.flac").write_bytes(b"not audio at all, but long enough")
    (split,) = verify_corpus(corpus, tree, splits=["dev"]).splits
    assert split.n_unreadable == 1
    assert split.unreadable[0].startswith("LA_1_1: ")


def test_only_decoding_finds_what_is_damaged_behind_a_header(corpus: Any, tree: Path) -> None:
    path = tree / DEV / "LA_1_2.flac"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert verify_corpus(corpus, tree, splits=["dev"]).is_whole
    (split,) = verify_corpus(corpus, tree, splits=["dev"], deep=True).splits
    assert split.n_unreadable == 1


def test_other_counts_than_the_publisher_s_are_a_problem(corpus_at: Any, tree: Path) -> None:
    counts = {
        "train": Count(trials=3),
        "dev": Count(trials=2, bonafide=2, spoof=0),
        "eval": Count(trials=2),
    }
    corpus = corpus_at("http://127.0.0.1:1", counts=counts, n_trials=7)
    found = verify_corpus(corpus, tree)
    assert [one.problem for one in found.splits] == [
        "2 trials where the publisher counts 3",
        "1 bonafide where the publisher counts 2",
        None,
    ]
    assert found.problem == "6 trials where the publisher counts 7"
    eval_alone = verify_corpus(corpus, tree, splits=["eval"])
    assert eval_alone.is_whole
    assert eval_alone.problem is None


def test_a_split_without_a_protocol_says_why(corpus: Any, tree: Path) -> None:
    for protocol in tree.rglob("*.eval.trl.txt"):
        protocol.unlink()
    split = verify_corpus(corpus, tree).splits[2]
    assert split.trials == 0
    assert split.problem is not None
    assert "has no ASVspoof2019_LA_cm_protocols" in split.problem


def test_long_lists_are_cut_and_counts_are_not(corpus: Any, tree: Path) -> None:
    (protocol,) = tree.rglob("*.dev.trl.txt")
    lines = [f"LA_9 u{n} - - bonafide\n" for n in range(50)]
    protocol.write_text(protocol.read_text() + "".join(lines))
    split = verify_corpus(corpus, tree).splits[1]
    assert split.n_missing == 50
    assert split.missing == tuple(f"u{n}" for n in range(20))


def test_archives_are_right_wrong_unpacked_or_unknown(
    corpus_at: Any, tmp_path: Path, folder: Path
) -> None:
    corpus = corpus_at("http://127.0.0.1:1", unchecked=("eval.tar.gz",))
    root = tmp_path / "root"

    def states() -> dict[str, str]:
        return {one.file: one.state for one in verify_corpus(corpus, root).archives}

    assert set(states().values()) == {"unknown"}
    download_corpus(corpus, root, mirror=folder)
    assert set(states().values()) == {"unpacked"}
    download_corpus(corpus, root, mirror=folder, archives_only=True)
    assert set(states().values()) == {"right"}
    assert verify_corpus(corpus, root).is_whole
    for file in ("dev.tar", "eval.tar.gz"):  # by the publisher's checksum, by the recorded one
        path = root / "archives" / file
        path.write_bytes(path.read_bytes()[:-1])
    assert states() == {"train.zip": "right", "dev.tar": "wrong", "eval.tar.gz": "wrong"}
    assert not verify_corpus(corpus, root).is_whole


def test_an_unknown_split_is_refused(corpus: Any, tree: Path) -> None:
    with pytest.raises(UsageError, match="has no split 'test'"):
        verify_corpus(corpus, tree, splits=["test"])


def test_a_part_of_the_real_corpus_is_not_the_whole(shared: Path) -> None:
    root = shared / "data" / "LA_mini"
    found = verify_corpus(CORPORA["asvspoof2019-la"], root, splits=["eval"], deep=True)
    (split,) = found.splits
    assert not found.is_whole
    assert split.problem == "29 trials where the publisher counts 71237"
    assert (split.n_missing, split.n_unreadable, split.n_second_decoder) == (0, 0, 0)
