"""Tar archives that strangers made: headers in little memory, and an end that is final.

Between the members of a tar archive lie headers of variable length, such as long names and the
holes of sparse files, and tarfile reads each of them into memory whole, whatever length it
declares: a few megabytes of gzip can stand for gigabytes of one name. And it passes over a member
block by block, as many as its size declares, also where the archive has long ended: a header of 512
bytes can declare what takes years.
"""

from __future__ import annotations

import tarfile
from typing import Any, Final

MAX_HEADER_BYTES: Final = 1 << 20  # Linux has names of 4,096 bytes
_OF_ONE_MEMBER: Final = 2 * MAX_HEADER_BYTES  # all its headers and its map of holes
_AT_ONCE: Final = 1 << 16


class SmallHeaders(tarfile.TarInfo):
    """A header that claims no more memory than a name needs; for `tarfile.open(tarinfo=...)`.

    The archive is read as a stream (mode "r|" or "r|*").
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> SmallHeaders:
        """Read a header.

        Raises:
            tarfile.TarError: what it announces is no file, and too large to be held.
        """
        info = super().frombuf(buf, encoding, errors)
        is_file = info.type in tarfile.REGULAR_TYPES
        if not is_file and info.size > MAX_HEADER_BYTES:
            raise tarfile.TarError(f"a header claims {info.size} bytes")
        return info

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> SmallHeaders:
        """Read all headers of the next member; tarfile calls it, for headers within headers too.

        Raises:
            tarfile.TarError: they are more than are held.
        """
        archive: Any = tarfile
        if not isinstance(archive.fileobj, _Stream):
            archive.fileobj = _Stream(archive.fileobj)
        stream: _Stream = archive.fileobj
        if stream.left is not None:  # of a member whose first header is read further out
            return super().fromtarfile(tarfile)
        stream.left = _OF_ONE_MEMBER
        try:
            return super().fromtarfile(tarfile)
        finally:
            stream.left = None


class _Stream:
    """The stream that tarfile reads an archive from, forward only.

    Attributes:
        left: Bytes that may still be read, or None for any number.
    """

    def __init__(self, stream: Any) -> None:  # noqa: ANN401  # of tarfile, and has no public name
        self._stream = stream
        self.left: int | None = None

    def read(self, size: int) -> bytes:
        if self.left is not None:
            self.left -= size
            if self.left < 0:
                raise tarfile.TarError(f"headers of over {_OF_ONE_MEMBER} bytes")
        data: bytes = self._stream.read(size)
        return data

    def seek(self, position: int) -> int:
        while (distance := position - self.tell()) > 0:
            if not self._stream.read(min(distance, _AT_ONCE)):
                raise tarfile.ReadError("unexpected end of data")
        if distance < 0:
            raise tarfile.StreamError("an archive is read forward only")
        return position

    def tell(self) -> int:
        position: int = self._stream.tell()
        return position

    def close(self) -> None:
        self._stream.close()
