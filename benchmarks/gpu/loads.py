"""Cut archives into loads that fit one transfer: `loads.py OUT NAME=FILE [NAME=FILE | --] ...`.

    python benchmarks/gpu/loads.py .gpu/loads bench=.gpu/bench.tar.xz rtx=.gpu/rtx.tar.xz

Writes OUT/0, OUT/1, ...; a load holds pieces of archives and loads.json, which says how many pieces
and bytes an archive has and its sha256. `--` begins a new load. A folder of parts stands for their
concatenation. `worker.py` puts the archives together again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# One transfer takes 64 MiB with the tracked files of the repository (about 5 MiB) in it.
LOAD_BYTES: Final = 58 * 2**20
CHUNK: Final = 2**20
NEW_LOAD: Final = "--"


def make_loads(out: Path, words: Sequence[str], load_bytes: int = LOAD_BYTES) -> list[Path]:
    """Write the loads; the folders, in the order in which they travel."""
    shutil.rmtree(out, ignore_errors=True)
    loads: list[Path] = []
    room = 0
    facts: dict[str, Any] = {}
    for word in words:
        if word == NEW_LOAD:
            room = 0
            continue
        name, _, source = word.partition("=")
        digest, n_bytes, pieces = hashlib.sha256(), 0, 0
        piece: BinaryIO | None = None
        for chunk in _chunks(Path(source)):
            if room < len(chunk) or piece is None:
                if piece is not None:
                    piece.close()
                if room < len(chunk):
                    loads.append(out / str(len(loads)))
                    loads[-1].mkdir(parents=True)
                    room = load_bytes
                piece = (loads[-1] / f"{name}.{pieces:03d}").open("wb")
                pieces += 1
            piece.write(chunk)
            digest.update(chunk)
            room -= len(chunk)
            n_bytes += len(chunk)
        if piece is None:
            raise SystemExit(f"{source} is empty")
        piece.close()
        facts[name] = {"pieces": pieces, "bytes": n_bytes, "sha256": digest.hexdigest()}
    for load in loads:
        (load / "loads.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return loads


def _chunks(source: Path) -> Iterator[bytes]:
    """The bytes of a file, or of the part.* files below a folder in the order of their names."""
    files = [source]
    if source.is_dir():
        files = sorted(source.rglob("part.*"), key=lambda path: path.name)
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk


if __name__ == "__main__":
    for load in make_loads(Path(sys.argv[1]), sys.argv[2:]):
        held = sorted(f.name for f in load.iterdir() if f.suffix != ".json")
        size = sum(f.stat().st_size for f in load.iterdir())
        print(f"{load}: {size / 2**20:.1f} MiB, {', '.join(held)}")
