"""Answers, contents and places that end a download, and what its messages say."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest

from aasist_deploy import download
from aasist_deploy.errors import DownloadError, OutputError
from aasist_deploy.network_errors import reason_of
from tests.unit.download.fetching import CONTENT, SHA256, fetch, nothing_left, part_of
from tests.unit.download.server import Handler, serving

if TYPE_CHECKING:
    from pathlib import Path


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
