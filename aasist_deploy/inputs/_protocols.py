"""Utterances of a protocol as files of one folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import TrialsError
from aasist_deploy.textfile import excerpt, numbered_fields, read_text
from aasist_deploy.trials import read_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIX: Final = ".flac"  # of the ASVspoof corpora


def protocol_files(protocol: Path, root: Path) -> Iterator[Path]:
    """The audio of a protocol's utterances, in its order: `root/UTTERANCE.flac`.

    Protocols and keys of ASVspoof 2019, 2021 and 5 in all layouts that `aasist_deploy.trials`
    reads, and lists of bare utterance names as the challenges give them out before the truth. Where
    the first utterance is there as `.wav`, that is the suffix of all.

    Raises:
        TrialsError: it is no protocol, or an utterance is no plain file name: nothing outside of
            `root` is ever read.
    """
    names = _utterances(protocol)
    suffix: str | None = None
    for name in names:
        if suffix is None:
            is_wav = not (root / f"{name}{_SUFFIX}").exists() and (root / f"{name}.wav").exists()
            suffix = ".wav" if is_wav else _SUFFIX
        yield root / f"{name}{suffix}"


def _utterances(protocol: Path) -> Iterator[str]:
    lines = numbered_fields(read_text(protocol, TrialsError))
    number, first = next(lines, (0, []))
    if len(first) != 1 or "," in first[0]:  # a manifest's header has no blanks
        for entry in read_key(protocol):
            yield _plain(entry.utterance, str(protocol))
        return
    yield _plain(first[0], f"{protocol}:{number}")
    for number, fields in lines:
        if len(fields) != 1:
            raise TrialsError(
                f"{protocol}:{number} has {len(fields)} columns; the lines before it have 1."
            )
        yield _plain(fields[0], f"{protocol}:{number}")


def _plain(name: str, where: str) -> str:
    if "/" in name or "\\" in name or "\0" in name or name in {".", ".."}:
        raise TrialsError(
            f"{where}: the utterance {excerpt(name)} is not a plain file name.",
            fix="leave out --root to score a list of paths",
        )
    return name
