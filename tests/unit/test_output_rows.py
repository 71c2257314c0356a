from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import EnvironmentLacks, OutputError, UsageError
from aasist_deploy.scores import RowFormat, format_of, open_rows, read_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

BYTES_NAME = os.fsdecode(b"caf\xe9.wav")  # Latin-1: no valid UTF-8
NAMES = ("plain.wav", "a, b.wav", 'quo"te.wav', "two\nlines.wav", "ünï 日本.wav", BYTES_NAME)


@dataclass(frozen=True)
class Row:
    path: Path
    score: float | None = None
    error: str | None = None
    seconds: float | None = None


def rows_of(names: Sequence[str]) -> list[Row]:
    rows = [Row(Path(n), score=1 / 3 + i, seconds=0.1) for i, n in enumerate(names)]
    return [*rows, Row(Path("broken" + names[-1]), error=f"{names[-1]} cannot be decoded, sorry.")]


def written(path: Path, row_format: RowFormat, rows: Sequence[Row]) -> Path:
    with open_rows(path, row_format) as writer:
        for row in rows:
            writer.write(row)
    return path


def test_csv_reads_back_with_every_kind_of_name(tmp_path: Path) -> None:
    rows = rows_of(NAMES)
    path = written(tmp_path / "x.csv", "csv", rows)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["path", "score", "error", "seconds"]
    assert [row["path"] for row in read] == [str(row.path) for row in rows]
    assert [row["score"] for row in read[:-1]] == [repr(row.score) for row in rows[:-1]]
    assert read[-1]["score"] == read[-1]["seconds"] == ""
    assert read[-1]["error"] == rows[-1].error
    assert BYTES_NAME.encode(errors="surrogateescape") in path.read_bytes()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.binary(min_size=1, max_size=12).filter(lambda b: b"\0" not in b and b"/" not in b),
        min_size=1,
        max_size=5,
    )
)
@example(names=[b"\r", b"a\rb", b"\n"])
def test_csv_and_jsonl_hold_any_file_name(names: list[bytes], tmp_path: Path) -> None:
    paths = [Path(os.fsdecode(name)) for name in names]
    rows = [Row(path, score=0.5, seconds=1.0) for path in paths]
    target = written(tmp_path / "x.csv", "csv", rows)
    with target.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert [Path(row["path"]) for row in csv.DictReader(file)] == paths
    lines = written(tmp_path / "x.jsonl", "jsonl", rows).read_text().splitlines()
    assert [Path(json.loads(line)["path"]) for line in lines] == paths


def test_jsonl_has_null_for_what_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", "jsonl", rows_of(NAMES))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {tuple(line) for line in lines} == {("path", "score", "error", "seconds")}
    assert [line["path"] for line in lines[:-1]] == list(NAMES)
    assert lines[0] == {"path": "plain.wav", "score": 1 / 3, "error": None, "seconds": 0.1}
    assert lines[-1]["score"] is None
    assert lines[-1]["seconds"] is None
    assert lines[-1]["error"].endswith("sorry.")


def test_parquet_reads_back_with_every_kind_of_name(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    path = written(tmp_path / "x.parquet", "parquet", rows_of(NAMES))
    table = pq.read_table(path)
    assert [(f.name, str(f.type)) for f in table.schema] == [
        ("path", "string"),
        ("score", "double"),
        ("error", "string"),
        ("seconds", "double"),
    ]
    rows = table.to_pylist()
    assert [row["path"] for row in rows[:-1]] == [*NAMES[:-1], "caf\\udce9.wav"]
    assert rows[0] == {"path": "plain.wav", "score": 1 / 3, "error": None, "seconds": 0.1}
    assert rows[-1]["score"] is None
    assert rows[-1]["error"] == "caf\\udce9.wav cannot be decoded, sorry."


def test_parquet_keeps_what_was_written_before_a_failure(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    path = tmp_path / "x.parquet"

    def stopped() -> None:
        with open_rows(path, "parquet") as writer:
            writer.write(Row(Path("a.wav"), score=1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert pq.read_table(path).num_rows == 1


def test_text_has_lines_of_what_was_scored_only_and_reads_back(tmp_path: Path) -> None:
    rows = [
        Row(Path("d/u1.flac"), score=1 / 3),
        Row(Path("d/u2.flac"), error="broken"),
        Row(Path("d/u3.flac"), score=-2.0),
    ]
    path = written(tmp_path / "x.txt", "txt", rows)
    assert path.read_text() == f"u1 {1 / 3!r}\nu3 -2.0\n"
    assert read_scores(path).utterances == ("u1", "u3")


def test_text_refuses_a_name_with_blanks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has blanks in its name"):
        written(tmp_path / "x.txt", "txt", [Row(Path("two words.wav"), score=1.0)])


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_every_row_is_on_disk_before_the_next_is_made(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with open_rows(path, format_of(path, None)) as writer:
        writer.write(Row(Path("a.wav"), score=1.0))
        assert "a.wav" in path.read_text()


def test_metrics_reads_the_csv_and_jsonl_that_score_writes(tmp_path: Path) -> None:
    rows = [Row(Path("u1.wav"), score=1.5, seconds=1.0), Row(Path("u2.wav"), score=-1.0)]
    for name in ("x.csv", "x.jsonl"):
        path = tmp_path / name
        table = read_scores(written(path, format_of(path, None), rows))
        assert table.utterances == ("u1", "u2")
        assert table.scores.tolist() == [1.5, -1.0]


@pytest.mark.parametrize(
    ("output", "wanted", "expected"),
    [
        (None, None, "csv"),
        (None, "jsonl", "jsonl"),
        (Path("a.csv"), None, "csv"),
        (Path("a.ndjson"), None, "jsonl"),
        (Path("a.parquet"), None, "parquet"),
        (Path("a.txt"), None, "txt"),
        (Path("a.dat"), "csv", "csv"),
    ],
)
def test_format_is_the_one_asked_for_or_that_of_the_suffix(
    output: Path | None, wanted: RowFormat | None, expected: str
) -> None:
    assert format_of(output, wanted) == expected


def test_format_that_nothing_says_is_refused() -> None:
    with pytest.raises(UsageError, match=r"known suffixes are \.csv"):
        format_of(Path("scores.dat"), None)
    with pytest.raises(UsageError, match="binary"):
        format_of(None, "parquet")


@pytest.mark.parametrize("row_format", ["csv", "jsonl", "txt", "parquet"])
def test_place_that_cannot_be_written_is_one_error(row_format: RowFormat, tmp_path: Path) -> None:
    if row_format == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OutputError, match="cannot be written"):
        written(file / "below" / "x", row_format, [])


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(EnvironmentLacks, match="pyarrow") as raised:
        written(tmp_path / "x.parquet", "parquet", [])
    assert "aasist-deploy[parquet]" in str(raised.value.fix)


def test_stdout_takes_any_name_whatever_its_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with open_rows(None, "csv") as writer:
        for name in ("ünï.wav", BYTES_NAME):
            writer.write(Row(Path(name), score=1.0))
    assert raw.getvalue().splitlines()[1:] == ["ünï.wav,1.0,,".encode(), b"caf\xe9.wav,1.0,,"]
