"""Headers of tar archives that strangers made, held in little memory.

Between the members of a tar archive lie headers of variable length, such as long names, and
tarfile reads each of them into memory whole, whatever length it declares: a few megabytes of gzip
can stand for gigabytes of one name.
"""

from __future__ import annotations

import tarfile
from typing import Final

MAX_HEADER_BYTES: Final = 1 << 20  # Linux has names of 4,096 bytes


class SmallHeaders(tarfile.TarInfo):
    """A header that claims no more memory than a name needs; for `tarfile.open(tarinfo=...)`."""

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
