"""A request's body to files in memory, counted while it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aasist_deploy.serving.scoring import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aasist_deploy.serving.limits import Limits

MAX_NAME: Final = 255
_BOUNDARY_BYTES: Final = 70  # RFC 2046, 5.1.1


class RefusedError(Exception):
    """A request that gets an error for an answer.

    Args:
        status: Of HTTP.
        message: What is wrong, with the values that disagree.
        fix: What the client can do, or None.
    """

    def __init__(self, status: int, message: str, fix: str | None = None) -> None:
        super().__init__(message)
        self.status, self.fix = status, fix


class Admission:
    """How much is in the server; used by the event loop alone.

    Args:
        limits: Of files and bytes at once.
        retry_after_s: How long a client that is refused should wait.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.n_files = 0
        self.n_bytes = 0

    def enter(self, n_files: int = 1) -> None:
        """Take files in.

        Raises:
            RefusedError: 503, the queue is full.
        """
        if self.n_files + n_files > self._limits.queue:
            raise RefusedError(
                503, f"The queue is full: {self.n_files} files are being scored.", "try again later"
            )
        self.n_files += n_files

    def leave(self, n_files: int = 1) -> None:
        """Let go of files."""
        self.n_files -= n_files


class Budget:
    """The bytes of one request, as part of all."""

    def __init__(self, admission: Admission, limits: Limits) -> None:
        self._admission, self._limits = admission, limits
        self.n_bytes = 0

    def take(self, n_bytes: int) -> None:
        """Count bytes that have come.

        Raises:
            RefusedError: 413 or 503, before the bytes are kept.
        """
        if self.n_bytes + n_bytes > self._limits.max_upload_bytes:
            raise too_large(self._limits)
        if self._admission.n_bytes + n_bytes > self._limits.max_held_bytes:
            raise RefusedError(
                503,
                f"{self._admission.n_bytes} bytes of uploads are in memory, which is all there may "
                "be.",
                "try again later",
            )
        self.n_bytes += n_bytes
        self._admission.n_bytes += n_bytes

    def release(self) -> None:
        """Let go of them; a second call does nothing."""
        self._admission.n_bytes -= self.n_bytes
        self.n_bytes = 0


def too_large(limits: Limits) -> RefusedError:
    """The answer to a body over the limit."""
    return RefusedError(
        413,
        f"The upload is larger than {limits.max_upload_bytes} bytes, which this server takes.",
        "send less at once; FLAC and Opus files are smaller than WAV",
    )


async def read_uploads(
    body: AsyncIterator[bytes], content_type: str, name: str | None, budget: Budget, limits: Limits
) -> list[Upload]:
    """Read a body: multipart/form-data with files, or one file as it is.

    Args:
        body: The bytes as they come.
        content_type: Of the request.
        name: Of a file that is the body itself.
        budget: Counts what is kept.
        limits: Of the number of files.

    Raises:
        RefusedError: 400, 413, 415 or 503.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_multipart(body, content_type, budget, limits)
    if not kind.startswith("audio/") and kind != "application/octet-stream":
        raise RefusedError(
            415,
            f"The content type is {kind[:100] or 'not given'!r}.",
            "send multipart/form-data with files, or one file as audio/* or "
            "application/octet-stream",
        )
    chunks = []
    async for chunk in body:
        budget.take(len(chunk))
        chunks.append(chunk)
    content = b"".join(chunks)
    if not content:
        raise RefusedError(400, "The body is empty: there is no audio in it.")
    return [Upload(safe_name(name or "upload"), content)]


async def _read_multipart(
    body: AsyncIterator[bytes], content_type: str, budget: Budget, limits: Limits
) -> list[Upload]:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= _BOUNDARY_BYTES:
        raise RefusedError(400, "The content type names no boundary of 1 to 70 characters.")
    parts = _Parts(limits, lambda header: parse_options_header(header)[1])
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]  # a TypedDict
        async for chunk in body:
            budget.take(len(chunk))
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise RefusedError(400, f"The multipart body is malformed: {one_line(error)}.") from error
    if not parts.ended:
        raise RefusedError(400, "The multipart body ends before its last boundary.")
    if not parts.uploads:
        raise RefusedError(
            400, "The multipart body holds no file.", "curl -F file=@clip.wav http://HOST/score"
        )
    return parts.uploads


class _Parts:
    """Collects the parts of a multipart body."""

    def __init__(self, limits: Limits, options_of: Callable[[bytes], dict[bytes, bytes]]) -> None:
        self.uploads: list[Upload] = []
        self.ended = False
        self._limits, self._options_of = limits, options_of
        self._field, self._value = b"", b""
        self._name: str | None = None
        self._chunks: list[bytes] = []

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._on_end,
        }

    def _begin(self) -> None:
        if len(self.uploads) == self._limits.max_files:
            raise RefusedError(
                413,
                f"The request holds more than {self._limits.max_files} files.",
                "send the others in another request",
            )
        self._field, self._value, self._name, self._chunks = b"", b"", None, []

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            options = self._options_of(self._value)
            if b"filename" in options:
                self._name = options[b"filename"].decode("utf-8", "replace")
        self._field, self._value = b"", b""

    def _on_headers(self) -> None:
        if self._name is None:
            raise RefusedError(
                400,
                "A part of the multipart body is no file: it has no filename.",
                "options go into the address: /score?windows=all",
            )

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def _end(self) -> None:
        name = safe_name(self._name or f"upload-{len(self.uploads) + 1}")
        self.uploads.append(Upload(name, b"".join(self._chunks)))
        self._chunks = []

    def _on_end(self) -> None:
        self.ended = True


def safe_name(name: str) -> str:
    """A client's name for a file as a label that can be shown: one line, no folders, not long."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in last[:MAX_NAME])
    return shown if shown.strip(". ") else "upload"


def one_line(error: BaseException) -> str:
    """An error's words without what a client could smuggle into them."""
    return "".join(c if c.isprintable() else " " for c in str(error))[:300].rstrip(" .")
