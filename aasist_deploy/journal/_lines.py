"""The lines that every journal is made of: a checksum and JSON, appended and never changed."""

from __future__ import annotations

import json
import os
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


def journal_of(output: Path) -> Path:
    """Where the journal of an output lies."""
    return output.with_name(f"{output.name}.journal")


def line_of(entry: Mapping[str, Any]) -> bytes:
    """A line of a journal: a checksum and JSON."""
    text = json.dumps(entry, sort_keys=True).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def entry_of(line: bytes) -> dict[str, Any] | None:
    """What `line_of` made a line of; None where it is not whole."""
    check, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(text):
        return None
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def whole_entries(lines: Iterable[bytes]) -> Iterator[tuple[dict[str, Any], int]]:
    """Entries, and the bytes up to the end of each; a line that was cut off ends them.

    It was cut off while it was written, so that nothing comes behind it.
    """
    end = 0
    for line in lines:
        entry = entry_of(line)
        if entry is None:
            return
        end += len(line)
        yield entry, end


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the bytes; the system may take them in parts."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
