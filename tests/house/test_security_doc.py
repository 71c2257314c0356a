"""docs/security.md names tests that are there, and every parser that is fuzzed."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
ROWS = [
    re.split(r"(?<!\\)\|", line)[1:-1]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| threat |", "| parser |"))
]


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    assert name in functions_of(file)


def test_every_threat_and_parser_has_its_test() -> None:
    assert len(ROWS) > 40
    for row in ROWS:
        assert re.search(r"`tests/[\w/]+\.py::\w+`", row[-1]), row[0]


def test_every_reader_that_is_fuzzed_is_listed() -> None:
    source = (REPOSITORY / "tests/unit/test_security_parsers.py").read_text(encoding="utf-8")
    readers = re.findall(r"\bReader\(\s*\"([^\"]+)\"", source)
    assert len(readers) > 20
    listed = next(row[0] for row in ROWS if "test_any_bytes_give_a_result" in row[-1]
                  and "project file" in row[0])  # fmt: skip
    assert [name for name in readers if name not in listed] == []
