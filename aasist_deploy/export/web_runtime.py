"""onnxruntime-web, which runs a model in a browser: fetched by npm or given, and checked by hash.

One version is pinned, so that every page computes with files that were tested with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import DownloadError, EnvironmentLacks, UsageError
from aasist_deploy.published import cache_dir

if TYPE_CHECKING:
    from collections.abc import Callable

_NPM_SECONDS: Final = 900  # 33 MB through a slow line


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file of the package.

    Attributes:
        name: Its name in the package's folder `dist`.
        n_bytes: Its size.
        sha256: Its hash, in hexadecimal.
    """

    name: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PinnedRuntime:
    """The one version that pages are made with.

    Attributes:
        package: Its name on the registry.
        version: Its version there.
        integrity: "sha512-" and the hash of its archive in base64, as npm writes it.
        script: The module that a worker imports.
        wasm: The runtime itself.
    """

    package: str
    version: str
    integrity: str
    script: PinnedFile
    wasm: PinnedFile

    @property
    def spec(self) -> str:
        """What npm calls this version."""
        return f"{self.package}@{self.version}"


# Hashes of what `npm pack onnxruntime-web@1.30.0` gives; the registry lists the same integrity.
PINNED: Final = PinnedRuntime(
    package="onnxruntime-web",
    version="1.30.0",
    integrity="sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    script=PinnedFile(
        "ort.wasm.bundle.min.mjs",
        73_054,
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    wasm=PinnedFile(
        "ort-wasm-simd-threaded.wasm",
        14_239_897,
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
)


@dataclass(frozen=True, slots=True)
class WebRuntime:
    """The runtime's files, checked.

    Attributes:
        pinned: Which version.
        script: Bytes of the module.
        wasm: Bytes of the runtime.
    """

    pinned: PinnedRuntime
    script: bytes
    wasm: bytes


def obtain_runtime(
    given: Path | None = None,
    *,
    pinned: PinnedRuntime = PINNED,
    cache: Path | None = None,
    on_fetch: Callable[[str], object] = lambda _: None,
) -> WebRuntime:
    """Take the runtime from a place that was given, from the cache, or from npm, in this order.

    npm is called in the current folder, so that it follows the user's and the project's own
    configuration. What it gives is kept in the cache.

    Args:
        given: The package's archive (.tgz) or its unpacked folder; nothing is fetched then.
        pinned: The version.
        cache: Folder for what was fetched; None takes `cache_dir()`.
        on_fetch: Is told what is fetched, before that is done.

    Raises:
        UsageError: `given` does not hold this version.
        EnvironmentLacks: it must be fetched, and there is no npm.
        DownloadError: npm did not give it.
    """
    if given is not None:
        return _given(given, pinned)
    kept = (cache or cache_dir()) / f"{pinned.package}-{pinned.version}"
    if (runtime := _in_folder(kept, pinned)) is not None:
        return runtime
    npm = shutil.which("npm")
    if npm is None:
        raise EnvironmentLacks(
            f"The page needs {pinned.spec}, and npm, which fetches it, is not installed.",
            fix=f"install npm; {_offline_fix(pinned)}",
        )
    on_fetch(pinned.spec)
    runtime = _from_archive(_packed_by(npm, pinned), pinned)
    if runtime is None:
        raise DownloadError(
            f"npm gave another file than {pinned.spec} of {pinned.integrity[:19]}...",
            fix=f"ask who keeps your registry; {_offline_fix(pinned)}",
        )
    _keep(kept, runtime)
    return runtime


def _offline_fix(pinned: PinnedRuntime) -> str:
    return (
        f"or run 'npm pack {pinned.spec}' elsewhere and give the file that it writes: "
        f"--ort-web {pinned.package}-{pinned.version}.tgz"
    )


def _given(place: Path, pinned: PinnedRuntime) -> WebRuntime:
    fix = f"give what 'npm pack {pinned.spec}' writes, or that package's folder"
    if place.is_dir():
        for folder in (place, place / "dist", place / "package" / "dist"):
            if (runtime := _in_folder(folder, pinned)) is not None:
                return runtime
    else:
        try:
            content = place.read_bytes()
        except OSError as error:
            raise UsageError(f"{place} cannot be read: {error.strerror}.", fix=fix) from error
        if (runtime := _from_archive(content, pinned)) is not None:
            return runtime
    raise UsageError(f"{place} is not {pinned.spec}: its files have other hashes.", fix=fix)


def _in_folder(folder: Path, pinned: PinnedRuntime) -> WebRuntime | None:
    found = []
    for file in (pinned.script, pinned.wasm):
        try:
            if (folder / file.name).stat().st_size != file.n_bytes:
                return None
            found.append((folder / file.name).read_bytes())
        except OSError:
            return None
    return _checked(pinned, *found)


def _from_archive(content: bytes, pinned: PinnedRuntime) -> WebRuntime | None:
    # The hash of the whole comes before anything reads it.
    if hashlib.sha512(content).digest() != _integrity_of(pinned):
        return None
    found = []
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for file in (pinned.script, pinned.wasm):
            try:
                stream = archive.extractfile(f"package/dist/{file.name}")
            except KeyError:
                return None
            if stream is None:
                return None
            found.append(stream.read(file.n_bytes + 1))
    return _checked(pinned, *found)


def _integrity_of(pinned: PinnedRuntime) -> bytes:
    kind, _, text = pinned.integrity.partition("-")
    assert kind == "sha512"  # a constant of ours
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise AssertionError(pinned.integrity) from error


def _checked(pinned: PinnedRuntime, script: bytes, wasm: bytes) -> WebRuntime | None:
    for file, content in ((pinned.script, script), (pinned.wasm, wasm)):
        if hashlib.sha256(content).hexdigest() != file.sha256:
            return None
    return WebRuntime(pinned, script, wasm)


def _packed_by(npm: str, pinned: PinnedRuntime) -> bytes:
    """Bytes of the archive that npm fetches."""
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", pinned.spec, "--pack-destination", folder, "--ignore-scripts"]
        try:
            done = subprocess.run(  # noqa: S603  # a fixed command, no shell
                [*command, "--loglevel=error"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_NPM_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DownloadError(
                f"npm could not be run for {pinned.spec}: {error}.",
                fix=f"check that 'npm --version' works; {_offline_fix(pinned)}",
            ) from error
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode != 0 or len(archives) != 1:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            reason = said[0].strip() if said else f"exit code {done.returncode}"
            raise DownloadError(
                f"npm could not fetch {pinned.spec} ({reason}).",
                fix=f"check npm's registry and the network; {_offline_fix(pinned)}",
            )
        return archives[0].read_bytes()


def _keep(folder: Path, runtime: WebRuntime) -> None:
    """Put what was fetched into the cache; without one it is fetched again next time."""
    files = ((runtime.pinned.script, runtime.script), (runtime.pinned.wasm, runtime.wasm))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files:
            temporary = folder / f".{file.name}.{os.getpid()}.tmp"
            try:
                temporary.write_bytes(content)
                temporary.replace(folder / file.name)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError:
        return  # read-only or full: the page itself does not depend on it
