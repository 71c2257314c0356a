"""Text files in and out: gzip, zip and BOM on the way in, all or nothing on the way out."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import re
import struct
import unicodedata
import zipfile
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from aasist_deploy.errors import AasistDeployError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

# Five times the largest official file (ASV scores of ASVspoof 2021 PA, 108 MB of metadata).
MAX_UNPACKED_BYTES: Final = 512 * 1024**2
_MAX_DIGITS: Final = 400  # a float64 has at most 309 before its point
_NAMES_SHOWN: Final = 3  # of those that a message speaks of
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZIP_MAGIC: Final = b"PK\x03\x04"
_EMPTY_ZIP_MAGIC: Final = b"PK\x05\x06"

# Unicode's control and format characters (with those that turn text round), lone surrogates, and
# separators of lines and paragraphs.
_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# Control characters, separators of lines and paragraphs, and halves of characters.
_NOT_IN_A_LINE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# On altered archives zipfile lets errors of its parts through (found by fuzzing).
_DAMAGED: Final = (
    EOFError,
    IndexError,
    OverflowError,
    ValueError,
    gzip.BadGzipFile,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_text(
    path: Path, error: type[AasistDeployError], *, max_bytes: int = MAX_UNPACKED_BYTES
) -> str:
    """Read a UTF-8 file whole, unpacking gzip or zip (told by its first bytes), dropping a BOM.

    Args:
        path: The file; a zip holds one member, as submissions to the challenges do.
        error: What to raise when the file cannot be read.
        max_bytes: What a packed file may become.

    Raises:
        error: The file is missing, not readable, damaged, not UTF-8 text, a zip of several members
            or with a password, or becomes too large.
    """
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as unpacked:
                data = _bounded(unpacked, path, error, max_bytes)
        elif data.startswith((_ZIP_MAGIC, _EMPTY_ZIP_MAGIC)):
            data = _member(data, path, error, max_bytes)
    except _DAMAGED as cause:
        raise error(f"{path} is damaged: {cause}.", fix="Fetch or write the file again.") from cause
    except (NotImplementedError, RuntimeError) as cause:
        raise error(
            f"{path} cannot be unpacked: {cause}.", fix="Unpack it, and give the file inside."
        ) from cause
    except OSError as cause:
        raise error(f"{path} cannot be read: {cause.strerror or cause}.") from cause
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = data.count(b"\n", 0, cause.start) + 1
        raise error(
            f"{path}:{line} is not UTF-8 text: byte 0x{data[cause.start]:02x}.",
            fix="Give a text file in UTF-8, plain, gzip-compressed or alone in a zip.",
        ) from cause


def _member(data: bytes, path: Path, error: type[AasistDeployError], limit: int) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # A Mac adds a folder of its own metadata to what it packs.
        members = [
            info
            for info in archive.infolist()
            if not info.is_dir() and not info.filename.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            held = ", ".join(info.filename for info in members[:3]) or "nothing"
            raise error(
                f"{path} holds {len(members)} files ({held}); expected one.",
                fix="Unpack it, and give the file inside that is meant.",
            )
        with archive.open(members[0]) as unpacked:
            return _bounded(unpacked, path, error, limit)


def _bounded(stream: _Readable, path: Path, error: type[AasistDeployError], limit: int) -> bytes:
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise error(
            f"{path} becomes more than {limit} bytes when unpacked; no file of scores or trials is "
            "so large.",
            fix="Check where the file comes from; unpack it yourself if it is right.",
        )
    return data


def json_of(text: str | bytes) -> Any:  # noqa: ANN401  # whatever it holds
    """What a text says in JSON, as RFC 8259 has it and other readers of our files demand it.

    Raises:
        ValueError: It is no JSON; it has NaN, an infinity or a number beyond float64, a name twice
            in one object, a whole number of more than 400 digits, or is nested hundreds deep.
    """
    try:
        return json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_without_repeats,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{excerpt(digits)} is beyond the numbers of a computer")
    return value


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"it has the name {excerpt(name)} twice")
        found[name] = value
    return found


def numbered_fields(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, fields between blanks) of each line that is not empty."""
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split()
        if fields:
            yield number, fields


def excerpt(text: str, limit: int = 80) -> str:
    """Return `text` quoted for a message, cut to `limit` characters."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def few(names: Sequence[str], limit: int = 80) -> str:
    """The first names in brackets, for a message, each cut to `limit`; nothing without any."""
    if not names:
        return ""
    more = ", …" if len(names) > _NAMES_SHOWN else ""
    return f" ({', '.join(excerpt(name, limit) for name in names[:_NAMES_SHOWN])}{more})"


def not_in_a_line(text: str) -> str | None:
    """The code of the first character that makes `text` more, or less, than one line of text.

    Returns:
        E.g. "U+000A"; None where there is no such character.
    """
    found = _NOT_IN_A_LINE.search(text)
    return None if found is None else f"U+{ord(found[0]):04X}"


def visible(text: str) -> str:
    """Text for a terminal: characters that would steer it are shown by their codes.

    A file name may hold the escape sequences that retitle a terminal, delete what it shows or turn
    text round. Line ends and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if _is_harmless(one) else _code_of(one) for one in text)


def _is_harmless(one: str) -> bool:
    return one in "\n\t" or unicodedata.category(one) not in _STEERING


def _code_of(one: str) -> str:
    number = ord(one)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside a place, whose file takes the place when all went well and is gone otherwise.

    So the place holds either the old file or the whole new one, which is on disk by then.

    Raises:
        OSError: The place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, lines: Iterable[str]) -> None:
    """Write lines so that the place holds either the old file or the whole new one.

    Raises:
        OutputError: The place cannot be written.
    """
    try:
        with (
            whole_file(path) as temporary,
            temporary.open("w", encoding="utf-8", newline="\n") as file,
        ):
            file.writelines(lines)
    except OSError as cause:
        raise OutputError(
            f"{path} cannot be written: {cause.strerror or cause}.",
            fix="Name a place in an existing folder that you may write to.",
        ) from cause
