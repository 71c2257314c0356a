"""What names of files and attacks may hold does not steer the terminal they are shown on."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from aasist_deploy.cli.common import SafeConsole, configure_logging, print_error
from aasist_deploy.errors import UsageError
from aasist_deploy.scores import RowColumns, RowLines
from aasist_deploy.textfile import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.wav"
SHOWN = "a\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202egnp.wav"


@given(st.text())
def test_what_is_shown_has_no_character_that_steers(text: str) -> None:
    shown = visible(text)
    categories = {unicodedata.category(one) for one in shown if one not in "\n\t"}
    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert visible(shown) == shown


def test_bytes_of_a_name_that_is_no_utf8_are_shown_by_their_codes() -> None:
    assert visible(os.fsdecode(b"a\x9b.wav")) == "a\\x9b.wav"
    assert visible("Müller 語.wav\n") == "Müller 語.wav\n"


@pytest.mark.parametrize("how", ["text", "table", "markup"])
def test_console_shows_escape_sequences_and_keeps_its_own_colours(how: str) -> None:
    stream = io.StringIO()
    console = SafeConsole(
        file=stream, force_terminal=True, width=120, color_system="standard", highlight=False
    )
    if how == "table":
        table = Table("attack")
        table.add_row(HOSTILE)
        console.print(table)
    else:
        console.print(HOSTILE, style="red", markup=how == "markup")
    written = stream.getvalue()
    assert "a\\x1b]0;owned" in written  # rich drops the bell
    assert how == "table" or "\\u202egnp" in written  # a cell is broken into lines
    assert "\x1b]0" not in written
    assert "\x1b[2J" not in written
    assert "\x9b" not in written
    assert "\x1b[" in written  # its own


@contextmanager
def logging_as_of(verbosity: int) -> Iterator[None]:
    """The program's logging, for a while."""
    root, ours = logging.getLogger(), logging.getLogger("aasist_deploy")
    before = (root.handlers[:], root.level, ours.level)
    configure_logging(verbosity)
    try:
        yield
    finally:
        root.handlers[:], level, own = before
        root.setLevel(level)
        ours.setLevel(own)


def test_errors_and_logs_show_them_too(capfd: pytest.CaptureFixture[str]) -> None:
    print_error(UsageError(f"{HOSTILE} is no file.", fix=f"remove {HOSTILE}"))
    with logging_as_of(0):
        logging.getLogger("aasist_deploy").warning("%s is damaged", HOSTILE)
    err = capfd.readouterr().err
    assert err.count("\\x1b]0;owned") == 3
    assert "\x1b]0" not in err


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [
        (0, ["theirs WARNING"]),
        (1, ["ours INFO", "theirs WARNING"]),
        (2, ["ours INFO", "ours DEBUG", "theirs WARNING", "theirs INFO"]),
    ],
)
def test_log_of_other_libraries_is_shown_only_when_all_is_asked_for(
    verbosity: int, shown: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = logging.getLogger("aasist_deploy.export"), logging.getLogger("onnxscript.x")
    with logging_as_of(verbosity):
        ours.info("ours INFO")
        ours.debug("ours DEBUG")
        theirs.warning("theirs WARNING")
        theirs.info("theirs INFO")
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in lines] == shown


SCRIPT = """
import sys
from types import SimpleNamespace
from pathlib import Path
from aasist_deploy.cli.common import print_json
from aasist_deploy.scores import open_rows
row = SimpleNamespace(path=Path(sys.argv[1]), score=1.5, error=None, seconds=1.0)
with open_rows(None, "csv") as rows:
    rows.write(row)
sys.stdout.flush()
print_json({"path": sys.argv[1]})
"""


def test_rows_on_a_terminal_are_shown_and_rows_in_a_pipe_are_what_they_are() -> None:
    command = [sys.executable, "-c", SCRIPT, HOSTILE]
    piped = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert HOSTILE in piped
    main, terminal = pty.openpty()
    try:
        subprocess.run(command, stdout=terminal, check=True)
        shown = os.read(main, 65_536).decode()
    finally:
        os.close(main)
        os.close(terminal)
    assert SHOWN in shown
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert json.loads(shown[shown.index("{") :])["path"] == HOSTILE


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1"])
def test_names_that_a_spreadsheet_takes_for_formulas_stay_as_they_are(
    name: str, tmp_path: Path
) -> None:
    """Rows name the files that were scored; docs/security.md says what to do in a spreadsheet."""
    from types import SimpleNamespace

    row = SimpleNamespace(path=tmp_path / name, score=1.5, error=None, seconds=1.0)
    line = RowLines("csv", RowColumns()).line(row).decode()
    assert str(tmp_path / name) in line
