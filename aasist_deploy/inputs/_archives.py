"""Audio inside tar archives and Parquet files, read one by one and never unpacked to disk."""

from __future__ import annotations

import lzma
import struct
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
    from collections.abc import Iterator

MAX_MEMBER_BYTES: Final = 1 << 30  # one audio file is held in memory; 9 hours of 16-bit at 16 kHz
_TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_PARQUET_SUFFIXES: Final = (".parquet", ".pq")
_NAME_COLUMNS: Final = ("path", "file", "utterance", "id", "key", "name", "__key__")
_ROWS_AT_ONCE: Final = 16
# What tarfile and pyarrow raise on altered archives; a RuntimeError is a chain of headers without
# end, and a LookupError, TypeError or NotImplementedError is one of pyarrow's.
_DAMAGED: Final = (
    tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, struct.error, ArithmeticError,
    ValueError, LookupError, TypeError, RuntimeError,
)  # fmt: skip


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
    try:
        is_parquet = path.name.lower().endswith(_PARQUET_SUFFIXES)
        if is_parquet:
            require_pyarrow("Reading Parquet")
        with (
            opened(path, seekable=is_parquet)
            if isinstance(path, Address)
            else path.open("rb") as file
        ):
            if is_parquet:
                yield from _in_parquet(path, file)
            else:
                yield from _in_tar(path, file)
    except AudioError as error:
        yield AudioInput(path, error=str(error))
    except _DAMAGED as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        yield AudioInput(path, error=f"{path} cannot be read further ({reason}).")


def _in_tar(path: Path | Address, stream: IO[bytes]) -> Iterator[AudioInput]:
    n_found = 0
    with tarfile.open(fileobj=stream, mode="r|*", tarinfo=SmallHeaders) as archive:
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_rows = 0
    with pq.ParquetFile(stream) as table:
        column, name_column = _columns(table.schema_arrow, path, pa)
        wanted = [column] if name_column is None else [column, name_column]
        for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
            names = None if name_column is None else batch.column(name_column).to_pylist()
            for index, value in enumerate(batch.column(column).to_pylist()):
                content, name = value, None if names is None else names[index]
                if isinstance(value, dict):
                    content, name = value.get("bytes"), name or value.get("path")
                member = str(name or n_rows)
                shown = path / member if isinstance(path, Address) else Path(f"{path}/{member}")
                n_rows += 1
                if not isinstance(content, bytes):
                    yield AudioInput(shown, error=f"{shown} holds no bytes.")
                else:
                    yield AudioInput(shown, content=content)
    if n_rows == 0:
        raise AudioError(f"{path} holds no rows.")


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

    found = [field.name for field in schema if holds_bytes(field.type)]
    column = "audio" if "audio" in found else found[0] if len(found) == 1 else None
    if column is None:
        raise AudioError(
            f"{path} has no column 'audio' of bytes, and {len(found)} others of bytes; its columns "
            f"are: {', '.join(schema.names)}."
        )
    named = (name for name in _NAME_COLUMNS if name in schema.names)
    return column, next((name for name in named if is_name(schema.field(name).type)), None)
