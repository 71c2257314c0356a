from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.errors import OutputError, UsageError
from aasist_deploy.journal import entry_of
from aasist_deploy.streaming.journal import Place, RowsFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUN = {"hop_samples": 400, "files": ["a.wav", "b.wav"]}


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., RowsFile]:
    def open_(*, resume: bool = False, run: dict[str, Any] | None = None) -> RowsFile:
        return RowsFile(tmp_path / "out.jsonl", run or RUN, "head\n", resume=resume)

    return open_


def test_rows_behind_the_last_place_are_dropped(
    rows: Callable[..., RowsFile], tmp_path: Path
) -> None:
    with rows() as first:
        first.write("one\n")
        first.reach(Place(0, 1, 64))
        first.write("two\n")
        first.write("th")  # cut off
    with rows(resume=True) as again:
        assert again.place == Place(0, 1, 64)
        assert list(again.lines()) == ["head\n", "one\n"]
        again.write("TWO\n")
    assert (tmp_path / "out.jsonl").read_text() == "head\none\nTWO\n"


def test_a_line_of_the_journal_that_was_cut_off_is_not_counted(
    rows: Callable[..., RowsFile], tmp_path: Path
) -> None:
    with rows() as first:
        first.write("one\n")
        first.reach(Place(0, 0, 64))
        first.write("two\n")
        first.reach(Place(0, 0, 128))
    journal = tmp_path / "out.jsonl.journal"
    journal.write_bytes(journal.read_bytes()[:-9])
    with rows(resume=True) as again:
        assert again.place == Place(0, 0, 64)
        again.write("two\n")
        again.reach(Place(0, 0, 128))
    with rows(resume=True) as third:
        assert third.place == Place(0, 0, 128)


@pytest.mark.parametrize("n_kept", [0, 5])
def test_a_run_that_ended_before_its_first_line_begins_anew(
    rows: Callable[..., RowsFile], tmp_path: Path, n_kept: int
) -> None:
    with rows():
        pass
    journal = tmp_path / "out.jsonl.journal"
    journal.write_bytes(journal.read_bytes()[:n_kept])
    (tmp_path / "out.jsonl").write_bytes(b"")
    with rows(resume=True) as again:
        assert list(again.lines()) == ["head\n"]
    first = entry_of(journal.read_bytes().splitlines(keepends=True)[0])
    assert first is not None
    assert first["run"] == RUN


def test_rows_that_are_there_are_never_overwritten_without_resume(
    rows: Callable[..., RowsFile], tmp_path: Path
) -> None:
    with rows() as first:
        first.write("one\n")
    with pytest.raises(UsageError, match="exists") as raised:
        rows()
    assert "--resume" in str(raised.value.fix)
    assert (tmp_path / "out.jsonl").read_text() == "head\none\n"


def test_resume_without_a_run_begins_one(rows: Callable[..., RowsFile]) -> None:
    with rows(resume=True) as first:
        assert first.place == Place()
        assert list(first.lines()) == ["head\n"]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({**RUN, "hop_samples": 800}, "hop_samples: 400 then, 800 now"),
        ({**RUN, "files": ["a.wav"]}, "files"),
        ({**RUN, "new": 1}, "new: None then, 1 now"),
    ],
)
def test_another_run_is_refused_by_what_differs(
    rows: Callable[..., RowsFile], run: dict[str, Any], message: str
) -> None:
    rows().__exit__(None, None, None)
    with pytest.raises(UsageError, match=message):
        rows(resume=True, run=run)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("head\nONE\n", "differs from what was written"),
        ("head\n", "is 4 bytes shorter"),
        ("", "9 bytes shorter"),
    ],
)
def test_rows_that_were_changed_are_refused(
    rows: Callable[..., RowsFile], tmp_path: Path, content: str, reason: str
) -> None:
    with rows() as first:
        first.write("one\n")
        first.reach(Place(0, 0, 64))
    (tmp_path / "out.jsonl").write_text(content)
    with pytest.raises(UsageError, match=reason):
        rows(resume=True)


def test_rows_without_a_journal_are_refused(rows: Callable[..., RowsFile], tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("something of the user\n")
    with pytest.raises(UsageError, match="no journal"):
        rows(resume=True)
    assert (tmp_path / "out.jsonl").read_text() == "something of the user\n"
    assert not (tmp_path / "out.jsonl.journal").exists()


def test_an_input_that_changed_since_is_refused(
    rows: Callable[..., RowsFile], tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"before")
    with rows() as first:
        first.begin(0, path)
    with rows(resume=True) as again:
        again.begin(0, path)
    path.write_bytes(b"after")
    with rows(resume=True) as third, pytest.raises(UsageError, match="has changed since"):
        third.begin(0, path)


def test_what_was_noted_of_an_input_is_kept(rows: Callable[..., RowsFile]) -> None:
    with rows() as first:
        first.reach(Place(1), {"seconds": 2.5})
    with rows(resume=True) as again:
        assert (again.ended(0), again.ended(1)) == ({"seconds": 2.5}, None)


def test_two_processes_do_not_write_one_output(rows: Callable[..., RowsFile]) -> None:
    with rows(), pytest.raises(OutputError, match="Another process"):
        rows(resume=True)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        RowsFile(tmp_path / "none" / "out.jsonl", RUN, "", resume=False)


def test_a_full_disk_is_said_and_leaves_whole_rows(
    rows: Callable[..., RowsFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        real(descriptor, bytes(data)[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with rows() as first:
        first.write("one\n")
        first.reach(Place(0, 0, 64))
        first.write("two\n")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            with pytest.raises(OutputError, match="No space left"):
                first.reach(Place(0, 0, 128))
            with pytest.raises(OutputError, match="No space left") as raised:
                first.write("three\n")
    assert "--resume goes on" in str(raised.value.fix)
    assert (tmp_path / "out.jsonl").read_text() == "head\none\ntwo\n"
    with rows(resume=True) as again:
        assert again.place == Place(0, 0, 64)
        again.write("two\n")
        again.reach(Place(0, 0, 128))
    with rows(resume=True) as third:
        assert third.place == Place(0, 0, 128)
