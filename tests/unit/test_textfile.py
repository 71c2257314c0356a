from __future__ import annotations

import gzip
import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import OutputError, TrialsError
from aasist_deploy.textfile import json_of, numbered_fields, read_text, write_text_atomically

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("NaN", "NaN is no number of JSON"),
        ('{"a": [-Infinity]}', "-Infinity is no number of JSON"),
        ("[1e999]", "'1e999' is beyond the numbers of a computer"),
        ("9" * 5_000, "it has a number of 5000 digits"),
        ("-" + "9" * 401, "it has a number of 402 digits"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"a":' * 100_000, "it is nested too deeply"),
        ('{"b": {"a": 1, "c": 2, "a": 1}}', "it has the name 'a' twice"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
        (b"\xff", "can't decode byte 0xff"),
    ],
)
def test_what_readers_of_json_take_differently_is_none(text: str | bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        json_of(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)  # fmt: skip
def test_json_comes_back_as_it_was_written(value: Any) -> None:
    assert json_of(json.dumps(value, allow_nan=False)) == value
    assert json_of(json.dumps(value, ensure_ascii=True).encode()) == value


def test_gzip_is_told_by_its_bytes_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "plain.txt"
    path.write_bytes(gzip.compress(b"a b\n"))
    assert read_text(path, TrialsError) == "a b\n"


def test_bom_and_crlf_leave_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfa b\r\n\r\nc d\r\n")
    assert list(numbered_fields(read_text(path, TrialsError))) == [(1, ["a", "b"]), (3, ["c", "d"])]


def test_truncated_gzip_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"some text of some length" * 100)[:-12])
    with pytest.raises(TrialsError, match="damaged"):
        read_text(path, TrialsError)


def test_text_in_another_encoding_names_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"a\nb\xe9\n")
    with pytest.raises(TrialsError, match=r"latin\.txt:2 is not UTF-8 text: byte 0xe9"):
        read_text(path, TrialsError)


def test_missing_file_is_the_asked_for_error(tmp_path: Path) -> None:
    with pytest.raises(TrialsError, match="cannot be read: No such file"):
        read_text(tmp_path / "none", TrialsError)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")

    def lines() -> list[str]:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # the caller's own error, whatever it says
        write_text_atomically(path, (line for line in lines()))
    assert [file.name for file in tmp_path.iterdir()] == ["out.txt"]
    assert path.read_text() == "old"


def test_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_text_atomically(tmp_path / "no" / "folder.txt", ["x"])


def test_zip_of_one_file_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "key.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("key.txt", "a b\n")
    assert read_text(path, TrialsError) == "a b\n"
