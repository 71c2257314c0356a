"""A corpus fetched from a local server that misbehaves, from mirrors, and from folders."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from aasist_deploy.corpora import (
    Archive,
    BadArchiveError,
    Fetched,
    download_corpus,
)
from aasist_deploy.corpora._state import read_stamp
from aasist_deploy.errors import DownloadError, OutputError, UsageError
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from pathlib import Path


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def audio_of(root: Path) -> set[str]:
    return {path.name for path in root.rglob("*.flac")}


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "archives").iterdir())


def test_a_corpus_is_fetched_unpacked_and_read_by_its_dataset_name(
    serving: Any, good: Any, corpus_at: Any, root: Path, members: dict[str, bytes]
) -> None:
    told: list[tuple[str, str]] = []
    with serving(good) as server:
        fetched = download_corpus(
            corpus_at(server.url),
            root,
            on_progress=lambda file, stage, *_: told.append((file, stage)),
        )
        assert [path for path, _ in server.asked] == ["/train.zip", "/dev.tar", "/eval.tar.gz"]
        again = download_corpus(corpus_at(server.url), root)
        assert len(server.asked) == 3
    for split in ("train", "dev", "eval"):
        dataset = load_dataset("asvspoof2019-la", root, split)
        dataset.require_audio()
        assert len(dataset.trials) == 2
    assert {name: (root / name).read_bytes() for name in members} == members
    assert leftovers(root) == []
    assert [one.file for one in fetched] == ["train.zip", "dev.tar", "eval.tar.gz"]
    assert all(one.is_checked and one.path is None for one in fetched)
    assert [one.n_files for one in fetched] == [5, 2, 2]
    assert [one.source for one in again] == ["here"] * 3
    stages = ["fetching", "checking", "unpacking"]
    assert list(dict.fromkeys(told)) == [(one.file, s) for one in fetched for s in stages]


def test_only_the_archives_of_a_split_are_fetched(
    serving: Any, good: Any, corpus_at: Any, root: Path
) -> None:
    with serving(good) as server:
        corpus = corpus_at(server.url)
        download_corpus(corpus, root, splits=["dev"])
        assert [path for path, _ in server.asked] == ["/train.zip", "/dev.tar"]
        with pytest.raises(UsageError, match="has no split 'test'"):
            download_corpus(corpus, root, splits=["test"])


def test_cut_connections_go_on_in_this_run_and_the_next(
    serving: Any, corpus_at: Any, root: Path, archives: dict[str, bytes]
) -> None:
    content = archives["train.zip"]
    third = len(content) // 3

    def cut_twice(handler: Any, n: int) -> None:
        if n == 1:
            handler.cut(content[:third], len(content))
        elif n == 2:
            start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            place = f"bytes {start}-{len(content) - 1}/{len(content)}"
            handler.send_response(206)
            handler.send_header("Content-Range", place)
            handler.send_header("Content-Length", str(len(content) - start))
            handler.end_headers()
            handler.wfile.write(content[start : 2 * third])
            handler.close_connection = True
        else:
            handler.reply(503)

    def good(handler: Any, _: int) -> None:
        handler.reply_with_ranges(archives[handler.path[1:]])

    with serving(cut_twice) as server:
        with pytest.raises(
            DownloadError, match=r"train\.zip of tiny could not be fetched"
        ) as caught:
            download_corpus(corpus_at(server.url), root)
        assert "HTTP 503" in str(caught.value)
        assert caught.value.fix is not None
        assert "goes on where it stopped" in caught.value.fix
        assert "--from FOLDER" in caught.value.fix
    n_kept = (root / "archives" / "train.zip.part").stat().st_size
    assert n_kept > 2 * third - 10_000
    with serving(good) as server:
        download_corpus(corpus_at(server.url), root)
        assert server.asked[0] == ("/train.zip", f"bytes={n_kept}-")
    assert len(audio_of(root)) == 6


def test_a_server_that_ignores_range_still_gives_the_whole(
    serving: Any, corpus_at: Any, root: Path, archives: dict[str, bytes]
) -> None:
    (root / "archives").mkdir(parents=True)
    (root / "archives" / "train.zip.part").write_bytes(archives["train.zip"][:1_000])
    with serving(lambda handler, _: handler.reply(200, archives[handler.path[1:]])) as server:
        download_corpus(corpus_at(server.url), root)
    assert len(audio_of(root)) == 6


def test_a_part_of_another_version_is_dropped(
    serving: Any, good: Any, corpus_at: Any, root: Path
) -> None:
    (root / "archives").mkdir(parents=True)
    (root / "archives" / "train.zip.part").write_bytes(b"older" * 200)
    with serving(good) as server:
        download_corpus(corpus_at(server.url), root, splits=["train"])
        assert server.asked == [("/train.zip", "bytes=1000-"), ("/train.zip", None)]
    assert len(audio_of(root)) == 2


def test_wrong_bytes_are_refused_with_both_checksums_and_nothing_is_kept(
    serving: Any, corpus_at: Any, root: Path, archives: dict[str, bytes]
) -> None:
    wrong = archives["train.zip"][:-1] + b"?"
    with (
        serving(lambda handler, _: handler.reply(200, wrong)) as server,
        pytest.raises(DownloadError) as caught,
    ):
        download_corpus(corpus_at(server.url), root)
    assert hashlib.md5(wrong).hexdigest() in str(caught.value)
    assert hashlib.md5(archives["train.zip"]).hexdigest() in str(caught.value)
    assert caught.value.fix is not None
    assert "--any-checksum" in caught.value.fix
    assert leftovers(root) == []
    assert audio_of(root) == set()
    assert read_stamp(root, "train.zip") is None


def test_any_one_of_several_checksums_will_do(
    serving: Any, good: Any, corpus_at: Any, root: Path, archives: dict[str, bytes]
) -> None:
    with serving(good) as server:
        right = hashlib.md5(archives["dev.tar"]).hexdigest()
        archive = Archive(
            file="dev.tar",
            urls=(f"{server.url}/dev.tar",),
            about_bytes=len(archives["dev.tar"]),
            md5=("0" * 32, right),
        )
        (fetched,) = download_corpus(corpus_at(server.url, archives=(archive,)), root)
    assert fetched.is_checked


def test_a_replaced_archive_is_taken_when_told_to(
    serving: Any, corpus_at: Any, root: Path, archives: dict[str, bytes], pack_zip: Any
) -> None:
    newer = {**archives, "train.zip": pack_zip({"LA/new.txt": b"new" * 1_000})}
    with serving(lambda handler, _: handler.reply_with_ranges(newer[handler.path[1:]])) as server:
        fetched = download_corpus(corpus_at(server.url), root, any_checksum=True)
    assert (root / "LA/new.txt").read_bytes() == b"new" * 1_000
    assert [one.is_checked for one in fetched] == [False, True, True]
    assert fetched[0].sha256 == hashlib.sha256(newer["train.zip"]).hexdigest()


def test_without_a_checksum_the_first_one_is_recorded_and_held_to(
    serving: Any, good: Any, corpus_at: Any, root: Path, archives: dict[str, bytes], pack_zip: Any
) -> None:
    first = hashlib.sha256(archives["train.zip"]).hexdigest()
    with serving(good) as server:
        corpus = corpus_at(server.url, unchecked=("train.zip",))
        fetched = download_corpus(corpus, root)
    assert [one.is_checked for one in fetched] == [False, True, True]
    assert fetched[0].sha256 == first
    other = pack_zip({"LA/new.txt": b"new"})
    with serving(lambda handler, _: handler.reply(200, other)) as server:
        corpus = corpus_at(server.url, unchecked=("train.zip",))
        with pytest.raises(DownloadError, match=f"where {first} was recorded the first time"):
            download_corpus(corpus, root, force=True)
        assert not (root / "LA/new.txt").exists()
        assert leftovers(root) == []


def test_a_damaged_archive_without_a_checksum_is_found_by_its_own_and_fetched_anew(
    serving: Any, good: Any, corpus_at: Any, root: Path, archives: dict[str, bytes]
) -> None:
    damaged = bytearray(archives["train.zip"])
    damaged[len(damaged) // 2] ^= 1
    with serving(lambda handler, _: handler.reply(200, bytes(damaged))) as server:
        corpus = corpus_at(server.url, unchecked=("train.zip",))
        with pytest.raises(BadArchiveError, match="is damaged"):
            download_corpus(corpus, root)
    assert audio_of(root) == set()
    with serving(good) as server:
        download_corpus(corpus_at(server.url, unchecked=("train.zip",)), root)
    assert len(audio_of(root)) == 6


def test_a_busy_server_is_asked_again_and_a_missing_file_elsewhere(
    serving: Any, good: Any, corpus_at: Any, root: Path, archives: dict[str, bytes]
) -> None:
    def busy_at_first(handler: Any, n: int) -> None:
        if n < 3:
            handler.reply(503)
        else:
            good(handler, n)

    with serving(lambda handler, _: handler.reply(404)) as lost, serving(busy_at_first) as server:
        archive = Archive(
            file="dev.tar",
            urls=(f"{lost.url}/old/dev.tar", f"{server.url}/new/dev.tar"),
            about_bytes=len(archives["dev.tar"]),
        )
        (fetched,) = download_corpus(corpus_at(server.url, archives=(archive,)), root)
        assert fetched.source == f"{server.url}/new/dev.tar"
        assert len(lost.asked) == 1
        assert len(server.asked) == 3


def test_a_file_in_archives_with_another_checksum_is_fetched_again(
    serving: Any, good: Any, corpus_at: Any, root: Path
) -> None:
    (root / "archives").mkdir(parents=True)
    (root / "archives" / "train.zip").write_bytes(b"half")
    with serving(good) as server:
        download_corpus(corpus_at(server.url), root)
    assert len(audio_of(root)) == 6


def test_what_was_deleted_after_unpacking_is_fetched_again(
    serving: Any, good: Any, corpus_at: Any, root: Path
) -> None:
    with serving(good) as server:
        download_corpus(corpus_at(server.url), root)
        (root / "LA/ASVspoof2019_LA_dev/flac/LA_1_1.flac").unlink()
        download_corpus(corpus_at(server.url), root)
        assert [path for path, _ in server.asked][3:] == ["/dev.tar"]
    assert len(audio_of(root)) == 6


def test_an_interrupted_unpacking_asks_the_server_nothing_more(
    serving: Any, good: Any, corpus_at: Any, root: Path
) -> None:
    def interrupt(_file: str, stage: str, *_: object) -> None:
        if stage == "unpacking":
            raise KeyboardInterrupt

    with serving(good) as server:
        corpus = corpus_at(server.url)
        with pytest.raises(KeyboardInterrupt):
            download_corpus(corpus, root, splits=["train"], on_progress=interrupt)
        assert audio_of(root / "LA") == set()
        download_corpus(corpus, root, splits=["train"])
        assert server.asked == [("/train.zip", None)]
    assert len(audio_of(root / "LA")) == 2


def test_too_little_space_is_told_before_anything_is_fetched(
    serving: Any, good: Any, corpus_at: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(n_bytes: int) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**12, 0, n_bytes))

    with serving(good) as server:
        corpus = corpus_at(server.url)
        sizes = [archive.about_bytes for archive in corpus.archives]
        needed = 1.1 * sum(sizes) + max(sizes)
        free(int(needed) - 1_000)
        with pytest.raises(OutputError, match=r"tiny needs about 0\.\d GB in .* 0\.\d GB are free"):
            download_corpus(corpus, root)
        assert server.asked == []
        free(int(needed) + 1_000)
        with pytest.raises(OutputError):  # all archives at once are more
            download_corpus(corpus, root, keep_archives=True)
        download_corpus(corpus, root)
        free(0)
        download_corpus(corpus, root)  # nothing more is needed


def test_a_full_disk_while_fetching_keeps_what_was_fetched(
    serving: Any, good: Any, corpus_at: Any, root: Path
) -> None:
    (root / "archives").mkdir(parents=True)
    (root / "archives" / "train.zip.part").symlink_to("/dev/full")
    with serving(good) as server, pytest.raises(OutputError, match="No space left"):
        download_corpus(corpus_at(server.url), root)


def test_downloads_at_the_same_time_fetch_once(
    serving: Any, archives: dict[str, bytes], corpus_at: Any, root: Path
) -> None:
    def slow(handler: Any, _: int) -> None:
        threading.Event().wait(0.1)
        handler.reply(200, archives[handler.path[1:]])

    with serving(slow) as server:
        corpus = corpus_at(server.url)

        def get(_: int) -> tuple[Fetched, ...]:
            return download_corpus(corpus, root)

        with ThreadPoolExecutor(3) as pool:
            results = list(pool.map(get, range(3)))
        assert len(server.asked) == 3
    assert {tuple(one.sha256 for one in result) for result in results} == {
        tuple(hashlib.sha256(content).hexdigest() for content in archives.values())
    }
    assert len(audio_of(root)) == 6
