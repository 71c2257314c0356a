"""Make a CUDA library smaller for one GPU: `slim_fatbins.py FILE... --sm 90`, in place.

A library carries each kernel for every GPU it supports, in fat binaries of entries with a header
(kind, architecture, size) and a payload. The driver reads the headers, and the payload of the one
entry that it loads. Payloads for other architectures become zeros here, which cost nothing when
the library is compressed; headers and places stay. PTX goes where the fat binary has machine code
for the GPU.

Source of the layout: read from the files themselves: magic 0xBA55ED50, version 1, header of 16
bytes with the size of what follows; entries with kind (1 PTX, 2 machine code), header size, payload
size at byte 8 and architecture at byte 28.
"""

from __future__ import annotations

import argparse
import mmap
import struct
from pathlib import Path
from typing import Final, NamedTuple

MAGIC: Final = b"\x50\xed\x55\xba"
HEADER: Final = 16
PTX, MACHINE_CODE = 1, 2


class Entry(NamedTuple):
    """One entry of a fat binary."""

    kind: int
    sm: int
    start: int
    size: int


def entries(content: mmap.mmap, start: int, end: int) -> list[Entry]:
    """What a fat binary between two places holds."""
    found = []
    while start < end:
        kind, _, header = struct.unpack_from("<HHI", content, start)
        (size,) = struct.unpack_from("<Q", content, start + 8)
        (sm,) = struct.unpack_from("<I", content, start + 28)
        if kind not in (PTX, MACHINE_CODE) or header < 32 or start + header + size > end:
            raise ValueError(f"not an entry of a fat binary, at byte {start}")
        found.append(Entry(kind, sm, start + header, size))
        start += header + size
    return found


def slim(path: Path, sm: int) -> tuple[int, int]:
    """Zero what a GPU of this architecture does not load; bytes zeroed and kept."""
    zeroed = kept = at = 0
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        while (at := content.find(MAGIC, at)) != -1:
            version, header, size = struct.unpack_from("<HHQ", content, at + 4)
            if (version, header) != (1, HEADER):
                at += len(MAGIC)
                continue
            held = entries(content, at + HEADER, at + HEADER + size)
            native = any(entry.kind == MACHINE_CODE and entry.sm == sm for entry in held)
            for entry in held:
                wanted = entry.sm == sm and (entry.kind == MACHINE_CODE or not native)
                if wanted:
                    kept += entry.size
                else:
                    content[entry.start : entry.start + entry.size] = bytes(entry.size)
                    zeroed += entry.size
            at += HEADER + size
    return zeroed, kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--sm", type=int, default=90)
    given = parser.parse_args()
    for one in given.files:
        gone, left = slim(one, given.sm)
        print(f"{one}: {gone / 2**20:.0f} MiB zeroed, {left / 2**20:.0f} MiB of sm_{given.sm} kept")
