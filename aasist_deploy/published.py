"""Models with a name: what they are, where they are, and how to get their weights.

Those of the published models are not part of this package: `pull` takes them from the cache, from a
mirror, or from their project's repository. Those trained by this project lie in the package. Of
either only the bytes with the recorded sha256 are accepted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from aasist_deploy import download
from aasist_deploy.errors import CheckpointError, DownloadError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CACHE_VARIABLE: Final = "AASIST_DEPLOY_CACHE"
MIRROR_VARIABLE: Final = "AASIST_DEPLOY_MIRROR"
DOWNLOAD_ROOT: Final = "https://raw.githubusercontent.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """One published checkpoint.

    Attributes:
        name: What users type.
        file: Its file name, here and at its source.
        repository: OWNER/NAME on GitHub.
        commit: The full commit that the path is read at.
        path: Path of the file inside the repository.
        sha256: Of the file, in lower-case hexadecimal.
        n_bytes: Size of the file.
        licence: Licence and holder of the weights.
        model_config: Configuration of the architecture, as in its project's configuration files.
            Copy it before changing it.
    """

    name: str
    file: str
    repository: str
    commit: str
    path: str
    sha256: str
    n_bytes: int
    licence: str
    model_config: Mapping[str, Any] = field(hash=False)

    @property
    def url(self) -> str:
        """Where the file is read from; the commit in it makes the content immutable."""
        return f"{DOWNLOAD_ROOT}/{self.repository}/{self.commit}/{self.path}"

    @property
    def mirror_paths(self) -> tuple[str, ...]:
        """Where `pull` looks for the file in a mirror, in this order."""
        owner = self.repository.partition("/")[0]
        return (self.file, f"{owner}/{self.file}", f"models/weights/{self.file}")


def _clovaai(
    name: str, file: str, sha256: str, n_bytes: int, **config: list[Any]
) -> PublishedModel:
    return PublishedModel(
        name=name,
        file=file,
        repository="clovaai/aasist",
        commit="a04c9863f63d44471dde8a6abcb3b082b07cd1d1",
        path=f"models/weights/{file}",
        sha256=sha256,
        n_bytes=n_bytes,
        licence="MIT, NAVER Corp.",
        model_config={
            "architecture": "AASIST",
            "nb_samp": 64_600,
            "first_conv": 128,
            **config,
            "temperatures": [2.0, 2.0, 100.0, 100.0],
        },
    )


PUBLISHED: Final[dict[str, PublishedModel]] = {
    model.name: model
    for model in (
        _clovaai(
            "aasist",
            "AASIST.pth",
            "51d2d9cf0738172f61e2a384ec50a54a55363240f67c971ed55a92435bc1a1c0",
            1_281_532,
            filts=[70, [1, 32], [32, 32], [32, 64], [64, 64]],
            gat_dims=[64, 32],
            pool_ratios=[0.5, 0.7, 0.5, 0.5],
        ),
        _clovaai(
            "aasist-l",
            "AASIST-L.pth",
            "814331d088032bb4c3fa61cc014789eadeed464209dd094ab3a2dd6ffbdce27a",
            426_428,
            filts=[70, [1, 32], [32, 32], [32, 24], [24, 24]],
            gat_dims=[24, 32],
            pool_ratios=[0.4, 0.5, 0.7, 0.5],
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """Weights that this project trained and that lie in the package.

    Attributes:
        name: What users type.
        file: Its file name in the folder `weights` of the package.
        sha256: Of the file, in lower-case hexadecimal.
        n_bytes: Size of the file.
        licence: Licence of the weights, and what they were trained on.
    """

    name: str
    file: str
    sha256: str
    n_bytes: int
    licence: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(str(resources.files("aasist_deploy") / "weights" / self.file))


PACKAGED: Final[dict[str, PackagedModel]] = {
    model.name: model
    for model in (
        PackagedModel(
            name="aasist-l-mini",
            file="aasist-l-mini.safetensors",
            sha256="6f41763ae42b1b3a6f74646f459144f14540d0b369270bf530c06d4a7b77772e",
            n_bytes=368_024,
            licence="MIT; trained on ASVspoof 2019 LA, ODC-By 1.0",
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """Where `pull_from` found the weights.

    Attributes:
        path: The file in the cache or the package, with the right sha256.
        source: "cache", "package", or the file or address that it was copied from.
    """

    path: Path
    source: str


def published(name: str) -> PublishedModel:
    """The published model of this name.

    Raises:
        UsageError: There is none; the message lists those there are.
    """
    try:
        return PUBLISHED[name]
    except KeyError as error:
        known = ", ".join(PUBLISHED)
        raise UsageError(f"{name!r} is not a published model; known: {known}.") from error


def names() -> tuple[str, ...]:
    """The names that a user may type for a model, the published ones first."""
    return (*PUBLISHED, *PACKAGED)


def named(name: str) -> PublishedModel | PackagedModel:
    """The model of this name, published or packaged.

    Raises:
        UsageError: There is none; the message lists those there are.
    """
    if name in PACKAGED:
        return PACKAGED[name]
    if name not in PUBLISHED:
        raise UsageError(f"{name!r} is not the name of a model; known: {', '.join(names())}.")
    return PUBLISHED[name]


def published_by_sha256(sha256: str) -> PublishedModel | None:
    """The published model whose file has this sha256 (hexadecimal), or None."""
    wanted = sha256.lower()
    return next((model for model in PUBLISHED.values() if model.sha256 == wanted), None)


def cache_dir() -> Path:
    """The folder of downloaded weights: $AASIST_DEPLOY_CACHE, or the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("aasist-deploy", appauthor=False)


def pull(
    name: str,
    *,
    mirror: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    force: bool = False,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Get the weights of a named model; `pull_from` also says where they came from.

    Args:
        name: One of `names()`. Of a packaged model the other arguments have no effect.
        mirror: A folder, the file itself, or a file://, http:// or https:// address of a folder;
            None takes $AASIST_DEPLOY_MIRROR when that is set and not empty. With a mirror, the
            project's repository is not asked.
        cache: Folder for the weights; None takes `cache_dir()`.
        force: Fetch again although the cache has the file.
        on_progress: Called during a download with (bytes so far, bytes in all).

    Returns:
        The file in the cache or the package; its sha256 has been checked.

    Raises:
        CheckpointError: The package has been changed.
        UsageError: The name is unknown, or the mirror is neither folder nor address.
        DownloadError: The weights are not in the cache, and their source is not reachable or
            gives other bytes.
        OutputError: The cache cannot be written.
    """
    return pull_from(name, mirror=mirror, cache=cache, force=force, on_progress=on_progress).path


def pull_from(
    name: str,
    *,
    mirror: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    force: bool = False,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Pulled:
    """Do what `pull` does, and say where the weights came from."""
    model = named(name)
    if isinstance(model, PackagedModel):
        return Pulled(path=_in_package(model), source="package")
    folder = cache_dir() if cache is None else Path(cache).expanduser()
    chosen = os.fspath(mirror) if mirror is not None else os.environ.get(MIRROR_VARIABLE, "")
    try:
        return _pull(model, folder / model.file, chosen, force=force, on_progress=on_progress)
    except OutputError as error:
        error.fix = error.fix or f"choose another folder: set {CACHE_VARIABLE}"
        raise


def _pull(
    model: PublishedModel,
    target: Path,
    mirror: str,
    *,
    force: bool,
    on_progress: Callable[[int, int | None], None] | None,
) -> Pulled:
    if not force and _sha256_in_cache(target) == model.sha256:
        return Pulled(path=target, source="cache")
    with download.locked(target) as part:
        in_cache = _sha256_in_cache(target)  # again: another process may have put it there
        if not force and in_cache == model.sha256:
            return Pulled(path=target, source="cache")
        try:
            if mirror:
                source = _from_mirror(model, mirror, target, part, on_progress)
            else:
                source = download.shown(model.url)
                _from_url(model, model.url, target, part, on_progress)
        except DownloadError as error:
            state = "not in the cache"
            if force:
                state = "to be fetched again"
            elif in_cache is not None:
                state = f"not in the cache ({target} has sha256 {in_cache})"
            raise DownloadError(
                f"The weights of {model.name} are {state}, and {error}",
                fix=error.fix
                or f"set {MIRROR_VARIABLE} to a folder or address that holds {model.file}, or put "
                f"the file there yourself: {target}",
            ) from error
    return Pulled(path=target, source=source)


def _in_package(model: PackagedModel) -> Path:
    found = _sha256_in_cache(model.path)
    if found != model.sha256:
        state = "are not there" if found is None else f"have sha256 {found}, not {model.sha256}"
        raise CheckpointError(
            f"The weights of {model.name} that belong to this package {state}: {model.path}.",
            fix="install aasist-deploy again",
        )
    return model.path


def _sha256_in_cache(target: Path) -> str | None:
    try:
        return download.sha256_of(target)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputError(f"{target} cannot be read ({error.strerror}).") from error


def _from_url(
    model: PublishedModel,
    url: str,
    target: Path,
    part: Path,
    on_progress: Callable[[int, int | None], None] | None,
) -> None:
    download.fetch(
        url,
        target,
        part,
        sha256=model.sha256,
        n_bytes=model.n_bytes,
        on_progress=on_progress,
    )


def _from_mirror(
    model: PublishedModel,
    mirror: str,
    target: Path,
    part: Path,
    on_progress: Callable[[int, int | None], None] | None,
) -> str:
    """Take the file from the first place in the mirror that has it; return that place."""
    address = urlsplit(mirror)
    if address.scheme in {"http", "https"}:
        for path in model.mirror_paths:
            url = urlunsplit(address._replace(path=f"{address.path.rstrip('/')}/{path}"))
            try:
                _from_url(model, url, target, part, on_progress)
            except download.NotOnServerError:
                continue
            return download.shown(url)
        raise _nothing_there(model, download.shown(mirror))
    if address.scheme not in {"", "file"} and "://" in mirror:
        raise UsageError(
            f"The mirror {download.shown(mirror)} is neither a folder nor a file://, http:// or "
            "https:// address."
        )
    folder = Path(unquote(address.path) if address.scheme == "file" else mirror).expanduser()
    if not folder.exists():
        raise DownloadError(f"the mirror {folder} does not exist.")
    for place in (folder, *(folder / path for path in model.mirror_paths)):
        if place.is_file():
            download.copy(place, target, part, sha256=model.sha256, n_bytes=model.n_bytes)
            return str(place)
    raise _nothing_there(model, str(folder))


def _nothing_there(model: PublishedModel, mirror: str) -> DownloadError:
    tried = ", ".join(model.mirror_paths)
    return DownloadError(f"the mirror {mirror} has none of {tried}.")
