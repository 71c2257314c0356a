"""Files of which neither size nor sha256 is known."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from aasist_deploy.errors import DownloadError
from tests.unit.download.fetching import CONTENT, begin_part, fetch_unknown, nothing_left
from tests.unit.download.server import Handler, serving

if TYPE_CHECKING:
    from pathlib import Path


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
