"""From what a user types (files, folders, patterns, lists) to the paths of audio files."""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# fmt: off
AUDIO_SUFFIXES: Final = frozenset({
    ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac",
    ".m4a", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".oga", ".ogg", ".opus",
    ".rf64", ".snd", ".sph", ".tta", ".w64", ".wav", ".wave", ".webm", ".wma", ".wv",
})
# fmt: on
_MAX_LINE_BYTES: Final = 65_536  # of a list; Linux has paths of 4,096
LIST_SUFFIXES: Final = frozenset({".txt", ".lst"})


def find_audio(
    inputs: Iterable[str | os.PathLike[str]], *, is_new: Callable[[str], bool] | None = None
) -> Iterator[Path]:
    """Yield the files that the inputs stand for, in the order of the inputs.

    - A file is yielded whatever its suffix.
    - A folder gives the files below it that have one of `AUDIO_SUFFIXES` (in any case), sorted by
      name, links followed, each real folder once, names that begin with a dot left out. One that
      cannot be read is yielded itself, so that it becomes a row with its error.
    - A pattern with `*`, `?` or `[` that is no existing path is expanded as a shell would, sorted,
      `**` for any depth; what it matches is treated as if it had been typed.
    - A list (`@FILE`, or a file named `*.txt` or `*.lst`) holds one path per line; empty lines and
      lines beginning with `#` are skipped. A relative path starts at the current directory or, if
      nothing is there, at the folder of the list. Listed files need not exist: each is yielded, so
      that it becomes a row with its error.
    - `-` is a list on standard input.

    A path that comes up twice is yielded once, at its first place; links with other names count as
    other paths.

    Args:
        inputs: What the user typed.
        is_new: Takes each absolute path and says whether it comes for the first time. Remembers
            them all in memory unless given.

    Returns:
        A lazy iterator. Inputs that name nothing are reported at once, before it yields.

    Raises:
        UsageError: An input matches nothing or there is none; or, while iterating, a folder or
            list turns out to hold no audio, or a list is no text.
    """
    found = find_named(inputs, is_new=is_new, is_address=lambda _: False)
    return (Path(one) for one in found)


def find_named(
    inputs: Iterable[str | os.PathLike[str]],
    *,
    is_new: Callable[[str], bool] | None = None,
    is_address: Callable[[str], bool],
) -> Iterator[Path | str]:
    """As `find_audio`, and addresses such as `s3://bucket/a.flac` among the inputs and in lists.

    Args:
        inputs: What the user typed.
        is_new: As for `find_audio`; an address is given to it as it is.
        is_address: Whether a text is one. Nothing is looked for there.

    Returns:
        A lazy iterator over paths, and addresses as they were written.

    Raises:
        UsageError: as `find_audio` raises it.
    """
    typed = [os.fspath(one) for one in inputs]
    if not typed:
        raise UsageError("No audio files were given.", fix="name files, folders, or - for a list")
    expanded = [path for one in typed for path in _expand(one, is_address)]
    return _without_repeats(expanded, is_new or _FirstTime(), is_address)


def _expand(one: str, is_address: Callable[[str], bool]) -> list[str]:
    if one == "-" or is_address(one) or (one and _exists(one)):
        return [one]
    if one.startswith("@"):
        if os.path.isfile(one[1:]):  # noqa: PTH113
            return [one]
        raise UsageError(f"There is no list file {one[1:]!r}.")
    if glob.has_magic(one):
        matches = sorted(glob.glob(one, recursive=True))  # noqa: PTH207  # Path.glob refuses absolute ones
        if matches:
            return matches
        raise UsageError(f"The pattern {one!r} matches nothing.")
    raise UsageError(f"There is no file or folder {one!r}.")


class _FirstTime:
    """Whether a name comes for the first time."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, name: str) -> bool:
        n_seen = len(self._seen)
        self._seen.add(name)
        return len(self._seen) > n_seen


def _without_repeats(
    inputs: list[str], is_new: Callable[[str], bool], is_address: Callable[[str], bool]
) -> Iterator[Path | str]:
    for one in inputs:
        for path in _paths_of(one, is_address):
            # No Path object for each of 600,000 files.
            if is_new(path if isinstance(path, str) else os.path.abspath(path)):  # noqa: PTH100
                yield path


def _paths_of(one: str, is_address: Callable[[str], bool]) -> Iterator[Path | str]:
    path = Path(one)
    if is_address(one):
        yield one
    elif one == "-":
        yield from _listed("standard input", sys.stdin.buffer, Path(), is_address)
    elif os.path.isdir(one):  # noqa: PTH112  # pathlib raises on names that are too long
        yield from _below(path)
    elif one.startswith("@") and not _exists(one):
        yield from _from_list(Path(one[1:]), is_address)
    elif path.suffix.lower() in LIST_SUFFIXES:
        yield from _from_list(path, is_address)
    else:
        yield path


def _below(folder: Path) -> Iterator[Path]:
    """Files by suffix, depth first, sorted; a folder reached twice through links is read once."""
    visited: set[tuple[int, int]] = set()
    unread: list[Path] = []  # folders in the place of the files that nobody can name
    found = False
    for root, folders, files in os.walk(
        folder, followlinks=True, onerror=lambda error: unread.append(Path(error.filename))
    ):
        try:
            status = Path(root).stat()
        except OSError:  # it has just gone
            unread.append(Path(root))
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        found = found or bool(unread)
        yield from unread
        unread.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                found = True
                yield Path(root, name)
    yield from unread
    if not found and not unread:
        raise UsageError(
            f"The folder {str(folder)!r} holds no audio file.",
            fix="files with other suffixes can be given by a pattern, e.g. 'folder/*.dat'",
        )


def _exists(path: str | Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  # Path.exists raises on names that are too long


def _from_list(path: Path, is_address: Callable[[str], bool]) -> Iterator[Path | str]:
    try:
        with path.open("rb") as lines:
            yield from _listed(str(path), lines, path.parent, is_address)
    except OSError as error:
        raise UsageError(f"The list {str(path)!r} cannot be read ({error.strerror}).") from error


def _listed(
    name: str, lines: IO[bytes], folder: Path, is_address: Callable[[str], bool]
) -> Iterator[Path | str]:
    found = False
    # Not `for raw in lines`, which would read a device or a file without line ends into memory.
    whole_lines = iter(lambda: lines.readline(_MAX_LINE_BYTES + 1), b"")
    for number, raw in enumerate(whole_lines, start=1):
        if b"\0" in raw or len(raw) > _MAX_LINE_BYTES:
            raise UsageError(f"The list {name!r} is no text file (line {number}).")
        line = os.fsdecode(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).rstrip("\r\n")
        if not line.strip() or line.startswith("#"):
            continue
        found = True
        if is_address(line):
            yield line
            continue
        path = Path(line)
        beside = folder / path
        yield beside if not _exists(path) and _exists(beside) else path
    if not found:
        raise UsageError(f"The list {name!r} names no file.")
