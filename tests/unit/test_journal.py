"""A journaled file survives being cut off anywhere, and is continued only by the same run."""

from __future__ import annotations

import fcntl
import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.errors import OutputError, UsageError
from aasist_deploy.journal import JournaledFile, chained, journal_of, open_journaled, read_journal

if TYPE_CHECKING:
    from pathlib import Path

RUN = {"model": "a", "batch": 8}
HEADER = b"name,score\n"
GROUPS = [b"a,1\nb,2\n", b"c,3\n", b"d,4\ne,5\nf,6\n", b"g,7\n"]
WHOLE = HEADER + b"".join(GROUPS)


class CutError(Exception):
    """Stands for the end of a process: nothing that comes after it happens."""


def write(path: Path, *, resume: bool, run: dict[str, Any] = RUN) -> None:
    with open_journaled(path, run, HEADER, resume=resume) as file:
        done = file.reached.n_inputs
        for index, group in enumerate(GROUPS):
            if index >= done:
                file.append(group, n_inputs=1, n_failed=0, inputs=f"after {index}")
        file.finish()


@pytest.fixture(autouse=True)
def _sync_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aasist_deploy.journal._writing.SYNC_EVERY_S", 0.0)


def cut_run(path: Path, monkeypatch: pytest.MonkeyPatch, n_writes: int, part: float) -> bool:
    """A run that ends within its n-th write, of which a part was done; whether it got so far."""
    real, count = os.write, itertools.count()

    def write_part(descriptor: int, data: Any) -> int:
        if next(count) < n_writes:
            return real(descriptor, data)
        real(descriptor, bytes(data)[: int(part * len(data))])
        raise CutError

    def gone(file: Any) -> None:
        """After a cut nothing is repaired: the process is no more."""
        os.close(file._rows)
        os.close(file._journal)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_part)
        patch.setattr(JournaledFile, "close", gone)
        try:
            write(path, resume=True)
        except CutError:
            return True
    return False


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_run_cut_within_any_write_and_resumed_gives_the_bytes_of_a_whole_run(
    part: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n_writes in itertools.count():
        path = tmp_path / f"{n_writes}.csv"
        cut = cut_run(path, monkeypatch, n_writes, part)
        write(path, resume=True)
        assert path.read_bytes() == WHOLE, n_writes
        if not cut:
            break
    assert n_writes == 11  # header, two journal lines at once, four groups and their lines, done


def test_run_cut_again_and_again_at_growing_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.csv"
    while cut_run(path, monkeypatch, 2, 0.5):  # each run does one group and half of the next line
        pass
    assert path.read_bytes() == WHOLE


def test_rows_that_the_power_took_with_it_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, resume=False)
    lines = journal_of(path).read_bytes().splitlines(keepends=True)
    for kept in range(2, len(lines)):  # the run, and at least the header
        journal_of(path).write_bytes(b"".join(lines[:kept]) + lines[kept][:-7])
        found = read_journal(path)
        assert found is not None
        path.write_bytes(WHOLE[: found[1].n_bytes] + b"\0\0\0")  # what some file systems leave
        write(path, resume=True)
        assert path.read_bytes() == WHOLE


def test_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, resume=False)
    before = journal_of(path).read_bytes()
    write(path, resume=True)
    assert journal_of(path).read_bytes() == before
    found = read_journal(path)
    assert found is not None
    assert found[1].done


def test_another_run_is_refused_with_the_values_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, resume=False)
    with pytest.raises(UsageError, match="batch: 8 then, 4 now"):
        write(path, resume=True, run={**RUN, "batch": 4})
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize(
    "changed", [WHOLE.replace(b"c,3", b"c,9"), WHOLE[:-1]], ids=["other", "shorter"]
)
def test_output_that_was_changed_is_refused(changed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, resume=False)
    path.write_bytes(changed)
    with pytest.raises(UsageError, match="changed after the run"):
        write(path, resume=True)
    assert path.read_bytes() == changed


def test_output_without_a_journal_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("something else\n")
    with pytest.raises(UsageError, match="no journal beside it"):
        write(path, resume=True)
    assert path.read_text() == "something else\n"
    assert not journal_of(path).exists()


def test_output_that_is_gone_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, resume=False)
    path.unlink()
    with pytest.raises(UsageError, match="is gone"):
        write(path, resume=True)


def test_rows_of_a_stopped_run_are_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.csv"
    cut_run(path, monkeypatch, 6, 0.0)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="2 rows of a run that was stopped"):
        write(path, resume=False)
    assert path.read_bytes() == before
    write(path, resume=True)
    write(path, resume=False)  # a finished run is replaced, as files are
    assert path.read_bytes() == WHOLE


def test_two_processes_do_not_write_one_output(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path, resume=False)
    with journal_of(path).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="Another process is writing"):
            write(path, resume=True)


def test_foreign_journal_is_not_overwritten_by_a_resumed_run(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    journal_of(path).write_text("notes of my own\n")
    with pytest.raises(UsageError, match="no journal of a run"):
        write(path, resume=True)


def test_full_disk_leaves_whole_rows_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.csv"
    real, left = os.write, [len(HEADER) + 10]

    def limited(descriptor: int, data: Any) -> int:
        if os.fstat(descriptor).st_ino != path.stat().st_ino:
            return real(descriptor, data)
        if not left[0]:
            raise OSError(28, "No space left on device")
        n = real(descriptor, bytes(data)[: left[0]])
        left[0] -= n
        return n

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", limited)
        with pytest.raises(
            OutputError, match=r"No space left.* holds the rows of 1 inputs"
        ) as full:
            write(path, resume=False)
    assert "--resume" in (full.value.fix or "")
    assert path.read_bytes() == HEADER + GROUPS[0]
    write(path, resume=True)
    assert path.read_bytes() == WHOLE


def test_hash_of_a_sequence_depends_on_its_order_and_borders() -> None:
    def of(*stamps: str) -> str:
        hashed = ""
        for stamp in stamps:
            hashed = chained(hashed, stamp)
        return hashed

    assert len({of("a", "b"), of("b", "a"), of("ab"), of("a"), of("a", "b", "")}) == 5
    assert of("\udce9") != of("\udcea")  # names that are not UTF-8
