"""What inputs stand for: archives are streamed, names kept on disk, everything comes once."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from aasist_deploy.errors import EnvironmentLacks, TrialsError, UsageError
from aasist_deploy.inputs import AudioInput, NamedInputs, audio_inside
from aasist_deploy.pipeline import score_files
from tests.clips import wav_of


def write_tar(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "../../etc/passwd"
    return info


def names_of(*typed: str | os.PathLike[str]) -> list[str]:
    with NamedInputs(typed) as named:
        return [str(source.path) for source in named]


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")]
)
def test_audio_in_a_tar_archive_is_scored_in_its_order(
    suffix: str, mode: str, tmp_path: Path, fake_engine: Any
) -> None:
    members: dict[str, Any] = {
        "b/2.wav": wav_of(0.2),
        "b/2.json": b"{}",
        "a/1.WAV": wav_of(0.1),
        "a/._1.wav": b"a Mac's own notes",
        "3.flac": b"no audio",
    }
    path = write_tar(tmp_path / f"x{suffix}", members, mode)
    with NamedInputs([path]) as named:
        assert named.n_files is None
        rows = list(score_files(fake_engine(), named))
    assert [str(row.path) for row in rows] == [
        f"{path}/{n}" for n in ("b/2.wav", "a/1.WAV", "3.flac")
    ]
    assert [row.score for row in rows[:2]] == pytest.approx([2.0, 1.0], abs=1e-5)
    assert f"{path}/3.flac cannot be decoded" in str(rows[2].error)
    assert not [p for p in tmp_path.iterdir() if p != path]  # nothing was unpacked


def test_names_in_archives_open_nothing(tmp_path: Path, fake_engine: Any) -> None:
    outside = tmp_path / "outside.wav"
    outside.write_bytes(wav_of(0.5))
    (tmp_path / "in").mkdir()
    members: dict[str, Any] = {
        "../outside.wav": b"",
        str(outside): wav_of(0.1),
        "s.wav": link("s.wav", tarfile.SYMTYPE),
        "h.wav": link("h.wav", tarfile.LNKTYPE),
        "d.wav": link("d.wav", tarfile.CHRTYPE),
    }
    path = write_tar(tmp_path / "in" / "x.tar", members)
    with NamedInputs([path]) as named:
        rows = list(score_files(fake_engine(), named))
    assert "is empty (0 bytes)" in str(rows[0].error)
    assert rows[1].score == pytest.approx(1.0, abs=1e-5)  # of the archive, not of the disk
    assert all("is a link or device in its archive" in str(row.error) for row in rows[2:])
    assert len(rows) == 5


@pytest.mark.parametrize("cut", [0, 700, 5_000])
def test_damaged_archive_gives_what_came_before_and_a_last_row_with_the_reason(
    cut: int, tmp_path: Path, fake_engine: Any
) -> None:
    path = write_tar(tmp_path / "x.tar", {f"{i}.wav": wav_of() for i in range(3)})
    path.write_bytes(path.read_bytes()[:cut])
    rows = list(score_files(fake_engine(), audio_inside(path)))
    assert rows[-1].path == path
    assert "cannot be read further" in str(rows[-1].error)
    assert all(row.error is None for row in rows[:-1])
    assert len(rows) == (2 if cut == 5_000 else 1)


def test_archive_without_audio_is_a_row_with_its_error(tmp_path: Path) -> None:
    (one,) = audio_inside(write_tar(tmp_path / "x.tar", {"a.txt": b"text"}))
    assert one.error == f"{tmp_path / 'x.tar'} holds no audio file."


def test_large_member_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aasist_deploy.inputs import _archives

    monkeypatch.setattr(_archives, "MAX_MEMBER_BYTES", 100)
    large, small = audio_inside(write_tar(tmp_path / "x.tar", {"a.wav": wav_of(), "b.wav": b"b"}))
    assert large.content is None
    assert "at most 100 are read" in str(large.error)
    assert small.content == b"b"


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    pa = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def test_audio_in_parquet_is_scored_under_its_names(tmp_path: Path, fake_engine: Any) -> None:
    audio = [wav_of(0.1), wav_of(0.2), None]
    structs = [{"bytes": b, "path": f"{i}.wav"} for i, b in enumerate(audio)]
    tables: dict[str, tuple[dict[str, Any], list[str]]] = {
        "structs": ({"audio": structs, "label": [1, 2, 3]}, ["0.wav", "1.wav", "2.wav"]),
        "bytes": ({"audio": audio, "other": audio, "id": ["x", "y", "z"]}, ["x", "y", "z"]),
        "only": ({"sound": audio}, ["0", "1", "2"]),
    }
    for name, (columns, shown) in tables.items():
        path = parquet(tmp_path / f"{name}.parquet", columns)
        rows = list(score_files(fake_engine(), audio_inside(path)))
        assert [str(row.path) for row in rows] == [f"{path}/{one}" for one in shown]
        assert [row.score for row in rows[:2]] == pytest.approx([1.0, 2.0], abs=1e-5)
        assert "holds no bytes" in str(rows[2].error)


@pytest.mark.parametrize("kind", ["no column", "no parquet", "no rows"])
def test_parquet_without_audio_is_a_row_with_its_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    if kind == "no parquet":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
        path.write_bytes(b"PAR1 and nothing of it")
    else:
        pa = pytest.importorskip("pyarrow", reason="needs the extra parquet")
        none: Any = pa.array([], pa.binary())
        parquet(path, {"label": [1]} if kind == "no column" else {"audio": none})
    (one,) = audio_inside(path)
    assert one.error is not None
    assert str(path) in one.error


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EnvironmentLacks, match="pyarrow"):
        list(audio_inside(tmp_path / "x.parquet"))


def test_each_path_comes_once_and_lists_hold_any_name(tmp_path: Path) -> None:
    names = ["a.wav", os.fsdecode(b"caf\xe9.wav"), "b, c.wav"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    listed = tmp_path / "l.txt"
    paths = [str(tmp_path / name) for name in names]
    listed.write_bytes(b"".join(os.fsencode(path) + b"\n" for path in [*paths, *paths]))
    assert names_of(listed, tmp_path / "a.wav", tmp_path) == paths
    with NamedInputs([listed]) as named:
        assert named.n_files == 3
        assert [str(source.path) for source in named] == paths
        assert [str(source.path) for source in named] == paths  # as often as wanted


def test_many_names_come_out_as_they_went_in(tmp_path: Path) -> None:
    listed = tmp_path / "l.lst"
    lines = [f"/none/{'x' * (1 + i % 90)}/{i}.wav" for i in range(25_000)]
    listed.write_text("\n".join(lines))
    assert names_of(listed) == lines


def test_digest_is_of_names_their_order_and_of_archives(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"x")
    tar = write_tar(tmp_path / "x.tar", {"a.wav": b"x"})

    def digest(*typed: Path) -> str:
        with NamedInputs(typed) as named:
            return named.digest

    a, b = tmp_path / "a.wav", tmp_path / "b.wav"
    found = [digest(a, b), digest(b, a), digest(a), digest(tar)]
    write_tar(tar, {"a.wav": b"x", "c.wav": b"y" * 20_000})
    assert len({*found, digest(tar)}) == 5
    assert digest(a, b) == found[0]


def test_nothing_named_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="matches nothing"):
        NamedInputs([f"{tmp_path}/*.wav"])


def test_stamp_tells_a_changed_file_and_changed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    stamps = [AudioInput(path).stamp()]
    for content in (b"x", b"xy"):
        path.write_bytes(content)
        stamps.append(AudioInput(path).stamp())
    os.utime(path, ns=(5, 5))
    stamps.append(AudioInput(path).stamp())
    stamps += [AudioInput(path, content=content).stamp() for content in (b"x", b"y", b"yy")]
    stamps.append(AudioInput(Path("other"), content=b"x").stamp())
    assert len(set(stamps)) == len(stamps)


@pytest.mark.parametrize(
    "text",
    [
        "LA_1 E1 - A07 spoof\nLA_2 E2 - - bonafide\n",
        "E1\nE2\n",
        "LA_1 E1 alaw ita_tx A07 spoof notrim eval\nLA_2 E2 - - bonafide bonafide notrim eval\n",
        "s E1 F - - - AC1 A19 spoof -\ns E2 F - - - - bonafide bonafide -\n",
    ],
    ids=["2019", "names", "2021", "5"],
)
@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_protocol_names_the_files_of_its_root_in_its_order(
    text: str, suffix: str, tmp_path: Path
) -> None:
    (tmp_path / "protocol.txt").write_text(text)
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / f"E1{suffix}").touch()
    with NamedInputs([tmp_path / "protocol.txt"], root=tmp_path / "audio") as named:
        paths = [source.path for source in named]
    assert paths == [tmp_path / "audio" / f"{name}{suffix}" for name in ("E1", "E2")]


@pytest.mark.parametrize("name", ["../E1", "/etc/passwd", "a/b", ".."])
def test_protocol_never_leaves_its_root(name: str, tmp_path: Path) -> None:
    for text in (f"{name}\n", f"LA_1 {name} - A07 spoof\n"):
        (tmp_path / "protocol.txt").write_text(text)
        with pytest.raises(TrialsError, match="not a plain"):
            NamedInputs([tmp_path / "protocol.txt"], root=tmp_path)


def test_root_that_is_no_folder_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "protocol.txt").write_text("E1\n")
    with pytest.raises(UsageError, match="is no folder"):
        NamedInputs([tmp_path / "protocol.txt"], root=tmp_path / "none")
