from __future__ import annotations

import csv
import json
import os
import signal
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.errors import EnvironmentLacks, OutputError
from aasist_deploy.trainer.log import RunLog, read_rows

if TYPE_CHECKING:
    from pathlib import Path


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def write(out: Path, first: int, last: int, resume_at_step: int = 0, **options: Any) -> None:
    """Steps `first` to `last`, five an epoch."""
    with RunLog(out, resume_at_step, **options) as log:
        for step in range(first, last + 1):
            log.step(epoch=(step + 4) // 5, step=step, loss=1 / step, lr=1e-4)
            if step % 5 == 0:
                log.epoch(epoch=step // 5, step=step, dev_eer=0.5 / step, dev_min_tdcf=None)


def shown_by_tensorboard(out: Path) -> dict[tuple[str, int], float]:
    """(tag, step) -> value, of all event files in their order, as TensorBoard treats a restart.

    Records: length, its checksum, data, its checksum (TFRecord).
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    shown: dict[tuple[str, int], float] = {}
    for path in sorted((out / "tensorboard").iterdir()):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (size,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + size])
            place += 16 + size
            if event.session_log.status == SessionLog.START:
                shown = {key: value for key, value in shown.items() if key[1] < event.step}
            for value in event.summary.value:
                shown[value.tag, event.step] = value.simple_value
    return shown


def test_rows_are_json_lines_of_steps_and_epochs_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, 1, 6)
    rows = rows_of(tmp_path)
    assert [(row["kind"], row["step"]) for row in rows] == [
        ("step", 1), ("step", 2), ("step", 3), ("step", 4), ("step", 5), ("epoch", 5), ("step", 6),
    ]  # fmt: skip
    assert rows[1] == {"kind": "step", "epoch": 1, "step": 2, "loss": 0.5, "lr": 1e-4}
    assert rows[5] == {
        "kind": "epoch", "epoch": 1, "step": 5, "dev_eer": 0.1, "dev_min_tdcf": None,
    }  # fmt: skip


def test_csv_has_the_epochs_and_every_column_that_any_of_them_has(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.step(epoch=1, step=1, loss=1.0)
        log.epoch(epoch=1, step=1, dev_eer=0.25, best=True)
        log.epoch(epoch=2, step=2, dev_eer=0.5, swa_eer=0.125)
    with (tmp_path / "log.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"epoch": "1", "step": "1", "dev_eer": "0.25", "best": "True", "swa_eer": ""},
            {"epoch": "2", "step": "2", "dev_eer": "0.5", "best": "", "swa_eer": "0.125"},
        ]


@pytest.mark.parametrize("resume_at", [0, 3, 5, 7, 10, 12])
def test_resumed_log_is_the_log_of_a_run_without_a_break(tmp_path: Path, resume_at: int) -> None:
    write(tmp_path / "whole", 1, 20)
    write(tmp_path / "parts", 1, 12)
    write(tmp_path / "parts", resume_at + 1, 20, resume_at_step=resume_at)
    for name in ("log.jsonl", "log.csv"):
        assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text()
    expected = shown_by_tensorboard(tmp_path / "whole")
    assert len(expected) == 20 * 2 + 4
    assert shown_by_tensorboard(tmp_path / "parts") == expected


def test_what_lay_beyond_the_resumed_step_is_gone_before_it_is_trained_again(
    tmp_path: Path,
) -> None:
    write(tmp_path, 1, 12)
    write(tmp_path, 6, 8, resume_at_step=5)
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2, 3, 4, 5, 5, 6, 7, 8]
    assert {step for _, step in shown_by_tensorboard(tmp_path)} == set(range(1, 9))


def test_epoch_that_is_scored_again_after_a_resume_is_there_once(tmp_path: Path) -> None:
    write(tmp_path, 1, 10)
    with RunLog(tmp_path, 10) as log:
        log.epoch(epoch=2, step=10, dev_eer=0.75)
        log.step(epoch=3, step=11, loss=1.0)
    epochs = [(row["epoch"], row["dev_eer"]) for row in rows_of(tmp_path) if row["kind"] == "epoch"]
    assert epochs == [(1, 0.1), (2, 0.75)]
    assert [row["step"] for row in rows_of(tmp_path) if row["kind"] == "step"] == [*range(1, 12)]
    assert (tmp_path / "log.csv").read_text().count("\n2,") == 1


def test_line_that_a_kill_cut_off_is_removed_on_resume(tmp_path: Path) -> None:
    write(tmp_path, 1, 4)
    path = tmp_path / "log.jsonl"
    complete = path.read_bytes()
    path.write_bytes(complete[:-7])
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]
    with RunLog(tmp_path, 4) as log:
        log.step(epoch=1, step=4, loss=0.25, lr=1e-4)
    assert path.read_bytes() == complete


def test_broken_line_in_the_middle_is_named_and_the_log_left_alone(tmp_path: Path) -> None:
    write(tmp_path, 1, 3)
    path = tmp_path / "log.jsonl"
    lines = path.read_text().splitlines()
    broken = "\n".join([lines[0], lines[1][:-9], lines[2], ""])
    path.write_text(broken)
    with pytest.raises(OutputError, match="line 2, is no row of a training log"):
        RunLog(tmp_path, 3)
    assert path.read_text() == broken
    for content in ('{"kind": "step"}', "[]", "7"):
        path.write_text(content + "\n")
        with pytest.raises(OutputError, match="line 1"):
            read_rows(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_value_that_json_has_no_word_for_is_null(tmp_path: Path, value: float | None) -> None:
    write(tmp_path, 1, 1)
    with RunLog(tmp_path, 1) as log:
        log.step(epoch=1, step=2, loss=value)
    assert '"loss": null}' in (tmp_path / "log.jsonl").read_text()
    assert ("step/loss", 2) not in shown_by_tensorboard(tmp_path)
    assert ("step/loss", 1) in shown_by_tensorboard(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from aasist_deploy.trainer.log import RunLog
log = RunLog(Path(sys.argv[1]))
for step in range(1, 8):
    log.step(epoch=1, step=step, loss=0.5)
    if step == 5:
        log.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_process_loses_no_row_and_no_event_before_a_flush(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED, str(tmp_path)], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert [row["step"] for row in rows_of(tmp_path)] == [*range(1, 8)]
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert events.stat().st_size > 0
    assert {step for _, step in shown_by_tensorboard(tmp_path)} >= {1, 2, 3, 4, 5}


def test_log_without_tensorboard_writes_no_events(tmp_path: Path) -> None:
    write(tmp_path, 1, 6, tensorboard=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "log.jsonl"]


def test_missing_package_is_named_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1, 3)
    before = (tmp_path / "log.jsonl").read_bytes()
    monkeypatch.delitem(sys.modules, "aasist_deploy.trainer._event_file", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(EnvironmentLacks, match="the package tensorboardX, which is not installed"):
        RunLog(tmp_path)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    write(tmp_path, 1, 3, tensorboard=False)


def test_full_disk_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RunLog(tmp_path, tensorboard=False)
    log.step(epoch=1, step=1, loss=0.5)
    real = log._file
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(log, "_file", os.fdopen(full, "wb", buffering=0))
    with pytest.raises(OutputError, match="No space left on device"):
        log.step(epoch=1, step=2, loss=0.5)
    log._file.close()
    real.close()
    assert [row["step"] for row in rows_of(tmp_path)] == [1]


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        RunLog(tmp_path / "file" / "run")


def test_closing_twice_does_nothing(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.close()
    log.close()
