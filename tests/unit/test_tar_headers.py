"""Headers of tar archives that declare what is not there, or more than anybody needs."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from aasist_deploy.inputs._archives import audio_inside
from aasist_deploy.tar_headers import MAX_HEADER_BYTES, SmallHeaders

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = tarfile.BLOCKSIZE


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def with_check_sum(block: bytes) -> bytes:
    blank = block[:148] + b" " * 8 + block[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def sparse(name: str, n_further_blocks: int) -> bytes:
    """A member of old GNU tar whose map of holes goes on for some blocks, and 4 bytes."""
    block = bytearray(header(name, 4, tarfile.GNUTYPE_SPARSE))
    block[386:482] = b"00000000000\x0000000000001\0" * 4  # where a piece lies, and how long it is
    block[482] = n_further_blocks > 0
    block[483:495] = b"00000000004\0"  # its size with the holes
    further = b"00000000000\x0000000000001\0" * 21 + b"\1" + bytes(7)
    last = further[:504] + bytes(8)
    more = further * (n_further_blocks - 1) + last if n_further_blocks else b""
    return with_check_sum(bytes(block)) + more + b"RIFF".ljust(BLOCK, b"\0")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize("name", ["notes.txt", "a.wav"])
def test_a_size_that_would_take_years_to_pass_over_ends_where_the_archive_does(
    name: str, suffix: str, tmp_path: Path
) -> None:
    content = header(name, 2**62) + bytes(2 * BLOCK)
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == "tar.gz" else content)
    *before, last = audio_inside(path)
    assert "unexpected end of data" in str(last.error)
    assert [f"has {2**62} bytes" in str(one.error) for one in before] == [True] * (name == "a.wav")


def test_a_map_of_holes_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    n_blocks = 2 * MAX_HEADER_BYTES // BLOCK + 1
    path.write_bytes(gzip.compress(sparse("a.wav", n_blocks)))
    (found,) = audio_inside(path)
    assert f"headers of over {2 * MAX_HEADER_BYTES} bytes" in str(found.error)


def test_holes_and_long_names_of_many_members_are_read(tmp_path: Path) -> None:
    """The limit is of one member's headers, not of the archive's."""
    path = tmp_path / "x.tar"
    long_name = "x" * 3_000 + ".wav"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for index in range(800):  # 3 KB of name for each
            info = tarfile.TarInfo(f"{index}{long_name}")
            info.size = 4
            archive.addfile(info, io.BytesIO(b"RIFF"))
    path.write_bytes(sparse("a.wav", 0) + sparse("b.wav", 3) + stream.getvalue())
    found = list(audio_inside(path))
    assert [one.error for one in found] == [None] * 802
    assert {one.content for one in found[2:]} == {b"RIFF"}
    assert path.stat().st_size > 3 * MAX_HEADER_BYTES


def test_reading_backwards_is_refused() -> None:
    content = header("a.wav", 4) + b"RIFF".ljust(BLOCK, b"\0") + bytes(2 * BLOCK)
    with tarfile.open(
        fileobj=io.BytesIO(content), mode="r|", tarinfo=SmallHeaders
    ) as archive:  # fmt: skip
        file = archive.extractfile(list(archive)[0])  # noqa: RUF015  # all of it is read
        assert file is not None
        with pytest.raises(tarfile.StreamError):
            file.read()
