"""Small text files in and out: gzip and BOM on the way in, all or nothing on the way out."""

from __future__ import annotations

import gzip
import os
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import AasistDeployError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_GZIP_MAGIC: Final = b"\x1f\x8b"


def read_text(path: Path, error: type[AasistDeployError]) -> str:
    """Read a UTF-8 file whole, unpacking gzip (told by its first bytes) and dropping a BOM.

    Args:
        path: The file.
        error: What to raise when the file cannot be read.

    Raises:
        error: The file is missing, not readable, damaged gzip, or not UTF-8 text.
    """
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as cause:
        raise error(
            f"{path} is damaged: gzip says {cause}.", fix="Fetch or write the file again."
        ) from cause
    except OSError as cause:
        raise error(f"{path} cannot be read: {cause.strerror or cause}.") from cause
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = data.count(b"\n", 0, cause.start) + 1
        raise error(
            f"{path}:{line} is not UTF-8 text: byte 0x{data[cause.start]:02x}.",
            fix="Give a text file, plain or gzip-compressed, in UTF-8.",
        ) from cause


def numbered_fields(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, fields between blanks) of each line that is not empty."""
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split()
        if fields:
            yield number, fields


def excerpt(text: str, limit: int = 80) -> str:
    """Return `text` quoted for a message, cut to `limit` characters."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def write_text_atomically(path: Path, lines: Iterable[str]) -> None:
    """Write lines so that the place holds either the old file or the whole new one.

    Raises:
        OutputError: The place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as cause:
        raise OutputError(
            f"{path} cannot be written: {cause.strerror or cause}.",
            fix="Name a place in an existing folder that you may write to.",
        ) from cause
