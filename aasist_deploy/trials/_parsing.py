"""What all parsers share: lines with their number, checked keys and names, files in a corpus.

A path read from a file never leaves the folder it belongs to: a protocol or manifest that names
`../x`, `/x` or an utterance with a slash is refused before anything is opened.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import TrialsError
from aasist_deploy.textfile import excerpt, numbered_fields, read_text
from aasist_deploy.trials._types import NO_ATTACK, Conditions, Label, ProtocolEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_BONAFIDE_ATTACKS: Final = (NO_ATTACK, "bonafide")  # 2019 and DF say -, 2021 LA and 5 say bonafide
_SHOWN: Final = 5


class Names:
    """The utterances that a file has named so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, int] = {}

    def add(self, utterance: str, line: int) -> None:
        """Note one more utterance.

        Raises:
            TrialsError: It is no plain file name, or was named before.
        """
        if "/" in utterance or "\0" in utterance or ".." in utterance:
            raise TrialsError(
                f"{self._path}:{line}: the utterance {excerpt(utterance)} is not a plain "
                "file name.",
                fix="Utterances are names without folders, '/' and '..'.",
            )
        first = self._lines.setdefault(utterance, line)
        if first != line:
            raise TrialsError(
                f"{self._path}:{line} lists the utterance {excerpt(utterance)} again, "
                f"after {self._path}:{first}.",
                fix="Keep one line for each utterance; in a manifest, a column utterance can "
                "tell files of the same name in different folders apart.",
            )


class SharedConditions:
    """Gives equal conditions as one object."""

    def __init__(self) -> None:
        self._made: dict[tuple[tuple[str, str], ...], Conditions] = {}

    def of(self, names: Iterable[str], values: Iterable[str]) -> Conditions:
        """The conditions of these names and values."""
        pairs = tuple(zip(names, values, strict=True))
        if pairs not in self._made:
            self._made[pairs] = Conditions(dict(pairs))
        return self._made[pairs]


def protocol_lines(path: Path, columns: str, fix: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of a protocol, plain or gzip-compressed, without a header.

    Args:
        path: The protocol.
        columns: Names of the columns, with blanks between; each line has as many fields.
        fix: What to do when a line has another number.

    Raises:
        TrialsError: The file cannot be read, or a line has another number of columns.
    """
    expected = len(columns.split())
    for number, fields in numbered_fields(read_text(path, TrialsError)):
        if len(fields) != expected:
            raise TrialsError(
                f"{path}:{number} has {len(fields)} columns: {excerpt(' '.join(fields))}; "
                f"expected {expected}: {columns}.",
                fix=fix,
            )
        yield number, fields


def entries_or_error(entries: list[ProtocolEntry], path: Path) -> tuple[ProtocolEntry, ...]:
    """The entries, of which there is at least one.

    Raises:
        TrialsError: There is none.
    """
    if not entries:
        raise TrialsError(
            f"{path} lists no utterances.",
            fix="It is empty: take the protocol from the corpus again, or name another split.",
        )
    return tuple(entries)


def checked_label(key: str, attack: str, where: str) -> tuple[Label, str]:
    """The label, and the attack with "-" for bona fide.

    Raises:
        TrialsError: The key is neither bonafide nor spoof, or a bona fide line names an attack.
    """
    if key == "spoof":
        return "spoof", attack
    if key != "bonafide":
        raise TrialsError(f"{where}: the key is {excerpt(key)}; expected bonafide or spoof.")
    if attack not in _BONAFIDE_ATTACKS:
        raise TrialsError(
            f"{where} is bona fide but names the attack {excerpt(attack)}.",
            fix=f"Write {NO_ATTACK} as the attack, or spoof as the key.",
        )
    return "bonafide", NO_ATTACK


def check_split(dataset: str, split: str, known: Sequence[str]) -> None:
    """Check that the dataset has the split.

    Raises:
        TrialsError: It has not.
    """
    if split not in known:
        raise TrialsError(f"{dataset} has no split {split!r}.", fix=f"Use {', '.join(known)}.")


def find_in_corpus(root: Path, candidates: Sequence[str], fix: str) -> Path:
    """The first candidate, plain or with .gz, that is a file under `root`.

    Raises:
        TrialsError: None is; the message says what was looked for and what `root` holds.
    """
    found = look_in_corpus(root, candidates)
    if found is not None:
        return found
    try:
        held = sorted(entry.name for entry in root.iterdir())
    except OSError as cause:
        raise TrialsError(
            f"{root} cannot be listed: {cause.strerror or cause}.",
            fix="Give the folder of the unpacked corpus.",
        ) from cause
    more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
    raise TrialsError(
        f"{root} has no {' and no '.join(candidates)}; it holds "
        f"{', '.join(held[:_SHOWN]) or 'nothing'}{more}.",
        fix=fix,
    )


def look_in_corpus(root: Path, candidates: Sequence[str]) -> Path | None:
    """As `find_in_corpus`, or None."""
    for candidate in candidates:
        for path in (root / candidate, root / f"{candidate}.gz"):
            if path.is_file():
                return path
    return None


def first_folder(root: Path, candidates: Sequence[str]) -> Path:
    """The first candidate that is a folder; the first of all when none is.

    Audio is looked for later, for keys are of use without it.
    """
    folders = [root / candidate for candidate in candidates]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def table_rows(
    path: Path, required: Sequence[str], fix: str
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield (line number, column -> value) of a CSV file with a header.

    Raises:
        TrialsError: A required column is missing, a column has no name or appears twice, a row
            has another number of fields, or the file is no CSV.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, TrialsError), newline=""), strict=True)
    try:
        columns = list(reader.fieldnames or ())
        missing = sorted(set(required) - set(columns))
        if missing:
            raise TrialsError(
                f"{path}:1 lacks the column {' and '.join(missing)}; "
                f"it has {excerpt(', '.join(columns))}.",
                fix=fix,
            )
        bad = [name for name in columns if not name.strip() or columns.count(name) > 1]
        if bad:
            raise TrialsError(
                f"{path}:1 has the column {excerpt(bad[0])} without a name or more than once.",
                fix="Give each column a name of its own.",
            )
        for row in reader:
            if None in row or None in row.values():
                raise TrialsError(
                    f"{path}:{reader.line_num} does not have the {len(columns)} columns "
                    "of the header.",
                    fix="Quote fields that hold a comma; leave no column out.",
                )
            yield reader.line_num, row
    except csv.Error as cause:
        raise TrialsError(f"{path}:{reader.line_num} is not valid CSV: {cause}.") from cause


def relative_path(text: str, folder: Path, where: str) -> PurePosixPath:
    """A path from a file that stays under its folder.

    Raises:
        TrialsError: It does not.
    """
    relative = PurePosixPath(text)
    if not relative.name or relative.is_absolute() or ".." in relative.parts or "\0" in text:
        raise TrialsError(
            f"{where}: the path {excerpt(text)} does not stay under {folder}.",
            fix="Put the manifest at the top of the audio and write paths relative to its folder.",
        )
    return relative
