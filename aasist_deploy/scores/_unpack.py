"""Score files as text: plain, gzip or a zip with one member, with a bound on what is unpacked."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Final, Protocol

from aasist_deploy.errors import ScoresError

if TYPE_CHECKING:
    from pathlib import Path

# Five times the largest official file (ASV scores of ASVspoof 2021 PA, 108 MB of metadata).
MAX_UNPACKED_BYTES: Final = 512 * 1024**2
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZIP_MAGIC: Final = b"PK\x03\x04"
_EMPTY_ZIP_MAGIC: Final = b"PK\x05\x06"

# On altered archives zipfile lets errors of its parts through (found by fuzzing).
_DAMAGED: Final = (
    EOFError,
    IndexError,
    OverflowError,
    ValueError,
    gzip.BadGzipFile,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_score_text(path: Path, *, max_bytes: int = MAX_UNPACKED_BYTES) -> str:
    """Read a UTF-8 file whole, unpacking gzip or zip (told by its first bytes), dropping a BOM.

    Args:
        path: The file; a zip holds one member, as submissions to the challenges do.
        max_bytes: What a packed file may become.

    Raises:
        ScoresError: The file is missing, damaged, not UTF-8 text, a zip of several members or
            with a password, or becomes too large.
    """
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as unpacked:
                data = _bounded(unpacked, path, max_bytes)
        elif data.startswith((_ZIP_MAGIC, _EMPTY_ZIP_MAGIC)):
            data = _member(data, path, max_bytes)
    except _DAMAGED as cause:
        raise ScoresError(
            f"{path} is damaged: {cause}.", fix="Fetch or write the file again."
        ) from cause
    except (NotImplementedError, RuntimeError) as cause:
        raise ScoresError(
            f"{path} cannot be unpacked: {cause}.", fix="Unpack it, and give the file inside."
        ) from cause
    except OSError as cause:
        raise ScoresError(f"{path} cannot be read: {cause.strerror or cause}.") from cause
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = data.count(b"\n", 0, cause.start) + 1
        raise ScoresError(
            f"{path}:{line} is not UTF-8 text: byte 0x{data[cause.start]:02x}.",
            fix="Give a text file in UTF-8, plain, gzip-compressed or alone in a zip.",
        ) from cause


def _member(data: bytes, path: Path, max_bytes: int) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # A Mac adds a folder of its own metadata to what it packs.
        members = [
            info
            for info in archive.infolist()
            if not info.is_dir() and not info.filename.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            held = ", ".join(info.filename for info in members[:3]) or "nothing"
            raise ScoresError(
                f"{path} holds {len(members)} files ({held}); expected one.",
                fix="Unpack it, and give the score file.",
            )
        with archive.open(members[0]) as unpacked:
            return _bounded(unpacked, path, max_bytes)


def _bounded(stream: _Readable, path: Path, limit: int) -> bytes:
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise ScoresError(
            f"{path} becomes more than {limit} bytes when unpacked; no score file is so large.",
            fix="Check where the file comes from; unpack it yourself if it is right.",
        )
    return data
