"""A file that grows row by row, and beside it a journal of how far the rows are certain.

The journal is `OUTPUT.journal`: first a line that says which run this is, then a line whenever the
rows before it are on disk. Both files are only appended to, the rows first, and each is synced
before the next is touched. Whatever cuts a run off (a signal, the power, a full disk), the last
line of the journal that is whole is true; what the output holds beyond it is dropped and made
again.

The scan of long recordings keeps places within an input and figures of those that are done in its
journal (`streaming.journal`); lines, checks and the name of the file are the same, from here.
"""

from aasist_deploy.journal._lines import (
    entry_of,
    journal_of,
    line_of,
    whole_entries,
    write_all,
)
from aasist_deploy.journal._reading import (
    Reached,
    chained,
    check_bytes,
    check_output,
    differences,
    read_journal,
)
from aasist_deploy.journal._writing import JournaledFile, open_journaled

__all__ = [
    "JournaledFile",
    "Reached",
    "chained",
    "check_bytes",
    "check_output",
    "differences",
    "entry_of",
    "journal_of",
    "line_of",
    "open_journaled",
    "read_journal",
    "whole_entries",
    "write_all",
]
