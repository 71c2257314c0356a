"""Servers that are busy, or cut again and again."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from aasist_deploy import download
from aasist_deploy.errors import DownloadError
from tests.unit.download.fetching import CONTENT, fetch, part_of
from tests.unit.download.server import Handler, serving

if TYPE_CHECKING:
    from pathlib import Path


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
