"""Archives from a mirror, from a folder that a user filled, and kept for another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.corpora import MIRROR_VARIABLE, download_corpus
from aasist_deploy.corpora._state import read_stamp
from aasist_deploy.errors import DownloadError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def audio_of(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*.flac")}


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "archives").iterdir())


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_a_mirror_is_asked_in_place_of_the_publisher(
    way: str,
    serving: Any,
    archives: dict[str, bytes],
    corpus_at: Any,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def respond(handler: Any, _: int) -> None:
        path, _, query = handler.path.partition("?")
        if query == "key=secret" and path in {"/m/tiny/train.zip", "/m/dev.tar", "/m/eval.tar.gz"}:
            handler.reply(200, archives[path.rpartition("/")[2]])
        else:
            handler.reply(404)

    with serving(respond) as server:
        mirror = f"{server.url}/m/?key=secret"
        if way == "variable":
            monkeypatch.setenv(MIRROR_VARIABLE, mirror)
        corpus = corpus_at("http://127.0.0.1:1")
        fetched = download_corpus(corpus, root, mirror=mirror if way == "argument" else None)
        sources = [f"{server.url}/m/tiny/train.zip", f"{server.url}/m/dev.tar"]
        assert [one.source for one in fetched][:2] == sources
    assert len(audio_of(root)) == 6


def test_a_folder_of_archives_is_used_where_it_lies_and_left_as_it_is(
    corpus_at: Any, root: Path, folder: Path, archives: dict[str, bytes]
) -> None:
    (folder / "tiny").mkdir()
    (folder / "dev.tar").rename(folder / "tiny" / "dev.tar")
    fetched = download_corpus(corpus_at("http://127.0.0.1:1"), root, mirror=folder)
    assert len(audio_of(root)) == 6
    assert not (root / "archives").exists()
    assert [one.path for one in fetched] == [
        folder / "train.zip", folder / "tiny/dev.tar", folder / "eval.tar.gz"
    ]  # fmt: skip
    assert (folder / "train.zip").read_bytes() == archives["train.zip"]


def test_a_folder_without_an_archive_or_with_a_wrong_one_is_told(
    corpus_at: Any, root: Path, folder: Path
) -> None:
    corpus = corpus_at("http://127.0.0.1:1")
    (folder / "dev.tar").write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"dev\.tar has 14 bytes with md5"):
        download_corpus(corpus, root, mirror=folder)
    assert (folder / "dev.tar").exists()
    (folder / "dev.tar").unlink()
    with pytest.raises(DownloadError, match=r"has no dev\.tar and no tiny/dev\.tar") as caught:
        download_corpus(corpus, root, mirror=folder)
    assert caught.value.fix == "get it from https://example.org/tiny and put it there"
    for wrong in ("ftp://example.org/x", str(folder / "nowhere")):
        with pytest.raises(UsageError, match="The mirror"):
            download_corpus(corpus, root, mirror=wrong)


def test_archives_alone_are_kept_and_unpacked_later_without_a_network(
    serving: Any, good: Any, corpus_at: Any, root: Path, archives: dict[str, bytes]
) -> None:
    with serving(good) as server:
        fetched = download_corpus(corpus_at(server.url), root, archives_only=True)
    assert {one.path: one.n_files for one in fetched} == {
        root / "archives" / file: 0 for file in archives
    }
    assert audio_of(root) == set()
    nowhere = corpus_at("http://127.0.0.1:1")
    other = root.with_name("other")
    download_corpus(nowhere, other, mirror=(root / "archives").as_uri())
    assert audio_of(other) == audio_of(root) | audio_of(other)
    assert len(audio_of(other)) == 6
    download_corpus(nowhere, root, keep_archives=True)
    assert leftovers(root) == sorted(archives)
    assert len(audio_of(root)) == 6
    download_corpus(nowhere, root, archives_only=True)
    stamp = read_stamp(root, "train.zip")
    assert stamp is not None
    assert stamp.is_in_place(root)


def test_archives_that_the_user_names_are_never_removed(
    corpus_at: Any, root: Path, folder: Path, archives: dict[str, bytes]
) -> None:
    root.mkdir()
    own = folder.rename(root / "archives")
    download_corpus(corpus_at("http://127.0.0.1:1"), root, mirror=own)
    assert leftovers(root) == sorted(archives)
    (own / "dev.tar").write_bytes(b"damaged")
    with pytest.raises(DownloadError):
        download_corpus(
            corpus_at("http://127.0.0.1:1", unchecked=("dev.tar",)),
            root.with_name("other"),
            mirror=own,
        )
    assert leftovers(root) == sorted(archives)


def test_archives_of_a_folder_are_copied_when_only_archives_are_wanted(
    corpus_at: Any, root: Path, folder: Path, archives: dict[str, bytes]
) -> None:
    download_corpus(corpus_at("http://127.0.0.1:1"), root, mirror=folder, archives_only=True)
    assert leftovers(root) == sorted(archives)
    assert (root / "archives/dev.tar").read_bytes() == archives["dev.tar"]
