"""Where archives come from besides their publishers: a folder, or the address of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from aasist_deploy.download import shown
from aasist_deploy.errors import DownloadError, UsageError

if TYPE_CHECKING:
    from aasist_deploy.corpora._types import Archive, Corpus


def parse_mirror(text: str) -> Path | str | None:
    """A mirror as a folder or an address; None where the text is empty.

    Raises:
        UsageError: It is neither.
    """
    if not text:
        return None
    address = urlsplit(text)
    if address.scheme in {"http", "https"}:
        return text
    if address.scheme not in {"", "file"} and "://" in text:
        raise UsageError(
            f"The mirror {shown(text)} is neither a folder nor a file://, http:// or https:// "
            "address."
        )
    folder = Path(unquote(address.path) if address.scheme == "file" else text).expanduser()
    if not folder.is_dir():
        raise UsageError(f"The mirror {folder} is not a folder.")
    return folder


def mirror_paths(corpus: Corpus, archive: Archive) -> tuple[str, ...]:
    """Where an archive is looked for in a mirror, in this order."""
    return (archive.file, f"{corpus.name}/{archive.file}")


def find_in_folder(corpus: Corpus, archive: Archive, folder: Path) -> Path:
    """The archive in a folder that a user filled.

    Raises:
        DownloadError: It is not there.
    """
    paths = mirror_paths(corpus, archive)
    for path in paths:
        if (folder / path).is_file():
            return folder / path
    raise DownloadError(
        f"The folder {folder} has no {' and no '.join(paths)}.",
        fix=f"get it from {corpus.page} and put it there",
    )


def joined(mirror: str, path: str) -> str:
    """The address of a path below a mirror, which may have a query, such as an access key."""
    address = urlsplit(mirror)
    return urlunsplit(address._replace(path=f"{address.path.rstrip('/')}/{path}"))
