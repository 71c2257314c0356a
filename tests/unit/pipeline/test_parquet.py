"""A Parquet file is made of rows that are rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aasist_deploy.errors import UsageError
from aasist_deploy.pipeline.parquet import write_parquet
from aasist_deploy.scores import RowColumns

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pyarrow", reason="needs the extra parquet")


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"3", b"{}", b"\xff", b"[" * 100_000, b'{"path": "a", "score": "high"}']
)
def test_rows_that_are_none_are_one_error_and_leave_no_file(line: bytes, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(line + b"\n")
    columns = RowColumns(calibrated=False, window="first 800")
    with pytest.raises(UsageError, match=r"A row in .*rows\.jsonl cannot be read"):
        write_parquet(rows, tmp_path / "o.parquet", columns, len(line) + 1)
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]
