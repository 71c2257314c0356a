"""Archives and lists that mean harm: bounded memory, and one row or error with the reason."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.audio import find_audio
from aasist_deploy.errors import AasistDeployError, UsageError
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
