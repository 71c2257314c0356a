"""Archives that attack, lie, break or are interrupted: the tree gets all of one or none of it."""

from __future__ import annotations

import errno
import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.corpora import BadArchiveError, Unpacked, _unpack, unpack
from aasist_deploy.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = {"a/one.txt": b"1" * 5_000, "a/b/two.txt": b"2" * 70_000, "three.txt": b""}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Unpacked]:
    """(content, name) -> what unpacking it into tmp_path/root gives."""

    def unpacked(content: bytes, name: str = "x.zip", **options: Any) -> Unpacked:
        archive = tmp_path / name
        archive.write_bytes(content)
        return unpack(archive, tmp_path / "root", tmp_path / "root" / ".staging", **options)

    return unpacked


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def nothing_in(tmp_path: Path) -> bool:
    """Whether nothing was written but the archive itself."""
    return all(path.is_dir() or path.name.startswith("x.") for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("kind", ["x.zip", "x.tar", "x.tar.gz"])
def test_every_kind_unpacks_to_its_members(
    kind: str, run: Any, tmp_path: Path, pack_zip: Any, pack_tar: Any
) -> None:
    mode = "w:gz" if kind.endswith("gz") else "w"
    content = pack_zip(FILES) if kind == "x.zip" else pack_tar(FILES, mode)
    seen: list[tuple[int, int | None]] = []
    found = run(content, kind, on_progress=lambda done, total: seen.append((done, total)))
    assert tree(tmp_path / "root") == FILES
    assert found == Unpacked(n_files=3, n_bytes=75_000, first="a/one.txt", last="three.txt")
    assert seen[-1][0] == seen[-1][1]
    assert not (tmp_path / "root" / ".staging").exists()


def test_a_second_archive_is_merged_and_replaces_files_of_its_names(
    run: Any, tmp_path: Path, pack_tar: Any
) -> None:
    run(pack_tar({"flac/1": b"one", "flac/2": b"two"}, "w"), "x.tar")
    run(pack_tar({"flac/2": b"TWO", "flac/3": b"three"}, "w"), "x.tar")
    assert tree(tmp_path / "root") == {"flac/1": b"one", "flac/2": b"TWO", "flac/3": b"three"}


def test_folders_and_a_dot_before_names_and_what_a_mac_adds_do_no_harm(
    run: Any, tmp_path: Path
) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name in (".", "./a", "./a"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        info = tarfile.TarInfo("./a/one.txt")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"ab"))
    run(raw.getvalue(), "x.tar")
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as mac:
        mac.mkdir("b")
        mac.writestr("b/two.txt", b"cd")
        mac.writestr("__MACOSX/b/._two.txt", b"junk")
    run(raw.getvalue())
    assert tree(tmp_path / "root") == {"a/one.txt": b"ab", "b/two.txt": b"cd"}


BAD_NAMES = ["../x", "/etc/x", "a/../../x", "a/..", "C:x", "C:\\x", "a\\..\\x", "a\nb", " ", "..."]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["x.zip", "x.tar.gz"])
def test_a_name_that_leaves_its_folder_refuses_the_whole_archive(
    name: str, kind: str, run: Any, tmp_path: Path, pack_zip: Any, pack_tar: Any
) -> None:
    members = {"good.txt": b"good", name: b"bad"}
    content = pack_zip(members) if kind == "x.zip" else pack_tar(members)
    with pytest.raises(BadArchiveError, match="not safe to unpack: it holds the name"):
        run(content, kind)
    assert nothing_in(tmp_path)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, run: Any, tmp_path: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        good = tarfile.TarInfo("good.txt")
        archive.addfile(good)
        info = tarfile.TarInfo("bad")
        info.type, info.linkname = kind, "good.txt"
        archive.addfile(info)
    with pytest.raises(BadArchiveError, match="'bad', which is a link, a device or sparse"):
        run(raw.getvalue(), "x.tar")
    assert nothing_in(tmp_path)


def test_a_link_in_a_zip_is_refused(run: Any, tmp_path: Path) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        info = zipfile.ZipInfo("bad")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(BadArchiveError, match="'bad', which is a link or device"):
        run(raw.getvalue())
    assert nothing_in(tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["x.zip", "x.tar"])
def test_a_name_that_appears_twice_is_refused(kind: str, run: Any) -> None:
    raw = io.BytesIO()
    if kind == "x.zip":
        with zipfile.ZipFile(raw, "w") as archive:
            archive.writestr("a", b"1")
            archive.writestr("a", b"2")
    else:
        with tarfile.open(fileobj=raw, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("a"))
            tar.addfile(tarfile.TarInfo("./a"))
    with pytest.raises(BadArchiveError, match="the name 'a' twice"):
        run(raw.getvalue(), kind)


@pytest.mark.parametrize("kind", ["x.zip", "x.tar.gz"])
def test_more_bytes_than_a_corpus_has_are_refused(
    kind: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack_tar: Any
) -> None:
    monkeypatch.setattr(_unpack, "MIN_LIMIT_BYTES", 1_000_000)
    bomb = {f"{n}.flac": bytes(300_000) for n in range(5)}
    content = pack_tar(bomb)
    if kind == "x.zip":
        raw = io.BytesIO()
        with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, zeros in bomb.items():
                archive.writestr(name, zeros)
        content = raw.getvalue()
    assert len(content) < 10_000
    with pytest.raises(BadArchiveError, match="more than 1000000 bytes when unpacked"):
        run(content, kind)
    assert nothing_in(tmp_path)


def test_more_members_than_a_corpus_has_are_refused(
    run: Any, monkeypatch: pytest.MonkeyPatch, pack_zip: Any
) -> None:
    monkeypatch.setattr(_unpack, "MAX_MEMBERS", 3)
    with pytest.raises(BadArchiveError, match="more than 3 members"):
        run(pack_zip({str(n): b"" for n in range(4)}))


def test_a_zip_that_declares_another_size_is_refused(
    run: Any, tmp_path: Path, pack_zip: Any
) -> None:
    content = pack_zip({"a.txt": b"x" * 1_000})
    for declared in (10, 2_000):
        lying = content.replace(struct.pack("<I", 1_000), struct.pack("<I", declared))
        with pytest.raises(BadArchiveError):
            run(lying)
        assert nothing_in(tmp_path)


def test_a_tar_header_that_claims_much_memory_is_refused(run: Any, tmp_path: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("a" * (2 << 20)))
    with pytest.raises(BadArchiveError, match=r"a header claims 2097153 bytes"):
        run(raw.getvalue(), "x.tar.gz")
    assert nothing_in(tmp_path)


def test_endless_bytes_after_a_tar_are_refused(
    run: Any, monkeypatch: pytest.MonkeyPatch, pack_tar: Any
) -> None:
    monkeypatch.setattr(_unpack, "_MAX_TRAILING_BYTES", 1 << 20)
    content = gzip.compress(pack_tar(FILES, "w") + bytes(4 << 20))
    with pytest.raises(BadArchiveError, match="more than 1048576 bytes after its end"):
        run(content, "x.tar.gz")


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_damage_is_told_and_leaves_nothing(
    run: Any, tmp_path: Path, pack_zip: Any, pack_tar: Any
) -> None:
    zipped, tarred = pack_zip(FILES), pack_tar(FILES)
    plain = pack_tar(FILES, "w")
    for name, content in {
        "x.zip": flipped(zipped, 1_000),  # the CRC of a member
        "x.1.zip": zipped[:-100],
        "x.2.zip": b"<html>log in</html>",
        "x.3.zip": b"",
        "x.tar.gz": flipped(tarred, len(tarred) - 6),  # the CRC of the whole
        "x.1.tar.gz": tarred[:-30],
        "x.2.tar.gz": b"not gzip",
        "x.tar": plain[:3_000],
        "x.1.tar": flipped(plain, 20),  # a header's checksum
    }.items():
        with pytest.raises(BadArchiveError, match=r"is damaged|holds no files"):
            run(content, name)
        assert nothing_in(tmp_path), name


def test_an_encrypted_zip_and_an_empty_tar_are_refused(
    run: Any, pack_zip: Any, pack_tar: Any
) -> None:
    content = bytearray(pack_zip({"a.txt": b"secret"}))
    content[6] |= 1  # the flag in the local and in the central header
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadArchiveError, match="cannot be unpacked"):
        run(bytes(content))
    with pytest.raises(BadArchiveError, match="holds no files"):
        run(pack_tar({}, "w"), "x.tar")


@pytest.mark.parametrize("kind", ["x.zip", "x.tar", "x.tar.gz"])
def test_an_interrupted_unpacking_goes_on_and_the_tree_sees_only_the_whole(
    kind: str,
    run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pack_zip: Any,
    pack_tar: Any,
) -> None:
    members = {f"flac/{n}.flac": bytes([n]) * 40_000 for n in range(6)}
    mode = "w:gz" if kind.endswith("gz") else "w"
    content = pack_zip(members) if kind == "x.zip" else pack_tar(members, mode)
    written: list[str] = []
    true_write = _unpack._Job.write

    def write(self: Any, path: Path, source: Any, n_bytes: int) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path.name)
        true_write(self, path, source, n_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(_unpack._Job, "write", write)
        with pytest.raises(KeyboardInterrupt):
            run(content, kind)
    assert not (tmp_path / "root" / "flac").exists()
    assert written == ["0.flac", "1.flac", "2.flac"]
    again: list[str] = []

    def write_again(self: Any, path: Path, source: Any, n_bytes: int) -> None:
        again.append(path.name)
        true_write(self, path, source, n_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(_unpack._Job, "write", write_again)
        assert run(content, kind).n_files == 6
    assert again == ["3.flac", "4.flac", "5.flac"]
    assert tree(tmp_path / "root") == members


def test_a_member_of_an_interrupted_zip_that_was_altered_is_written_again(
    run: Any, tmp_path: Path, pack_zip: Any
) -> None:
    staged = tmp_path / "root" / ".staging" / "members" / "a.txt"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"wrong")
    run(pack_zip({"a.txt": b"right"}))
    assert tree(tmp_path / "root") == {"a.txt": b"right"}


def test_interrupted_moving_goes_on_without_the_archive(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack_tar: Any
) -> None:
    members = {"flac/1": b"one", "flac/2": b"two"}
    (tmp_path / "root" / "flac").mkdir(parents=True)
    moved: list[Path] = []
    true_replace = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if "members" in self.parts and moved:
            raise KeyboardInterrupt
        if "members" in self.parts:
            moved.append(self)
        return true_replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(_unpack._Job, "write", lambda _, path, source, __: write(path, source))
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            run(pack_tar(members, "w"), "x.tar")
    assert tree(tmp_path / "root" / "flac") == {"1": b"one"}
    assert run(b"gone", "x.tar").n_files == 2
    assert tree(tmp_path / "root") == members


def write(path: Path, source: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read())


def test_a_full_disk_is_told_and_what_was_unpacked_is_kept(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack_zip: Any
) -> None:
    true_write = _unpack._Job.write

    def full(self: Any, path: Path, source: Any, n_bytes: int) -> None:
        if path.name == "two.txt":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        true_write(self, path, source, n_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(_unpack._Job, "write", full)
        with pytest.raises(
            OutputError, match=r"two\.txt cannot be written .*No space left"
        ) as caught:
            run(pack_zip(FILES))
    assert caught.value.fix is not None
    assert "goes on" in caught.value.fix
    assert (tmp_path / "root/.staging/members/a/one.txt").is_file()
    run(pack_zip(FILES))
    assert tree(tmp_path / "root") == FILES


def test_a_file_in_the_way_of_a_folder_is_an_output_error(
    run: Any, tmp_path: Path, pack_zip: Any
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_bytes(b"mine")
    with pytest.raises(OutputError, match="cannot be written"):
        run(pack_zip(FILES))
    assert (tmp_path / "root" / "a").read_bytes() == b"mine"
