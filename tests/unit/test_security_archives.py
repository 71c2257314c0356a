"""Archives and lists that mean harm: bounded memory, and one row or error with the reason."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.audio import find_audio
from aasist_deploy.errors import AasistDeployError, UsageError
from aasist_deploy.inputs import _archives
from aasist_deploy.inputs._archives import audio_inside
from aasist_deploy.tar_headers import MAX_HEADER_BYTES

if TYPE_CHECKING:
    from pathlib import Path

FUZZ = settings(
    suppress_health_check=list(HealthCheck), deadline=10_000,
    max_examples=60 if settings().max_examples == 100 else settings().max_examples,
)  # fmt: skip
PACKERS: dict[str, Any] = {
    "tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress,
}  # fmt: skip


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def whole_tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("a.wav", "x/b.flac"):
            info = tarfile.TarInfo(name)
            info.size = 600
            archive.addfile(info, io.BytesIO(bytes(600)))
    return stream.getvalue()


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_of_gigabytes_is_refused_by_its_header(kind: bytes, tmp_path: Path) -> None:
    """With tarfile alone, 10 MB of gzip took 4 GiB of memory."""
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(header(kind, MAX_HEADER_BYTES + 1) + bytes(2_048)))
    (found,) = audio_inside(path)
    assert f"a header claims {MAX_HEADER_BYTES + 1} bytes" in str(found.error)


def test_long_names_without_end_are_one_row(tmp_path: Path) -> None:
    one = header(tarfile.GNUTYPE_LONGNAME, 4) + b"abc\0".ljust(512, b"\0")
    path = tmp_path / "x.tar"
    path.write_bytes(one * 3_000 + bytes(1_024))
    (found,) = audio_inside(path)
    assert "recursion" in str(found.error)


def test_headers_of_an_archive_are_not_kept(tmp_path: Path, monkeypatch: Any) -> None:
    path, kept = tmp_path / "x.tar", []
    path.write_bytes(whole_tar())
    true_next = tarfile.TarFile.next

    def counting(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
        kept.append(len(archive.members))  # type: ignore[attr-defined]
        return true_next(archive)

    monkeypatch.setattr(tarfile.TarFile, "next", counting)
    assert len(list(audio_inside(path))) == 2
    assert max(kept) <= 1


@pytest.mark.parametrize("suffix", PACKERS)
def test_damaged_tar_gives_rows_and_no_other_error(suffix: str, tmp_path: Path) -> None:
    whole, path = PACKERS[suffix](whole_tar()), tmp_path / f"x.{suffix}"

    @FUZZ
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        content = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        list(audio_inside(path))

    check()


def test_damaged_parquet_gives_rows_and_no_other_error(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    source, path = tmp_path / "whole", tmp_path / "x.parquet"
    rows = [{"bytes": b"123", "path": "a"}, {"bytes": None, "path": "b"}]
    pq.write_table(pa.table({"path": ["a", "b"], "audio": rows}), source)
    whole = source.read_bytes()

    @FUZZ
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        content = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        list(audio_inside(path))

    check()


def parquet(path: Path, rows: list[bytes | None], **options: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    audio = pa.array([{"bytes": row, "path": f"{index}.wav"} for index, row in enumerate(rows)])
    pq.write_table(pa.table({"audio": audio}), path, **options)
    return path


@pytest.mark.parametrize("dictionary", [False, True], ids=["plain", "one value for all rows"])
def test_of_parquet_one_value_is_in_memory_at_a_time(dictionary: bool, tmp_path: Path) -> None:
    """32 rows of 1 MB in a file of kilobytes; once 16 of them were held."""
    n_bytes = 1 << 20
    path = parquet(
        tmp_path / "x.parquet", [bytes(n_bytes)] * 32, compression="zstd", data_page_size=n_bytes,
        use_dictionary=dictionary, dictionary_pagesize_limit=1 << 30, write_batch_size=1,
    )  # fmt: skip
    assert path.stat().st_size < 100_000
    import pyarrow as pa

    before, most, n_rows = pa.total_allocated_bytes(), 0, 0
    for found in audio_inside(path):
        assert found.content is not None
        assert len(found.content) == n_bytes
        most = max(most, pa.total_allocated_bytes() - before)
        n_rows += 1
    assert n_rows == 32
    assert most < 8 * n_bytes  # the page, its copies and the value


def test_a_parquet_file_that_declares_too_much_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = parquet(tmp_path / "x.parquet", [bytes(3_000), bytes(3_000)], use_dictionary=False)

    def read(*_: object, **__: object) -> None:
        pytest.fail("it was read")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", read)
    monkeypatch.setattr("aasist_deploy.inputs._archives.MAX_MEMBER_BYTES", 2_500)
    (found,) = audio_inside(path)
    said = re.fullmatch(r".* says that 2 rows have (\d+) bytes; at most 2500 a row .*",
                        str(found.error))  # fmt: skip
    assert said is not None
    assert int(said[1]) > 6_000


def test_a_large_value_of_parquet_is_a_row_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "x.parquet", [b"1", bytes(3_001), None, b"2"], use_dictionary=False)
    monkeypatch.setattr("aasist_deploy.inputs._archives.MAX_MEMBER_BYTES", 3_000)
    first, large, none, last = audio_inside(path)
    assert (first.content, last.content) == (b"1", b"2")
    assert "1.wav has 3001 bytes; at most 3000 are read" in str(large.error)
    assert "2.wav holds no bytes" in str(none.error)


def test_columns_of_one_name_and_long_names_are_plain_rows(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table([[b"1"], ["a"], ["b"]], names=["audio", "path", "path"]), path)
    (found,) = audio_inside(path)
    assert "has several columns of one name: 'path'." in str(found.error)
    pq.write_table(pa.table({"audio": [b"1"], "path": ["x" * 1_000_000]}), path)
    (found,) = audio_inside(path)
    assert found.content == b"1"
    assert len(str(found.path)) < 5_000


class FailingDisk(io.BytesIO):
    def read(self, _: int | None = -1, /) -> bytes:
        raise OSError(5, "Input/output error")

    def readinto(self, _: object, /) -> int:
        return len(self.read())


def pax(record: bytes) -> bytes:
    body = b"%d %s\n" % (len(record) + 4, record)
    assert len(body) == len(record) + 4
    return header(tarfile.XHDTYPE, len(body)) + body.ljust(512, b"\0")


def gzip_that_breaks_in_a_member() -> bytes:
    info = tarfile.TarInfo("a.wav")
    info.size = 1 << 20
    packer = zlib.compressobj(wbits=31)
    begin = packer.compress(info.tobuf() + bytes(1 << 19)) + packer.flush(zlib.Z_FULL_FLUSH)
    return begin + b"\xff" * 100  # a block of no kind


# What each exception of `_DAMAGED_TAR` is caught for.
DAMAGED_TARS: dict[str, tuple[type[Exception], bytes]] = {
    "a check sum": (tarfile.TarError, b"\0x" + whole_tar()),
    "bytes behind bzip2": (
        tarfile.TarError, bz2.compress(whole_tar()[:1_500]) + b"garbage" * 3_000,
    ),
    "a cut of xz": (EOFError, lzma.compress(whole_tar())[:60]),
    "half a header of gzip": (EOFError, gzip.compress(whole_tar())[:3]),
    "another version of gzip": (OSError, b"\x1f\x8b\x07" + gzip.compress(whole_tar())[3:]),
    "a block of gzip of no kind": (zlib.error, gzip_that_breaks_in_a_member()),
    "no filters of xz": (lzma.LZMAError, lzma.compress(whole_tar())[:6] + b"\xff" * 100),
    "holes without numbers": (ValueError, pax(b"GNU.sparse.size=xyz") + whole_tar()),
    "a chain of headers": (
        RecursionError, (header(tarfile.GNUTYPE_LONGNAME, 4) + b"abc\0".ljust(512, b"\0")) * 3_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED_TARS)
def test_each_exception_of_a_damaged_tar_is_there_for_a_file(damage: str, tmp_path: Path) -> None:
    expected, content = DAMAGED_TARS[damage]
    with pytest.raises(expected) as raised:
        list(_archives._in_tar(tmp_path / "x.tar", io.BytesIO(content)))
    assert not isinstance(raised.value, tarfile.TarError) or expected is tarfile.TarError
    assert any(issubclass(expected, one) for one in _archives._DAMAGED_TAR)
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    assert "cannot be read further" in str(list(audio_inside(path))[-1].error)


@pytest.mark.parametrize("suffix", [name for name in PACKERS if name != "tar"])
def test_samples_that_changed_in_their_packing_end_in_an_error(suffix: str, tmp_path: Path) -> None:
    """tarfile alone passes over the check sum of gzip, and gives the altered samples."""
    path = tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(3).bytes(20_000)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("a.wav")
        info.size = len(noise)
        archive.addfile(info, io.BytesIO(noise))
    path.write_bytes(PACKERS[suffix](stream.getvalue()))
    (whole,) = audio_inside(path)
    assert whole.content == noise
    altered = bytearray(path.read_bytes())
    altered[10_000] ^= 1
    path.write_bytes(altered)
    last = list(audio_inside(path))[-1]
    assert re.search("is damaged|cannot be read further", str(last.error))


def test_what_follows_an_archive_is_not_unpacked_without_end(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(whole_tar() + bytes(100 << 20), compresslevel=1))
    *files, last = audio_inside(path)
    assert len(files) == 2
    assert "goes on behind the end" in str(last.error)


def test_each_exception_of_damaged_parquet_is_there_for_a_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    whole = parquet(tmp_path / "x.parquet", [b"123"], compression="none").read_bytes()
    cut = whole[:-20]
    name = whole.replace(b"0.wav", b"\xff.wav")
    for content, expected in ((cut, pa.ArrowException), (name, UnicodeDecodeError)):
        with pytest.raises(expected):
            list(_archives._in_parquet(tmp_path / "x.parquet", io.BytesIO(content)))
        (tmp_path / "x.parquet").write_bytes(content)
        assert "cannot be read further" in str(list(audio_inside(tmp_path / "x.parquet"))[-1].error)


@pytest.mark.parametrize("read", ["_in_tar", "_in_parquet"])
def test_a_disk_that_fails_is_a_row(
    read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / ("x.tar" if read == "_in_tar" else "x.parquet")
    path.write_bytes(whole_tar())
    monkeypatch.setattr("pathlib.Path.open", lambda *_: FailingDisk(bytes(10_000)))
    (found,) = audio_inside(path)
    assert "cannot be read further (Input/output error)" in str(found.error)


def test_names_in_a_list_that_are_too_long_for_a_file_are_rows_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"a.wav\n{'x' * 5_000}.wav\nb.wav\n")
    assert [len(str(one)) for one in find_audio([path])] == [5, 5_004, 5]
    with pytest.raises(UsageError, match="There is no file or folder"):
        find_audio(["x" * 5_000])


def test_a_list_without_line_ends_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    with path.open("wb") as file:
        file.write(b"x" * 200_000)
    with pytest.raises(UsageError, match=r"is no text file \(line 1\)"):
        list(find_audio([path]))


@FUZZ
@given(content=st.binary(max_size=200))
def test_any_list_gives_names_or_an_error_of_ours(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with suppress(AasistDeployError):
        list(find_audio([path]))
