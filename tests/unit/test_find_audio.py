"""find_audio: what a user types becomes the paths that they meant, in order, once each."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aasist_deploy.audio import find_audio, read_audio
from aasist_deploy.errors import AudioError, UsageError


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with four audio files and things that are none."""
    for name in ("b.wav", "a/2.FLAC", "a/1.flac", "a/c/3.mp3", "a/notes.md", "a/._1.flac"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.wav").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*inputs: str | Path) -> list[str]:
    return [str(path) for path in find_audio(inputs)]


@pytest.mark.usefixtures("corpus")
def test_a_folder_gives_its_audio_sorted_and_no_hidden_names() -> None:
    assert found(".") == ["b.wav", "a/1.flac", "a/2.FLAC", "a/c/3.mp3"]


@pytest.mark.usefixtures("corpus")
def test_a_file_is_taken_whatever_its_suffix() -> None:
    assert found("a/notes.md", "a/._1.flac") == ["a/notes.md", "a/._1.flac"]


@pytest.mark.usefixtures("corpus")
def test_patterns_expand_as_in_a_shell() -> None:
    assert found("a/*.flac") == ["a/1.flac"]
    assert found("**/*.mp3") == ["a/c/3.mp3"]
    assert found("?.wav", "a/[12].*") == ["b.wav", "a/1.flac", "a/2.FLAC"]


def test_absolute_patterns_and_folders_that_match(corpus: Path) -> None:
    assert found(f"{corpus}/a/c*") == [f"{corpus}/a/c/3.mp3"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(corpus: Path) -> None:
    (corpus / "take[1].wav").touch()
    assert found("take[1].wav") == ["take[1].wav"]


@pytest.mark.usefixtures("corpus")
def test_a_path_that_comes_twice_is_yielded_once_at_its_first_place() -> None:
    assert found("a/2.FLAC", "a", "./a/../b.wav", "b.wav") == [
        "a/2.FLAC",
        "a/1.flac",
        "a/c/3.mp3",
        "a/../b.wav",
    ]


def test_link_loops_end_and_linked_folders_are_read(corpus: Path, tmp_path: Path) -> None:
    (corpus / "a" / "up").symlink_to(corpus)
    (corpus / "a" / "self").symlink_to(corpus / "a")
    away = tmp_path / ".away"
    away.mkdir()
    (away / "z.wav").touch()
    (corpus / "a" / "zz").symlink_to(away)
    assert found("a") == [
        "a/1.flac",
        "a/2.FLAC",
        "a/c/3.mp3",
        "a/up/b.wav",
        "a/zz/z.wav",
    ]


def test_a_folder_that_cannot_be_read_is_named_in_the_place_of_its_files(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpus / "a" / "locked").mkdir()
    list_folder = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert found("a") == ["a/1.flac", "a/2.FLAC", "a/c/3.mp3", "a/locked"]
    assert found("a/locked", "b.wav") == ["a/locked", "b.wav"]
    with pytest.raises(AudioError, match=r"'a/locked' cannot be read \(Permission denied\)"):
        read_audio(Path("a/locked"))


@pytest.mark.parametrize("typed", ["files.txt", "files.lst", "@files.any"])
def test_a_list_names_files_that_need_not_exist(corpus: Path, typed: str) -> None:
    name = typed.removeprefix("@")
    (corpus / name).write_bytes(
        b"\xef\xbb\xbfb.wav\r\n\n# a comment\r\nmissing one.wav\na/1.flac\n"
    )
    assert found(typed) == ["b.wav", "missing one.wav", "a/1.flac"]


def test_a_list_falls_back_to_its_own_folder(corpus: Path) -> None:
    (corpus / "a" / "list.txt").write_text("1.flac\nb.wav\nc/3.mp3\nnowhere.wav\n")
    assert found("a/list.txt") == ["a/1.flac", "b.wav", "a/c/3.mp3", "nowhere.wav"]


@pytest.mark.usefixtures("corpus")
def test_a_dash_is_a_list_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = io.BytesIO(os.fsencode("b.wav\na/ü.wav\n") + b"\xff.wav")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=lines))
    assert found("-") == ["b.wav", "a/ü.wav", os.fsdecode(b"\xff.wav")]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("nope.wav", "no file or folder 'nope.wav'"),
        ("", "no file or folder ''"),
        ("*.opus", "pattern '\\*.opus' matches nothing"),
        ("@nope.txt", "no list file 'nope.txt'"),
    ],
)
@pytest.mark.usefixtures("corpus")
def test_what_names_nothing_is_reported_before_anything_is_yielded(typed: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_audio(["b.wav", typed])


def test_empty_folders_and_lists_are_reported(corpus: Path) -> None:
    (corpus / "void").mkdir()
    (corpus / "void.txt").write_text("\n# nothing\n")
    (corpus / "audio.txt").write_bytes(b"RIFF\0\0\0\0")
    for typed, words in (
        ("void", "folder 'void' holds no audio"),
        ("void.txt", "list 'void.txt' names no file"),
        ("audio.txt", r"list 'audio.txt' is no text file \(line 1\)"),
    ):
        with pytest.raises(UsageError, match=words):
            found(typed)


def test_no_input_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="No audio files"):
        find_audio([])


def test_finding_is_lazy(corpus: Path) -> None:
    paths = find_audio(["b.wav", "a"])
    assert next(paths) == Path("b.wav")
    (corpus / "a" / "0.wav").touch()
    assert next(paths) == Path("a/0.wav")
