"""A made-up corpus in the layout of ASVspoof 2019 LA, its archives, and the misbehaving server."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.corpora import MIRROR_VARIABLE, Archive, Corpus, Count
from tests.unit.download import server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PROTOCOLS = "LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm"


@pytest.fixture(scope="session")
def serving() -> Any:
    """The context manager of a local server, as the tests of downloads have it."""
    return server.serving


@pytest.fixture(autouse=True)
def no_waits_and_no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aasist_deploy.download.BACKOFF_S", 0.0)
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


def flac(seconds: float, seed: int) -> bytes:
    raw = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(16_000 * seconds))
    soundfile.write(raw, noise, 16_000, format="FLAC", subtype="PCM_16")
    return raw.getvalue()


@pytest.fixture(scope="session")
def members() -> dict[str, bytes]:
    """Name -> content of a corpus of two trials in each split; the second lasts 5 s."""
    found: dict[str, bytes] = {}
    for number, (split, suffix) in enumerate(
        [("train", "train.trn"), ("dev", "dev.trl"), ("eval", "eval.trl")]
    ):
        good, bad = f"LA_{number}_1", f"LA_{number}_2"
        lines = f"LA_00{number}1 {good} - - bonafide\nLA_00{number}2 {bad} - A07 spoof\n"
        found[f"{PROTOCOLS}.{suffix}.txt"] = lines.encode()
        folder = f"LA/ASVspoof2019_LA_{split}/flac"
        found[f"{folder}/{good}.flac"] = flac(1.0, number)
        found[f"{folder}/{bad}.flac"] = flac(5.0, 10 + number)
    return found


def packed_zip(members: Mapping[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return raw.getvalue()


def packed_tar(members: Mapping[str, bytes], mode: Any = "w:gz") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


@pytest.fixture(scope="session")
def pack_zip() -> Callable[[Mapping[str, bytes]], bytes]:
    return packed_zip


@pytest.fixture(scope="session")
def pack_tar() -> Callable[..., bytes]:
    return packed_tar


@pytest.fixture(scope="session")
def archives(members: dict[str, bytes]) -> dict[str, bytes]:
    """File -> content: protocols and train in a zip, dev in a tar, eval in a tar.gz."""

    def of(part: str) -> dict[str, bytes]:
        return {name: content for name, content in members.items() if part in name}

    return {
        "train.zip": packed_zip({**of("cm_protocols"), **of("LA_train")}),
        "dev.tar": packed_tar(of("LA_dev"), "w"),
        "eval.tar.gz": packed_tar(of("LA_eval")),
    }


@pytest.fixture
def corpus_at(archives: dict[str, bytes]) -> Callable[..., Corpus]:
    """(address, names of files without a known checksum) -> the corpus."""

    def make(url: str, *, unchecked: tuple[str, ...] = (), **fields: Any) -> Corpus:
        given: dict[str, Any] = {
            "name": "tiny",
            "title": "A made-up corpus",
            "dataset": "asvspoof2019-la",
            "archives": tuple(
                Archive(
                    file=file,
                    urls=(f"{url}/{file}",),
                    about_bytes=len(content),
                    n_bytes=None if file in unchecked else len(content),
                    md5=() if file in unchecked else (hashlib.md5(content).hexdigest(),),
                    splits=(file.partition(".")[0],) if file != "train.zip" else (),
                )
                for file, content in archives.items()
            ),
            "splits": ("train", "dev", "eval"),
            "counts": {s: Count(trials=2, bonafide=1, spoof=1) for s in ("train", "dev", "eval")},
            "licence": "none",
            "citation": "nobody",
            "page": "https://example.org/tiny",
            **fields,
        }
        return Corpus(**given)

    return make


@pytest.fixture
def folder(archives: dict[str, bytes], tmp_path: Path) -> Path:
    """A folder that holds the archives."""
    found = tmp_path / "folder"
    found.mkdir()
    for file, content in archives.items():
        (found / file).write_bytes(content)
    return found


@pytest.fixture
def tree(members: dict[str, bytes], tmp_path: Path) -> Path:
    """The unpacked corpus."""
    root = tmp_path / "tree"
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def good(archives: dict[str, bytes]) -> Callable[[Any, int], None]:
    """Answers as a good server does."""

    def respond(handler: Any, _: int) -> None:
        name = handler.path.rpartition("/")[2]
        if name in archives:
            handler.reply_with_ranges(archives[name])
        else:
            handler.reply(404)

    return respond


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"
