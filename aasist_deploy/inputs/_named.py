"""All that a user named, each thing once, in memory that does not grow with their number."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from aasist_deploy.audio import find_named
from aasist_deploy.errors import OutputError, UsageError
from aasist_deploy.inputs._address import Address, addresses_of, is_address
from aasist_deploy.inputs._archives import audio_inside, is_archive
from aasist_deploy.inputs._protocols import protocol_files
from aasist_deploy.inputs._types import AudioInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

_BLOCK: Final = 1 << 16
_CACHE_KIB: Final = 4_096  # of the database of names
_FLUSH_EVERY: Final = 10_000


class _Once:
    """Whether a name comes for the first time; the names are in a temporary file."""

    def __init__(self, path: str) -> None:
        self._names = sqlite3.connect(path, isolation_level=None)
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
            self._names.execute(f"PRAGMA {setting}")
        self._names.execute("CREATE TABLE names (name BLOB PRIMARY KEY) WITHOUT ROWID")
        self._names.execute("BEGIN")
        self._n = 0

    def __call__(self, name: str) -> bool:
        digest = hashlib.blake2b(os.fsencode(name), digest_size=16).digest()
        self._n += 1
        if self._n % _FLUSH_EVERY == 0:
            self._names.execute("COMMIT")
            self._names.execute("BEGIN")
        done = self._names.execute("INSERT OR IGNORE INTO names VALUES (?)", (digest,))
        return done.rowcount == 1

    def close(self) -> None:
        self._names.close()


class NamedInputs:
    """What inputs stand for (`aasist_deploy.audio.find_audio`), found once and kept on disk.

    Files named `*.tar`, `*.tar.gz` and the like, and `*.parquet`, stand for the audio inside them.

    Args:
        typed: What the user typed.
        root: A folder of audio; the inputs are then protocols, whose utterances lie in it.

    Attributes:
        n_files: How many inputs there are; None where only reading the archives would tell.
        digest: Hash of all names in their order, and of the size and time of archives.

    Raises:
        UsageError: an input matches nothing.
        TrialsError: with `root`, an input is no protocol.
        EnvironmentLacks: an address needs a package that is not installed.
        OutputError: the folder of temporary files cannot be written.
    """

    def __init__(
        self, typed: Iterable[str | os.PathLike[str]], *, root: Path | None = None
    ) -> None:
        self._names = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        try:
            n, has_archives, self.digest = self._find(typed, root)
            self._names.flush()
        except BaseException as error:
            with suppress(OSError):  # what could not be written cannot be flushed either
                self._names.close()
            if isinstance(error, OSError | sqlite3.Error):
                reason = getattr(error, "strerror", None) or error
                raise OutputError(
                    f"The names of the inputs cannot be kept in {tempfile.gettempdir()}: {reason}.",
                    fix="make room there, or set TMPDIR to another folder",
                ) from error
            raise
        self.n_files = None if has_archives else n

    def _find(
        self, typed: Iterable[str | os.PathLike[str]], root: Path | None
    ) -> tuple[int, bool, str]:
        """Write all names down; how many, whether archives are among them, and their hash."""
        hashed, n, has_archives = hashlib.blake2b(digest_size=16), 0, False
        with tempfile.TemporaryDirectory(prefix="aasist-deploy-") as folder:
            once = _Once(f"{folder}/names.sqlite")
            try:
                found = _all_named(typed, once) if root is None else _protocols(typed, root, once)
                for path in found:
                    shown = os.fsencode(str(path)) + b"\0"
                    at = path.url if isinstance(path, Address) else str(path)
                    self._names.write(os.fsencode(at) + b"\0")
                    hashed.update(shown)
                    n += 1
                    if is_archive(path):
                        has_archives = True
                        hashed.update(AudioInput(path).stamp().encode(errors="surrogateescape"))
            finally:
                once.close()
        return n, has_archives, hashed.hexdigest()

    def __iter__(self) -> Iterator[AudioInput]:
        """All inputs in their order; audio inside archives with its bytes."""
        for path in self._paths():
            if is_archive(path):
                yield from audio_inside(path)
            else:
                yield AudioInput(path)

    def files(self) -> Iterator[Path | Address]:
        """The files themselves, archives among them."""
        return self._paths()

    def close(self) -> None:
        """Remove what is kept on disk; a second call does nothing."""
        self._names.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _paths(self) -> Iterator[Path | Address]:
        place, held = 0, b""
        while True:
            self._names.seek(place)  # two iterations may be under way
            block = self._names.read(_BLOCK)
            if not block:
                return
            place += len(block)
            *names, held = (held + block).split(b"\0")
            for name in map(os.fsdecode, names):
                yield Address(name) if is_address(name) else Path(name)


def _all_named(
    typed: Iterable[str | os.PathLike[str]], is_new: Callable[[str], bool]
) -> Iterator[Path | Address]:
    for one in find_named(typed, is_new=is_new, is_address=is_address):
        if not isinstance(one, str):
            yield one
            continue
        for address in addresses_of(one):
            if address.url == one or is_new(address.url):
                yield address


def _protocols(
    typed: Iterable[str | os.PathLike[str]], root: Path, is_new: Callable[[str], bool]
) -> Iterator[Path]:
    if not root.is_dir():
        raise UsageError(f"--root {root} is no folder.", fix="name the folder of the audio")
    n = 0
    for one in typed:
        for path in protocol_files(Path(one), root):
            n += 1
            if is_new(str(path)):
                yield path
    if n == 0:
        raise UsageError("No protocol was given.", fix="name a protocol, or leave out --root")
