"""Fetching a file from the server, and what lies beside its target meanwhile."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from aasist_deploy import download

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.download.server import Server

CONTENT = bytes(range(256)) * 1_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


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
