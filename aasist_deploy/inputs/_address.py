"""Audio in object stores and on web servers, through fsspec: addresses, what may be shown, bytes.

An address may hold secrets: a user and password, or the signature in the query of a signed link.
What is shown of it, in rows, messages and journals, never does.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from functools import lru_cache
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from aasist_deploy.audio import AUDIO_SUFFIXES
from aasist_deploy.errors import AudioError, EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What fsspec calls them, and the package that each needs beside it. Others of its schemes open
# local files in other ways, or run what they are told; a list from elsewhere must not name those.
SCHEMES: Final = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hdfs": "pyarrow",
    "http": "aiohttp",
    "https": "aiohttp",
    "file": "",
    "memory": "",
}
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BLOCK: Final = 1 << 20
_CONNECT_S: Final = 30.0  # a server that says nothing for so long is an error of that file
_WEB: Final = ("http", "https")


def is_address(text: str) -> bool:
    """Whether a text names something on another machine, by its `scheme://`."""
    return _ADDRESS.match(text) is not None


class Address:
    """Where audio lies on another machine. It takes the place of a path.

    Args:
        url: As the user gave it.

    Attributes:
        url: The same, with the secrets that it may hold.

    Raises:
        UsageError: nothing with this scheme is read.
    """

    __slots__ = ("_shown", "url")

    def __init__(self, url: str) -> None:
        match = _ADDRESS.match(url)
        if match is None or match[1].lower() not in SCHEMES:
            raise UsageError(
                f"{shown_of(url)} is no address that is read; known are "
                f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}."
            )
        self.url, self._shown = url, shown_of(url)

    @property
    def scheme(self) -> str:
        """What comes before `://`."""
        return self.url.partition("://")[0].lower()

    @property
    def name(self) -> str:
        """Its last part, without a query."""
        return PurePosixPath(urlsplit(self.url).path if self.is_web else self.url).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The suffix of the name."""
        return PurePosixPath(self.name).suffix

    @property
    def is_web(self) -> bool:
        """Whether a web server gives it, which has no folders to list."""
        return self.scheme in _WEB

    def __truediv__(self, name: str) -> Member:
        return Member(self, name)

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"Address({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)


class Member(Address):
    """Audio inside an archive at an address; only ever shown."""

    __slots__ = ("_member",)

    def __init__(self, archive: Address, name: str) -> None:
        super().__init__(archive.url)
        self._member = name
        self._shown = f"{archive}/{name}"

    @property
    def name(self) -> str:
        """Its last part."""
        return PurePosixPath(self._member).name


def shown_of(url: str) -> str:
    """An address without its secrets.

    A user and password are left out, and of a query only a hash is kept, so that two files of one
    server do not look the same.
    """
    scheme, _, rest = url.partition("://")
    mark = query = ""
    if scheme.lower() in _WEB:  # elsewhere these marks are letters of a name
        rest, mark, query = rest.partition("#")[0].partition("?")
    host, slash, path = rest.partition("/")
    shown = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    if not mark:
        return shown
    digest = hashlib.blake2b(query.encode(errors="surrogateescape"), digest_size=4).hexdigest()
    return f"{shown}?query-{digest}"


def addresses_of(url: str) -> Iterator[Address]:
    """What an address stands for: itself, or the audio below a folder (`.../`) or of a pattern.

    Raises:
        UsageError: nothing is there.
        EnvironmentLacks: fsspec, or its package for this store, is not installed.
    """
    address = Address(url)
    _file_system(address.scheme)
    is_pattern = any(mark in url for mark in "*?[")
    if address.is_web or not (is_pattern or url.endswith("/")):
        yield address
        return
    files = _file_system(address.scheme)
    try:
        found = sorted(files.glob(url) if is_pattern else files.find(url))
    except Exception as error:  # fsspec's stores raise what they like
        raise UsageError(f"{address} cannot be listed ({_reason(error)}).") from error
    wanted = [
        one
        for one in map(str, found)
        if is_pattern or PurePosixPath(one).suffix.lower() in AUDIO_SUFFIXES
    ]
    if not wanted:
        what = "The pattern" if is_pattern else "The folder"
        raise UsageError(f"{what} {address} names no audio file.")
    for one in wanted:
        yield Address(files.unstrip_protocol(one))


@contextmanager
def opened(address: Address, *, seekable: bool) -> Iterator[IO[bytes]]:
    """A stream of the bytes at an address.

    Args:
        address: Where.
        seekable: Whether it must be read in any order, block by block; otherwise one request to a
            web server gives all of it.

    Raises:
        AudioError: it cannot be opened or read; the message holds no secrets.
    """
    try:
        block = _BLOCK if seekable or not address.is_web else 0
        with _file_system(address.scheme).open(address.url, "rb", block_size=block) as stream:
            yield stream
    except (AudioError, EnvironmentLacks):
        raise
    except Exception as error:  # fsspec's stores raise what they like
        raise AudioError(f"{address} cannot be read ({_reason(error)}).") from error


def fetch(address: Address, into: IO[bytes], max_bytes: int) -> None:
    """Copy what lies at an address, of which no more than a block is held at a time.

    Raises:
        AudioError: it cannot be read, or is larger than `max_bytes`.
    """
    n_bytes = 0
    with opened(address, seekable=False) as stream:
        while block := stream.read(_BLOCK):
            n_bytes += len(block)
            if n_bytes > max_bytes:
                raise AudioError(
                    f"{address} has more than the {max_bytes} bytes that are read of one file."
                )
            into.write(block)


@lru_cache(maxsize=32)
def _file_system(scheme: str) -> Any:  # noqa: ANN401
    try:
        import fsspec
    except ImportError as error:
        raise EnvironmentLacks(
            f"Reading {scheme}:// needs the package fsspec, which is not installed.",
            fix="pip install 'aasist-deploy[remote]'",
        ) from error
    options: dict[str, Any] = {"skip_instance_cache": True} if scheme != "memory" else {}
    try:
        if scheme in _WEB:
            import aiohttp

            waits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_CONNECT_S)
            options["client_kwargs"] = {"timeout": waits, "trust_env": True}
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        package = SCHEMES[scheme]
        extra = "'aasist-deploy[remote]'" if package == "aiohttp" else package
        raise EnvironmentLacks(
            f"Reading {scheme}:// needs the package {package}, which is not installed.",
            fix=f"pip install {extra}",
        ) from error


def _reason(error: Exception) -> str:
    """Why, in words that cannot hold an address or what it was opened with."""
    # fsspec takes every answer but a good one for a file that is not there; its cause knows.
    status = getattr(error, "status", None) or getattr(error.__cause__, "status", None)
    # aiohttp gives what is no HTTP the status 400, and its parser's error as the cause.
    causes = (type(one.__cause__).__module__ for one in (error, error.__cause__) if one is not None)
    if "aiohttp.http_exceptions" in causes:
        return "the server does not speak HTTP"
    if isinstance(status, int) and status != 404:
        return f"the server answers {status}"
    if isinstance(error, FileNotFoundError):
        if error.__cause__ is not None and status is None:
            return type(error.__cause__).__name__
        return "it does not exist"
    if isinstance(error, PermissionError):
        return "access is denied"
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return os.strerror(number)
    return type(error).__name__
