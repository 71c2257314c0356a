"""What a journal says of an output, and whether that is still true."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import UsageError
from aasist_deploy.journal._lines import entry_of, journal_of, whole_entries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA: Final = "aasist-deploy/journal/1"
_BLOCK: Final = 1 << 20
_LONG: Final = 300  # characters of a phrase that is still read
_MOST: Final = 2**53  # of bytes and rows, in JSON that every reader takes
_KINDS: Final = {"int": int, "str": str, "bool": bool}  # of the fields of Reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far a run has come.

    Attributes:
        n_inputs: Inputs whose rows are in the output.
        n_failed: Of them, those without a score.
        n_bytes: Length of the output with these rows.
        crc32: Of these bytes.
        inputs: Hash of what these inputs were, in their order (`chained`).
        done: There are no further inputs.
    """

    n_inputs: int = 0
    n_failed: int = 0
    n_bytes: int = 0
    crc32: int = 0
    inputs: str = ""
    done: bool = False


def chained(before: str, stamp: str) -> str:
    """The hash of a sequence that is longer by `stamp`."""
    text = f"{before}\0{stamp}".encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def read_journal(output: Path) -> tuple[dict[str, Any], Reached] | None:
    """What the journal beside an output says: which run, and how far; None where there is none.

    The run is an empty mapping when the journal was cut off before it could say.

    Raises:
        UsageError: it is none of ours, or damaged in its first line.
    """
    path = journal_of(output)
    try:
        with path.open("rb") as lines:
            first = lines.readline()
            if not first.endswith(b"\n"):  # stopped before it had begun
                return {}, Reached()
            head = entry_of(first)
            if (
                head is None
                or head.get("schema") != SCHEMA
                or not isinstance(head.get("run"), dict)
            ):
                raise UsageError(
                    f"{path} is no journal of a run, or is damaged from its first line on.",
                    fix=f"remove it and {output.name}, and begin anew",
                )
            reached = None
            for entry, _ in whole_entries(lines):
                reached = _reached(entry, path)
    except (FileNotFoundError, NotADirectoryError):  # opening it for writing says what is wrong
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    return ({}, Reached()) if reached is None else (head["run"], reached)


def check_output(output: Path, reached: Reached) -> None:
    """Check that an output still begins with the bytes that its journal speaks of.

    Raises:
        UsageError: it does not.
    """
    check_bytes(output, reached.n_bytes, reached.crc32)


def check_bytes(output: Path, n_bytes: int, crc32: int) -> None:
    """Check that a file still begins with so many bytes of this checksum.

    Raises:
        UsageError: it does not, or is gone.
    """
    crc, left = 0, n_bytes
    try:
        with output.open("rb") as file:
            while left and (block := file.read(min(_BLOCK, left))):
                crc, left = zlib.crc32(block, crc), left - len(block)
    except FileNotFoundError as error:
        raise UsageError(
            f"{output} is gone, and its journal says that it held {n_bytes} bytes.",
            fix=f"remove {journal_of(output)} and begin anew",
        ) from error
    if left or crc != crc32:
        what = f"is {left} bytes shorter than" if left else "differs from"
        raise UsageError(
            f"{output} {what} what was written: it was changed after the run that wrote it.",
            fix=f"put it back as it was, or remove it and {journal_of(output).name}",
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What distinguishes two runs, one phrase for each key whose values differ."""
    phrases = []
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            phrase = f"{key}: {before.get(key)!r} then, {now.get(key)!r} now"
            phrases.append(phrase if len(phrase) <= _LONG else f"{key} differs")  # a list of files
    return phrases


def _reached(entry: dict[str, Any], path: Path) -> Reached:
    kinds = {field.name: _KINDS[str(field.type)] for field in fields(Reached)}
    right = entry.keys() == kinds.keys() and all(type(entry[n]) is kinds[n] for n in kinds)
    numbers = (entry["n_inputs"], entry["n_failed"], entry["n_bytes"]) if right else (-1,)
    if min(numbers) < 0 or max(numbers) >= _MOST:
        raise UsageError(f"{path} was changed: a line of it is none of a run.")
    return Reached(**entry)
