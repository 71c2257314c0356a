from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.bench import BENCH_SCHEMA, check_same_machine, read_earlier
from aasist_deploy.bench.ratios import drift_notes, paired_ratio, unpaired_ratio
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

HERE = {"cpu": "Fast", "features": [], "cores": 2, "cpu_quota": None, "system": "Linux"}


def test_a_paired_ratio_is_not_moved_by_what_slows_whole_rounds() -> None:
    ours = [1.0, 5.0, 1.0, 3.0]
    ratio = paired_ratio([2 * s for s in ours], ours)
    assert (ratio.low, ratio.median, ratio.high) == (2, 2, 2)
    wide = unpaired_ratio([2 * s for s in ours], ours)
    assert wide.low < 1 < wide.high
    assert not wide.paired


def test_a_ratio_over_one_is_faster_than_the_baseline() -> None:
    assert paired_ratio([3.0], [1.0]).median == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "its schema is not given"),
        ('{"schema": "other/1"}', "its schema is other/1"),
    ],
)
def test_a_baseline_that_is_no_result_is_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_earlier(path)


def test_an_earlier_result_is_read(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"schema": BENCH_SCHEMA, "rows": []}))
    assert read_earlier(path)["rows"] == []


@pytest.mark.parametrize(
    ("machine", "threads", "message"),
    [
        ({"cpu": "Slow"}, 2, "cpu 'Slow' then and 'Fast' now"),
        ({"cores": 8}, 2, "cores 8 then and 2 now"),
        ({}, 1, "1 threads then and 2 now"),
    ],
)
def test_other_machines_are_not_compared(
    machine: dict[str, Any], threads: int, message: str
) -> None:
    earlier = {"machine": {**HERE, **machine}, "threads": threads}
    with pytest.raises(UsageError, match=message):
        check_same_machine(earlier, HERE, 2)


def test_the_same_machine_under_another_load_is_compared() -> None:
    check_same_machine({"machine": {**HERE, "load_average": 9}, "threads": 2}, HERE, 2)


def test_a_machine_that_was_faster_then_is_noted() -> None:
    earlier = {
        "matrix_products": [{"precision": "fp32", "tool": "numpy", "operations_per_second": 2e11}]
    }
    assert drift_notes(earlier, {"fp32, numpy": 1.9e11}) == []
    (note,) = drift_notes(earlier, {"fp32, numpy": 1e11})
    assert "200 GFLOP/s then and 100 now" in note
