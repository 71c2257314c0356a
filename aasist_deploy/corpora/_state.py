"""What has been fetched and unpacked below a folder: one small JSON file for each archive."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import OutputError
from aasist_deploy.textfile import write_text_atomically

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = ".aasist-deploy"  # below the root of a corpus
_VERSION: Final = 1
_TYPES: Final = {"str": str, "int": int, "bool": bool}  # of a stamp's fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One archive that was fetched, and perhaps unpacked.

    Attributes:
        file: Name of the archive.
        n_bytes: Its size.
        sha256: Of the archive as it was fetched the first time.
        md5: Of the same.
        source: Where it came from.
        unpacked: Whether all its members were put in place.
        n_files: How many those are; 0 before.
        first: The first of them, below the root.
        last: The last of them.
    """

    file: str
    n_bytes: int
    sha256: str
    md5: str
    source: str
    unpacked: bool = False
    n_files: int = 0
    first: str = ""
    last: str = ""

    def is_in_place(self, root: Path) -> bool:
        """Whether the archive was unpacked, and its first and last file are still there."""
        return self.unpacked and all((root / name).is_file() for name in (self.first, self.last))


def stamp_path(root: Path, file: str) -> Path:
    """Where the stamp of an archive lies."""
    return root / FOLDER / f"{file}.json"


def read_stamp(root: Path, file: str) -> Stamp | None:
    """The stamp of an archive; None where there is none, or it is not one of ours."""
    try:
        held = json.loads(stamp_path(root, file).read_text(encoding="utf-8"))
        if held.pop("version") != _VERSION:
            return None
        stamp = Stamp(**held)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    typed = all(isinstance(getattr(stamp, f.name), _TYPES[str(f.type)]) for f in fields(stamp))
    return stamp if typed and stamp.file == file else None


def write_stamp(root: Path, stamp: Stamp) -> None:
    """Write a stamp, all or nothing.

    Raises:
        OutputError: The place cannot be written.
    """
    path = stamp_path(root, stamp.file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be made ({error.strerror or error}).") from error
    text = json.dumps({"version": _VERSION, **asdict(stamp)}, indent=2)
    write_text_atomically(path, [text, "\n"])
