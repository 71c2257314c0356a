"""Audio inside tar archives and Parquet files, read one by one and never unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final

from aasist_deploy.audio import AUDIO_SUFFIXES
from aasist_deploy.errors import AudioError
from aasist_deploy.inputs._address import Address, opened
from aasist_deploy.inputs._types import AudioInput
from aasist_deploy.scores import require_pyarrow
from aasist_deploy.tar_headers import SmallHeaders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_MEMBER_BYTES: Final = 1 << 30  # one audio file is held in memory; 9 hours of 16-bit at 16 kHz
_TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_PARQUET_SUFFIXES: Final = (".parquet", ".pq")
_NAME_COLUMNS: Final = ("path", "file", "utterance", "id", "key", "name", "__key__")
_MAX_NAME_BYTES: Final = 4_096  # PATH_MAX of Linux
_READ_AHEAD: Final = 1 << 20  # else pyarrow holds the packed bytes of a whole row group
# First bytes of what a tar archive is packed in; lzma has two formats.
_UNPACKERS: Final[dict[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x5d\0\0\x80": lzma.LZMAFile,
}
_N_FIRST: Final = max(map(len, _UNPACKERS))
_MAX_BEHIND_END: Final = 64 << 20  # tar fills up to 10 KiB; more is read for a check sum alone
# What unpacking raises besides OSError, which gzip and bzip2 have for headers and check sums.
_DAMAGED_PACKING: Final = (
    EOFError,  # a cut
    zlib.error,  # packed bytes of gzip that cannot be
    lzma.LZMAError,  # the same of xz, and its check sum
)
# What tarfile and unpacking raise on archives that were altered, and on which of them.
_DAMAGED_TAR: Final = (
    *_DAMAGED_PACKING,
    tarfile.TarError,  # most: check sums of headers, cuts
    ValueError,  # numbers that are none, in the holes of sparse files or lengths of PAX records
    RecursionError,  # a chain of headers without end
    OSError,  # of the disk, or as above
)


def is_archive(path: Path | Address) -> bool:
    """Whether a path is read as a tar archive or a Parquet file, by its suffix."""
    return path.name.lower().endswith(_TAR_SUFFIXES + _PARQUET_SUFFIXES)


def audio_inside(path: Path | Address) -> Iterator[AudioInput]:
    """The audio inside a tar archive or a Parquet file, on disk or at an address, in its order.

    Of a tar archive that are the regular files with a suffix of audio, so that a shard of a
    WebDataset can be read; of a Parquet file the column `audio`, or the only one that holds bytes
    or a struct with bytes and perhaps a path. An archive that is damaged gives a last input with
    the reason.

    Raises:
        EnvironmentLacks: Parquet without pyarrow.
    """
    is_parquet = path.name.lower().endswith(_PARQUET_SUFFIXES)
    if is_parquet:
        require_pyarrow("Reading Parquet")
    damaged = _damaged_parquet() if is_parquet else _DAMAGED_TAR
    read = _in_parquet if is_parquet else _in_tar
    try:
        with (
            opened(path, seekable=is_parquet)
            if isinstance(path, Address)
            else path.open("rb") as file
        ):
            yield from read(path, file)
    except AudioError as error:
        yield AudioInput(path, error=str(error))
    except damaged as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        yield AudioInput(path, error=f"{path} cannot be read further ({reason}).")


def _damaged_parquet() -> tuple[type[Exception], ...]:
    """What pyarrow raises on files that were altered."""
    import pyarrow as pa

    return (
        pa.ArrowException,  # schemas, pages and sizes that cannot be, or are not done by pyarrow
        OSError,  # most: cuts, headers, packed bytes; and of the disk
        UnicodeDecodeError,  # names of columns, and names in them
    )


def _in_tar(path: Path | Address, stream: IO[bytes]) -> Iterator[AudioInput]:
    packed = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    first = packed.peek(_N_FIRST)
    unpack = next((opener for mark, opener in _UNPACKERS.items() if first.startswith(mark)), None)
    if unpack is None:
        yield from _members(path, packed)
        return
    # tarfile's own unpacking passes over gzip's check sum, and a flipped bit would be scored.
    with unpack(packed) as unpacked:
        yield from _members(path, unpacked)
        _check_to_the_end(path, unpacked)


def _check_to_the_end(path: Path | Address, unpacked: IO[bytes]) -> None:
    """Read what is left, for the check sum that follows it.

    Raises:
        AudioError: it does not fit, or much else follows the archive.
    """
    left = _MAX_BEHIND_END
    try:
        while block := unpacked.read(_READ_AHEAD):
            left -= len(block)
            if left < 0:
                raise AudioError(f"{path} goes on behind the end of its archive; that is not read.")
    except (*_DAMAGED_PACKING, OSError) as error:
        raise AudioError(
            f"{path} is damaged ({error}): what was read from it may not be what was packed."
        ) from None


def _members(path: Path | Address, stream: IO[bytes]) -> Iterator[AudioInput]:
    n_found = 0
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=SmallHeaders) as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps every header
            name = PurePosixPath(member.name)
            if name.suffix.lower() not in AUDIO_SUFFIXES or name.name.startswith("."):
                continue
            if member.isdir():
                continue
            n_found += 1
            # The name is only ever shown; nothing is opened by it.
            shown = (
                path / member.name if isinstance(path, Address) else Path(f"{path}/{member.name}")
            )
            if not member.isreg():
                yield AudioInput(
                    shown, error=f"{shown} is a link or device in its archive, not a file."
                )
            elif member.size > MAX_MEMBER_BYTES:
                yield AudioInput(
                    shown,
                    error=f"{shown} has {member.size} bytes; at most {MAX_MEMBER_BYTES} are read "
                    "from an archive.",
                )
            else:
                file = archive.extractfile(member)
                assert file is not None
                yield AudioInput(shown, content=file.read())
    if n_found == 0:
        raise AudioError(f"{path} holds no audio file.")


def _in_parquet(path: Path | Address, stream: IO[bytes]) -> Iterator[AudioInput]:
    """Row by row: pyarrow holds one page and one value, of up to 2 GiB each, and copies of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_rows = 0
    with pq.ParquetFile(stream, buffer_size=_READ_AHEAD) as table:
        column, name_column = _columns(table.schema_arrow, path, pa)
        wanted = [column] if name_column is None else [column, name_column]
        for group in range(table.num_row_groups):
            _check_declared(table.metadata.row_group(group), path)
            for row in table.iter_batches(batch_size=1, row_groups=[group], columns=wanted):
                value, name = row.column(column)[0], None
                if name_column is not None:
                    name = _text(row.column(name_column)[0])
                if pa.types.is_struct(value.type):
                    fields = {} if not value.is_valid else dict(value.items())
                    name = name or _text(fields.get("path"))
                    value = fields.get("bytes")
                member = str(name or n_rows)
                shown = path / member if isinstance(path, Address) else Path(f"{path}/{member}")
                n_rows += 1
                yield _input_of(shown, value)
    if n_rows == 0:
        raise AudioError(f"{path} holds no rows.")


def _check_declared(group: Any, path: Path | Address) -> None:  # noqa: ANN401
    """Refuse a row group by what the file says of it, before anything of it is read.

    Of its columns pyarrow says nothing safely: asking for one that is damaged ends the process.

    Args:
        group: pyarrow's metadata of the row group.
        path: For messages.

    Raises:
        AudioError: its rows have more bytes than are read of one, even if they are alike.
    """
    if group.total_byte_size > MAX_MEMBER_BYTES * group.num_rows:
        raise AudioError(
            f"{path} says that {group.num_rows} rows have {group.total_byte_size} bytes; at most "
            f"{MAX_MEMBER_BYTES} a row are read from an archive."
        )


def _text(scalar: Any) -> str | int | None:  # noqa: ANN401  # of pyarrow
    """A name, or None where there is none; one that is too long for a file is cut."""
    if scalar is None or not scalar.is_valid:
        return None
    if hasattr(scalar, "as_buffer") and (buffer := scalar.as_buffer()).size > _MAX_NAME_BYTES:
        return bytes(buffer[:_MAX_NAME_BYTES]).decode("utf-8", "replace")
    name = scalar.as_py()
    return name if isinstance(name, str | int) else None


def _input_of(shown: Path | Address, value: Any) -> AudioInput:  # noqa: ANN401  # of pyarrow
    buffer = value.as_buffer() if value is not None and hasattr(value, "as_buffer") else None
    if buffer is None:
        return AudioInput(shown, error=f"{shown} holds no bytes.")
    if buffer.size > MAX_MEMBER_BYTES:
        return AudioInput(
            shown,
            error=f"{shown} has {buffer.size} bytes; at most {MAX_MEMBER_BYTES} are read from an "
            "archive.",
        )
    return AudioInput(shown, content=buffer.to_pybytes())


def _columns(schema: Any, path: Path | Address, pa: Any) -> tuple[str, str | None]:  # noqa: ANN401
    """The columns of the audio and of its names."""

    def holds_bytes(kind: Any) -> bool:  # noqa: ANN401
        if pa.types.is_struct(kind):
            return any(f.name == "bytes" and holds_bytes(f.type) for f in kind)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def is_name(kind: Any) -> bool:  # noqa: ANN401
        return bool(
            pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
        )

    twice = sorted(name for name in set(schema.names) if schema.names.count(name) > 1)
    if twice:
        raise AudioError(f"{path} has several columns of one name: {', '.join(map(repr, twice))}.")
    found = [field.name for field in schema if holds_bytes(field.type)]
    column = "audio" if "audio" in found else found[0] if len(found) == 1 else None
    if column is None:
        raise AudioError(
            f"{path} has no column 'audio' of bytes, and {len(found)} others of bytes; its columns "
            f"are: {', '.join(schema.names)}."
        )
    named = (name for name in _NAME_COLUMNS if name in schema.names)
    return column, next((name for name in named if is_name(schema.field(name).type)), None)
