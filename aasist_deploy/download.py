"""Fetch one file whose size and checksum are known: resumed, checked, and put in place at once.

The bytes go to FILE.part beside the target. Only a FILE.part with the right checksum is renamed to
the target, so the target is at every moment absent, as it was before, or right. A cut transfer goes
on where it stopped, in this run or the next. FILE.lock keeps a second process from writing the
same FILE.part; it waits, and then finds the target in place. Where a publisher states neither size
nor checksum, the server's own Content-Length says when the file is whole.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import urlsplit, urlunsplit

from aasist_deploy.errors import DownloadError, OutputError
from aasist_deploy.network_errors import is_unreachable, reason_of, retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    import requests

    Progress = Callable[[int, int | None], None]

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 4
ATTEMPTS_UNREACHABLE: Final = 2  # an unknown host or a refused connection seldom heals in seconds
SLOW_S: Final = 2.0  # a host that took this long to turn out unreachable is not tried again
BACKOFF_S: Final = 0.5  # doubled for each further attempt
TIMEOUT_S: Final = (3.0, 20.0)  # to connect (to each of a host's addresses), between two reads
GAIN_BYTES: Final = (
    1 << 20
)  # a cut attempt that brought so much more is not held against the server
_CHUNK_BYTES: Final = 1 << 13  # a cut loses what did not fill one


class NotOnServerError(DownloadError):
    """The server is there and says that it has no such file."""


class _TryAgainError(Exception):
    """The attempt failed in a way that another may not."""

    def __init__(self, reason: str, *, wait_s: float | None = None, reached: bool = True) -> None:
        super().__init__(reason)
        self.wait_s = wait_s  # None: the usual backoff
        self.reached = reached  # the host


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; raises OSError where it cannot be read."""
    return digests_of(path, ["sha256"])["sha256"]


def digests_of(
    path: Path, algorithms: Collection[str], on_progress: Progress | None = None
) -> dict[str, str]:
    """Algorithm of hashlib -> digest of a file's bytes in hexadecimal, of one reading.

    Raises:
        OSError: The file cannot be read.
    """
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as raw:
        n_done, n_bytes = 0, path.stat().st_size
        while block := raw.read(1 << 20):
            for digest in digests.values():
                digest.update(block)
            n_done += len(block)
            if on_progress is not None:
                on_progress(n_done, n_bytes)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def shown(url: str) -> str:
    """`url` without user, password, query and fragment, fit for a message."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def locked(target: Path) -> Iterator[Path]:
    """Hold FILE.lock, and yield the FILE.part that only the holder writes.

    Raises:
        OutputError: The folder of `target` cannot be made or written.
    """
    lock = target.with_name(target.name + ".lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("ab")
    except OSError as error:
        raise _cannot_write(target.parent, error) from error
    with handle:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        except (ImportError, OSError) as error:  # no locks on this file system
            logger.info("%s cannot be locked (%s)", lock, error)
        yield target.with_name(target.name + ".part")


def fetch(
    url: str,
    target: Path,
    part: Path,
    *,
    sha256: str | None,
    n_bytes: int | None,
    on_progress: Progress | None,
    md5: Collection[str] = (),
) -> None:
    """Fetch `url` over http(s) into `target`; call it inside `locked`.

    Args:
        url: Where the file is.
        target: Where it goes; replaced only by a file with the right checksum.
        part: Where its bytes are collected; what is there is taken for their start.
        sha256: Of the whole file, in lower-case hexadecimal; None where it is not known.
        n_bytes: Size of the file; a server that sends more is cut off. None: as the server says.
        on_progress: Called with (bytes so far, bytes in all or None).
        md5: Of the whole file, where its publisher states that; any one of several.

    Raises:
        NotOnServerError: The server answers 404 or 410.
        DownloadError: It cannot be reached, or what it sends is not the file.
        OutputError: `part` or `target` cannot be written.
    """
    import requests

    with requests.Session() as session:
        session.headers.update({"Accept-Encoding": "identity", "User-Agent": "aasist-deploy"})
        transfer = _Transfer(session, url, part, n_bytes, on_progress)
        if n_bytes is not None and _size_of(part) > n_bytes:
            _remove(part)
        is_resumed = _size_of(part) > 0
        transfer.run()
        if is_resumed and difference(part, sha256=sha256, md5=md5) is not None:
            logger.info("%s began with other bytes; starting again", part)
            _remove(part)
            transfer.run()
    put_in_place(part, target, sha256=sha256, source=shown(url), md5=md5)


def copy(source: Path, target: Path, part: Path, *, sha256: str, n_bytes: int) -> None:
    """Copy a local file into `target`; call it inside `locked`; raises as `fetch` does."""
    try:
        if (found := source.stat().st_size) > n_bytes:
            raise DownloadError(
                f"{source} has {found} bytes, sha256 {sha256_of(source)}, where {n_bytes} bytes, "
                f"sha256 {sha256}, are expected."
            )
        raw = source.open("rb")
    except OSError as error:
        raise DownloadError(f"{source} cannot be read ({error.strerror}).") from error
    with raw:
        try:
            with part.open("wb") as out:
                shutil.copyfileobj(raw, out)
        except OSError as error:
            raise _cannot_write(part, error) from error
    put_in_place(part, target, sha256=sha256, source=str(source))


def difference(path: Path, *, sha256: str | None, md5: Collection[str] = ()) -> str | None:
    """How the checksum of a file differs from what is expected, in words, or None.

    Raises:
        OSError: The file cannot be read.
    """
    expected = {"sha256": [sha256] if sha256 else [], "md5": list(md5)}
    wanted = [name for name, values in expected.items() if values]
    for name, found in (digests_of(path, wanted) if wanted else {}).items():
        if found not in expected[name]:
            return f"{name} {found} where {' or '.join(expected[name])} is expected"
    return None


def put_in_place(
    part: Path, target: Path, *, sha256: str | None, source: str, md5: Collection[str] = ()
) -> None:
    """Rename `part` to `target` when its checksum is right; remove it when not.

    Raises:
        DownloadError: The checksum is another; the message has both.
        OutputError: `target` cannot be written.
    """
    fault = difference(part, sha256=sha256, md5=md5)
    if fault is not None:
        n_bytes = _size_of(part)
        _remove(part)
        raise DownloadError(
            f"{source} gave {n_bytes} bytes with {fault}.",
            fix="try another network or mirror; something alters or replaces the file",
        )
    try:
        part.replace(target)
    except OSError as error:
        raise _cannot_write(target, error) from error


@dataclass(slots=True)
class _Transfer:
    """One file on its way from `url` into `part`, over as many requests as it takes."""

    session: requests.Session
    url: str
    part: Path
    n_bytes: int | None  # None until the server has said it
    on_progress: Progress | None
    etag: str | None = None  # of the first answer, so that a resume joins parts of one version

    def run(self) -> None:
        attempt, n_best = 1, _size_of(self.part)
        while self.n_bytes is None or _size_of(self.part) < self.n_bytes:
            started_s = time.monotonic()
            try:
                self._request()
            except _TryAgainError as error:
                if _size_of(self.part) >= n_best + GAIN_BYTES:
                    attempt, n_best = 1, _size_of(self.part)
                if not error.reached:
                    is_slow = time.monotonic() - started_s > SLOW_S
                    if is_slow or attempt >= ATTEMPTS_UNREACHABLE:
                        message = f"{urlsplit(self.url).hostname} is not reachable from here"
                        raise DownloadError(f"{message} ({error}).") from error
                elif attempt >= ATTEMPTS:
                    raise DownloadError(
                        f"{shown(self.url)} could not be fetched ({error}; {attempt} attempts)."
                    ) from error
                wait_s = BACKOFF_S * 2 ** (attempt - 1) if error.wait_s is None else error.wait_s
                logger.info("%s: %s; trying again in %.1f s", shown(self.url), error, wait_s)
                time.sleep(wait_s)
                attempt += 1
            else:
                return  # a whole body of another size is left to the checksum

    def _request(self) -> None:
        """One request, appended to `part`; returns once the server has sent all it has."""
        import requests

        n_have = _size_of(self.part)
        headers = {"Range": f"bytes={n_have}-"} if n_have else {}
        if n_have and self.etag:
            headers["If-Range"] = self.etag
        try:
            answer = self.session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT_S)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _TryAgainError(reason_of(error), reached=not is_unreachable(error)) from error
        except requests.RequestException as error:
            raise DownloadError(
                f"{shown(self.url)} cannot be fetched ({reason_of(error)})."
            ) from error
        with answer:
            if self._is_whole_already(answer, n_have):
                return
            self._check_status(answer, n_have)
            if answer.headers.get("ETag", "").startswith('"'):  # only a strong one
                self.etag = answer.headers["ETag"]
            is_rest = answer.status_code == 206  # or the whole, whatever was asked
            n_more = _number(answer.headers.get("Content-Length"))
            if self.n_bytes is None and n_more is not None:
                self.n_bytes = n_more + (n_have if is_rest else 0)
            try:
                out = self.part.open("ab" if is_rest else "wb")
            except OSError as error:
                raise _cannot_write(self.part, error) from error
            with out:
                self._write_body(answer, out, n_have if is_rest else 0)
        n_sent = _size_of(self.part)
        if self.n_bytes is not None and n_sent < self.n_bytes and n_more is None:
            raise _TryAgainError(f"the connection ended at {n_sent} of {self.n_bytes} bytes")

    def _write_body(self, answer: requests.Response, out: BinaryIO, n_have: int) -> None:
        import requests

        chunks = answer.iter_content(_CHUNK_BYTES)
        while True:
            try:
                chunk = next(chunks, None)
            except requests.RequestException as error:
                raise _TryAgainError(f"the connection was cut ({reason_of(error)})") from error
            if chunk is None:
                return
            n_have += len(chunk)
            if self.n_bytes is not None and n_have > self.n_bytes:
                _remove(self.part)
                raise DownloadError(f"{shown(self.url)} sends more than {self.n_bytes} bytes.")
            try:
                out.write(chunk)
            except OSError as error:
                raise _cannot_write(self.part, error) from error
            if self.on_progress is not None:
                self.on_progress(n_have, self.n_bytes)

    def _is_whole_already(self, answer: requests.Response, n_have: int) -> bool:
        """Whether a server refuses to resume because there is no more, where no size is known."""
        is_past_end = answer.headers.get("Content-Range") == f"bytes */{n_have}"
        return is_past_end and answer.status_code == 416 and self.n_bytes is None

    def _check_status(self, answer: requests.Response, n_have: int) -> None:
        status = answer.status_code
        if status == 206:
            if answer.headers.get("Content-Range", "").startswith(f"bytes {n_have}-"):
                return
            _remove(self.part)
            raise _TryAgainError("the server resumed at another byte", wait_s=0)
        if status == 416:
            _remove(self.part)
            raise _TryAgainError("the server cannot resume", wait_s=0)
        if status in {404, 410}:
            raise NotOnServerError(f"{shown(self.url)} does not exist (HTTP {status}).")
        if status == 429 or status >= 500:
            wait_s = retry_after_s(answer.headers.get("Retry-After"))
            raise _TryAgainError(f"HTTP {status}", wait_s=wait_s)
        if status != 200:
            raise DownloadError(f"{shown(self.url)} was refused (HTTP {status}).")


def _number(header: str | None) -> int | None:
    return int(header) if header is not None and header.isdecimal() else None


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _cannot_write(path, error) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written ({error.strerror or error}).")
