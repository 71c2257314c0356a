"""Downloads against a real server that misbehaves: the target is right, absent or as it was."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, TypeAlias

import pytest

from aasist_deploy import download, published
from aasist_deploy.errors import DownloadError, OutputError
from aasist_deploy.network_errors import reason_of
from aasist_deploy.published import PublishedModel, pull, pull_from

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 1_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Hands each GET to the server's `respond`, and keeps what was asked."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.server.respond(self, len(self.server.asked))

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; `Content_Length="..."` overrides the true length."""
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reply_with_ranges(self, content: bytes, **headers: str) -> None:
        """What a good server does."""
        wanted = self.headers.get("Range")
        if wanted is None:
            self.reply(200, content, **headers)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            self.reply(416, Content_Range=f"bytes */{len(content)}")
            return
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.reply(206, content[start:], Content_Range=place, **headers)

    def cut(self, sent: bytes, declared: int) -> None:
        """Declare a length and close the connection before it is reached."""
        self.reply(200, sent, Content_Length=str(declared))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


Respond: TypeAlias = Callable[[Handler, int], None]


class Server(ThreadingHTTPServer):
    """`respond(handler, n)` answers the n-th request, counted from 1."""

    def __init__(self, respond: Respond) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.respond = respond
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(respond: Respond) -> Iterator[Server]:
    with Server(respond) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def closed_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a download would have waited; nobody waits in a test."""
    waited: list[float] = []
    monkeypatch.setattr("aasist_deploy.download.time.sleep", waited.append)
    return waited


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "tiny.pth"


def part_of(target: Path) -> Path:
    return target.with_name("tiny.pth.part")


def fetch(
    server: Server, target: Path, *, on_progress: Callable[[int, int | None], None] | None = None
) -> None:
    with download.locked(target) as part:
        download.fetch(
            f"{server.url}/tiny.pth",
            target,
            part,
            sha256=SHA256,
            n_bytes=len(CONTENT),
            on_progress=on_progress,
        )


def begin_part(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(content)


def nothing_left(target: Path) -> bool:
    return not target.exists() and not part_of(target).exists()


def test_a_good_server_is_asked_once(target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with serving(lambda handler, _: handler.reply_with_ranges(CONTENT)) as server:
        fetch(server, target, on_progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert not part_of(target).exists()
    assert server.asked == [("/tiny.pth", None)]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_a_cut_transfer_goes_on_where_it_stopped(target: Path) -> None:
    def respond(handler: Handler, n: int) -> None:
        if n == 1:
            handler.cut(CONTENT[:100_000], len(CONTENT))
        else:
            handler.reply_with_ranges(CONTENT)

    with serving(respond) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT
    (_, first), (_, second) = server.asked
    assert first is None
    assert second is not None
    assert 90_000 < int(second.removeprefix("bytes=").removesuffix("-")) <= 100_000


def test_a_body_that_ends_early_without_a_length_is_resumed(target: Path) -> None:
    def respond(handler: Handler, n: int) -> None:
        if n == 1:
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(CONTENT[:5_000])
        else:
            handler.reply_with_ranges(CONTENT)

    with serving(respond) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked[1] == ("/tiny.pth", "bytes=5000-")


def test_a_part_of_an_earlier_run_is_resumed(target: Path) -> None:
    begin_part(target, CONTENT[:200_000])
    with serving(lambda handler, _: handler.reply_with_ranges(CONTENT)) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [("/tiny.pth", "bytes=200000-")]


def test_a_whole_part_of_an_earlier_run_needs_no_server(target: Path) -> None:
    begin_part(target, CONTENT)
    with serving(lambda handler, _: handler.reply(500)) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == []


@pytest.mark.parametrize("part", [b"x" * 1_000, b"x" * len(CONTENT), CONTENT + b"x"])
def test_a_part_with_other_bytes_starts_again_once(target: Path, part: bytes) -> None:
    begin_part(target, part)
    with serving(lambda handler, _: handler.reply_with_ranges(CONTENT)) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == ("/tiny.pth", None)


def test_a_server_that_ignores_range_starts_again_cleanly(target: Path) -> None:
    begin_part(target, CONTENT[:200_000])
    with serving(lambda handler, _: handler.reply(200, CONTENT)) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_range_from_another_byte_is_not_appended(target: Path) -> None:
    def respond(handler: Handler, n: int) -> None:
        if n == 1:
            handler.reply(206, CONTENT[7:], Content_Range=f"bytes 7-9/{len(CONTENT)}")
        else:
            handler.reply_with_ranges(CONTENT)

    begin_part(target, CONTENT[:200_000])
    with serving(respond) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_416_discards_the_part(target: Path, waits: list[float]) -> None:
    def respond(handler: Handler, n: int) -> None:
        if n == 1:
            handler.reply(416)
        else:
            handler.reply_with_ranges(CONTENT)

    begin_part(target, CONTENT[:200_000])
    with serving(respond) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked[1] == ("/tiny.pth", None)
    assert waits == [0]


def test_a_resume_names_the_version_that_it_began_with(target: Path) -> None:
    asked_for: list[str | None] = []

    def respond(handler: Handler, n: int) -> None:
        asked_for.append(handler.headers.get("If-Range"))
        if n == 1:
            handler.reply(200, CONTENT[:99_999], Content_Length=str(len(CONTENT)), ETag='"v1"')
            handler.close_connection = True
        else:
            handler.reply(200, CONTENT, ETag='"v2"')

    with serving(respond) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert asked_for == [None, '"v1"']


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again(target: Path, waits: list[float], status: int) -> None:
    def respond(handler: Handler, n: int) -> None:
        if n < 3:
            handler.reply(status)
        else:
            handler.reply(200, CONTENT)

    with serving(respond) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize(
    ("header", "least_s", "most_s"),
    [
        ("3", 3, 3),
        ("86400", 10, 10),
        (formatdate(time.time() + 86_400, usegmt=True), 10, 10),
        (formatdate(0, usegmt=True), 0, 0),
        ("soon", 0.5, 0.5),
    ],
    ids=["three", "a-day", "tomorrow", "1970", "no-number"],  # the same in every process
)
def test_retry_after_is_honoured_up_to_ten_seconds(
    target: Path, waits: list[float], header: str, least_s: float, most_s: float
) -> None:
    def respond(handler: Handler, n: int) -> None:
        if n == 1:
            handler.reply(503, Retry_After=header)
        else:
            handler.reply(200, CONTENT)

    with serving(respond) as server:
        fetch(server, target)
    (waited,) = waits
    assert least_s <= waited <= most_s


def test_a_server_that_stays_busy_is_given_up_and_its_part_kept(target: Path) -> None:
    def respond(handler: Handler, n: int) -> None:
        if n == 1:
            handler.cut(CONTENT[:100_000], len(CONTENT))
        else:
            handler.reply(503)

    with (
        serving(respond) as server,
        pytest.raises(DownloadError, match=r"could not be fetched \(HTTP 503; 4 attempts\)"),
    ):
        fetch(server, target)
    assert len(server.asked) == 4
    assert not target.exists()
    kept = part_of(target).read_bytes()
    assert len(kept) > 90_000
    assert CONTENT.startswith(kept)


def test_cuts_that_bring_much_are_no_failed_attempts(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "GAIN_BYTES", 20_000)

    def respond(handler: Handler, _: int) -> None:
        n_have = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        handler.send_response(206 if n_have else 200)
        handler.send_header("Content-Range", f"bytes {n_have}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.send_header("Content-Length", str(len(CONTENT) - n_have))
        handler.end_headers()
        handler.wfile.write(CONTENT[n_have : n_have + 30_000])
        handler.close_connection = True

    with serving(respond) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert len(server.asked) > download.ATTEMPTS


def test_a_server_that_starts_over_and_cuts_is_given_up(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "GAIN_BYTES", 20_000)
    with (
        serving(lambda handler, _: handler.cut(CONTENT[:100_000], len(CONTENT))) as server,
        pytest.raises(DownloadError, match="4 attempts"),
    ):
        fetch(server, target)
    assert len(server.asked) == 4


def fetch_unknown(server: Server, target: Path, *, md5: tuple[str, ...] = ()) -> None:
    """Fetch a file of which neither size nor sha256 is known."""
    with download.locked(target) as part:
        download.fetch(
            f"{server.url}/tiny.pth",
            target,
            part,
            sha256=None,
            n_bytes=None,
            on_progress=None,
            md5=md5,
        )


def test_a_file_of_unknown_size_is_whole_when_the_server_says_so(target: Path) -> None:
    def respond(handler: Handler, n: int) -> None:
        if n == 1:
            handler.cut(CONTENT[:100_000], len(CONTENT))
        else:
            handler.reply_with_ranges(CONTENT)

    with serving(respond) as server:
        fetch_unknown(server, target)
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_whole_part_of_unknown_size_is_not_fetched_again(target: Path) -> None:
    begin_part(target, CONTENT)
    with serving(lambda handler, _: handler.reply_with_ranges(CONTENT)) as server:
        fetch_unknown(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [("/tiny.pth", f"bytes={len(CONTENT)}-")]


def test_a_part_longer_than_a_file_of_unknown_size_starts_again(target: Path) -> None:
    begin_part(target, CONTENT + b"x")
    with serving(lambda handler, _: handler.reply_with_ranges(CONTENT)) as server:
        fetch_unknown(server, target)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == ("/tiny.pth", None)


def test_any_of_several_md5_sums_is_right_and_another_is_not(target: Path) -> None:
    right = hashlib.md5(CONTENT).hexdigest()
    with serving(lambda handler, _: handler.reply(200, CONTENT)) as server:
        with pytest.raises(DownloadError, match=f"md5 {right} where {'0' * 32} is expected"):
            fetch_unknown(server, target, md5=("0" * 32,))
        assert nothing_left(target)
        fetch_unknown(server, target, md5=("0" * 32, right))
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
def test_a_refusal_is_final(target: Path, status: int) -> None:
    with (
        serving(lambda handler, _: handler.reply(status)) as server,
        pytest.raises(DownloadError, match=f"HTTP {status}"),
    ):
        fetch(server, target)
    assert len(server.asked) == 1
    assert nothing_left(target)


@pytest.mark.parametrize("body", [b"<html>log in first</html>", b"x" * len(CONTENT), b""])
def test_other_content_is_removed_and_both_hashes_are_named(target: Path, body: bytes) -> None:
    with (
        serving(lambda handler, _: handler.reply(200, body)) as server,
        pytest.raises(DownloadError) as caught,
    ):
        fetch(server, target)
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(body).hexdigest() in str(caught.value)
    assert len(server.asked) == 1
    assert nothing_left(target)


def test_a_body_without_end_is_cut_off(target: Path) -> None:
    sent = 0

    def respond(handler: Handler, _: int) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        try:
            while sent < 100 * len(CONTENT):
                sent += handler.wfile.write(CONTENT)
        except OSError:
            handler.close_connection = True

    with (
        serving(respond) as server,
        pytest.raises(DownloadError, match="sends more than 256000 bytes"),
    ):
        fetch(server, target)
    assert sent < 100 * len(CONTENT)
    assert nothing_left(target)


def test_a_wrong_download_leaves_the_old_target(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    with (
        serving(lambda handler, _: handler.reply(200, b"new")) as server,
        pytest.raises(DownloadError),
    ):
        fetch(server, target)
    assert target.read_bytes() == b"old"


def test_a_redirect_is_followed_and_a_loop_of_them_is_not(target: Path) -> None:
    with (
        serving(lambda handler, _: handler.reply(302, Location="/again")) as server,
        pytest.raises(DownloadError, match="cannot be fetched"),
    ):
        fetch(server, target)

    def respond(handler: Handler, n: int) -> None:
        if n == 1:
            handler.reply(302, Location="/there")
        else:
            handler.reply(200, CONTENT)

    with serving(respond) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_no_body_is_asked_to_be_compressed(target: Path) -> None:
    asked: list[str | None] = []

    def respond(handler: Handler, _: int) -> None:
        asked.append(handler.headers.get("Accept-Encoding"))
        handler.reply(200, CONTENT)

    with serving(respond) as server:
        fetch(server, target)
    assert asked == ["identity"]


def test_a_silent_server_times_out(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", (1.0, 0.1))
    release = threading.Event()

    def respond(handler: Handler, _: int) -> None:
        release.wait(10)
        handler.close_connection = True

    with serving(respond) as server:
        with pytest.raises(DownloadError, match=r"timed out; 4 attempts"):
            fetch(server, target)
        release.set()


def test_an_unwritable_place_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        download.locked(tmp_path / "file" / "tiny.pth"),
    ):
        pytest.fail("locked an impossible place")


def test_a_full_disk_is_an_output_error(target: Path) -> None:
    target.parent.mkdir()
    part_of(target).symlink_to("/dev/full")
    with (
        serving(lambda handler, _: handler.reply(200, CONTENT)) as server,
        pytest.raises(OutputError, match="No space left"),
    ):
        fetch(server, target)


def test_a_file_system_without_locks_still_downloads(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with serving(lambda handler, _: handler.reply(200, CONTENT)) as server:
        fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_addresses_are_shown_without_secrets() -> None:
    assert (
        download.shown("https://user:secret@host:8/a/b.pth?token=secret#x")
        == "https://host:8/a/b.pth"
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "its name cannot be resolved"),
        (ssl.SSLCertVerificationError("self-signed"), "its certificate is not trusted"),
        (ssl.SSLError("wrong version number"), "TLS failed"),
        (ConnectionResetError(104, "reset"), "connection reset"),
        (RuntimeError("two\nlines"), "two lines"),
    ],
)
def test_reasons_are_a_few_words(error: Exception, words: str) -> None:
    assert reason_of(ConnectionError("wrapped", error)) == words


# From here on: pull, which finds the file of a model through `fetch`.


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PublishedModel:
    """A made-up published model, an empty cache and no mirror."""
    model = PublishedModel(
        name="tiny",
        file="tiny.pth",
        repository="owner/project",
        commit="0" * 40,
        path="models/weights/tiny.pth",
        sha256=SHA256,
        n_bytes=len(CONTENT),
        licence="none",
        model_config={},
    )
    monkeypatch.setitem(published.PUBLISHED, "tiny", model)
    monkeypatch.setenv(published.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(published.MIRROR_VARIABLE, raising=False)
    return model


def test_pull_reads_the_commit_from_the_repository(
    tiny: PublishedModel, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda handler, _: handler.reply(200, CONTENT)) as server:
        monkeypatch.setattr(published, "DOWNLOAD_ROOT", server.url)
        got = pull_from("tiny")
        assert pull("tiny") == got.path == target  # the second time from the cache
    assert server.asked == [(f"/owner/project/{tiny.commit}/models/weights/tiny.pth", None)]
    assert got.source == tiny.url


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("has", ["/m/tiny.pth", "/m/owner/tiny.pth", "/m/models/weights/tiny.pth"])
def test_pull_looks_in_three_places_of_a_mirror(
    has: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(handler: Handler, _: int) -> None:
        if handler.path == f"{has}?key=secret":
            handler.reply(200, CONTENT)
        else:
            handler.reply(404)

    with serving(respond) as server:
        monkeypatch.setenv(published.MIRROR_VARIABLE, f"{server.url}/m/?key=secret")
        assert pull_from("tiny").source == server.url + has
    assert target.read_bytes() == CONTENT


@pytest.mark.usefixtures("tiny")
def test_pull_lists_what_a_mirror_lacks() -> None:
    with (
        serving(lambda handler, _: handler.reply(404)) as server,
        pytest.raises(
            DownloadError,
            match=r"are not in the cache, and the mirror http\S+ has none of "
            r"tiny.pth, owner/tiny.pth, models/weights/tiny.pth\.$",
        ),
    ):
        pull("tiny", mirror=server.url)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("way", ["repository", "mirror"])
def test_no_network_is_one_sentence(
    way: str, target: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    nowhere = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setattr(published, "DOWNLOAD_ROOT", nowhere)
    with pytest.raises(DownloadError) as caught:
        pull("tiny", mirror=nowhere if way == "mirror" else None)
    assert str(caught.value) == (
        "The weights of tiny are not in the cache, and 127.0.0.1 is not reachable from here "
        "(connection refused)."
    )
    assert caught.value.fix is not None
    assert published.MIRROR_VARIABLE in caught.value.fix
    assert str(target) in caught.value.fix
    assert sum(waits) < 5


@pytest.mark.usefixtures("tiny")
def test_pulls_at_the_same_time_download_once(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(handler: Handler, _: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        for start in range(0, len(CONTENT), 64_000):  # slow enough for the others to arrive
            handler.wfile.write(CONTENT[start : start + 64_000])
            threading.Event().wait(0.02)

    with serving(respond) as server:
        monkeypatch.setattr(published, "DOWNLOAD_ROOT", server.url)
        with ThreadPoolExecutor(4) as pool:
            paths = list(pool.map(pull, ["tiny"] * 4))
    assert paths == [target] * 4
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 1
