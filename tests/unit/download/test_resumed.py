"""Transfers that are cut and parts of earlier ones: the target is right, absent or as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.download.fetching import CONTENT, begin_part, fetch, part_of
from tests.unit.download.server import Handler, serving

if TYPE_CHECKING:
    from pathlib import Path


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
