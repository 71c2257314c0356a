"""The page holds the model and the runtime whole; the runtime is the pinned one or none."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from typing import TYPE_CHECKING

import pytest

from aasist_deploy.contract import read_contract, write_contract
from aasist_deploy.errors import DownloadError, EnvironmentLacks, OutputError, UsageError
from aasist_deploy.export import web_bundle, web_runtime
from aasist_deploy.export.web_bundle import check_web_model, write_web_page
from aasist_deploy.export.web_runtime import PINNED, PinnedFile, PinnedRuntime, obtain_runtime
from tests.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT, WASM = b"export const env = {}; // </script>\n", b"\0asm\x01\0\0\0" + bytes(range(256))


def archive_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


ARCHIVE = archive_of({"package/dist/ort.mjs": SCRIPT, "package/dist/ort.wasm": WASM})


def pin_of(archive: bytes = ARCHIVE) -> PinnedRuntime:
    def file(name: str, content: bytes) -> PinnedFile:
        return PinnedFile(name, len(content), hashlib.sha256(content).hexdigest())

    integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    script, wasm = file("ort.mjs", SCRIPT), file("ort.wasm", WASM)
    return PinnedRuntime("ort-fake", "1.2.3", integrity, script, wasm)


PIN = pin_of()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "ort-fake-1.2.3.tgz"
    path.write_bytes(ARCHIVE)
    return path


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """An npm that is the only program on PATH; what it was called with is in `called`."""
    place = folder / "bin"
    place.mkdir()
    (place / "npm").write_text(f'#!/bin/sh\necho "$@" >>{folder}/called\n{script}\n')
    (place / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder / "called"


def part(page: str, name: str) -> bytes:
    found = re.search(rf'id="part-{name}">([^<]*)</script>', page)
    assert found
    return gzip.decompress(base64.b64decode(found[1]))


def test_page_holds_model_and_runtime_byte_for_byte(
    model: Path, given: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "page"
    n_bytes = write_web_page(model, folder, obtain_runtime(given, pinned=PIN))
    page = (folder / "index.html").read_text()
    content = model.read_bytes()
    assert n_bytes == (folder / "index.html").stat().st_size
    assert part(page, "model") == (folder / "model.onnx").read_bytes() == content
    assert (part(page, "script"), part(page, "wasm")) == (SCRIPT, WASM)
    found = re.search(r'id="manifest">(.*?)</script>', page)
    assert found
    manifest = json.loads(found[1])
    assert manifest["model"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert manifest["runtime"]["wasm_sha256"] == hashlib.sha256(WASM).hexdigest()
    assert "ort-fake@1.2.3" in (folder / "README.md").read_text()
    assert "@@" not in page


def test_policy_admits_the_pages_own_script_and_style_and_no_address(
    model: Path, given: Path, tmp_path: Path
) -> None:
    write_web_page(model, tmp_path / "page", obtain_runtime(given, pinned=PIN))
    page = (tmp_path / "page" / "index.html").read_bytes().decode()
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert found
    policy = dict(rule.split(" ", 1) for rule in found[1].split("; "))
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    for texts, rule in ((inline, "script-src"), (styles, "style-src")):
        (text,) = texts
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[rule]
    assert policy["default-src"] == policy["connect-src"] == "'none'"
    allowed = {word for rule in policy.values() for word in rule.split()}
    assert {word for word in allowed if not word.startswith("'")} == {"blob:", "data:"}
    assert not {"'unsafe-inline'", "'unsafe-eval'", "'self'"} & allowed
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)


def test_same_model_gives_the_same_page(model: Path, given: Path, tmp_path: Path) -> None:
    runtime = obtain_runtime(given, pinned=PIN)
    for name in ("a", "b"):
        write_web_page(model, tmp_path / name, runtime)
    pages = [(tmp_path / name / "index.html").read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]


def test_no_source_of_the_page_ends_its_element_early() -> None:
    for name in ("style.css", *web_bundle._APP, *web_bundle._WORKER):
        text = (web_bundle._SOURCES / name).read_text(encoding="utf-8")
        assert not re.search(r"</script|</style|<!--|@@|\r", text, re.IGNORECASE), name


def test_a_name_from_the_model_cannot_become_markup(
    model: Path, given: Path, tmp_path: Path
) -> None:
    contract, file = read_contract(model)
    hostile = tmp_path / "hostile.onnx"
    evil = dataclasses.replace(contract, architecture="</title><script>alert(1)</script>@@WASM@@")
    write_contract(evil, file, hostile)
    write_web_page(hostile, tmp_path / "page", obtain_runtime(given, pinned=PIN))
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;@@WASM@@" in page


def test_lower_precision_is_refused(model: Path, tmp_path: Path) -> None:
    contract, file = read_contract(model)
    half = tmp_path / "half.onnx"
    write_contract(dataclasses.replace(contract, precision="fp16"), file, half)
    with pytest.raises(UsageError, match="computes in fp16; the page runs fp32"):
        check_web_model(half)


def test_a_folder_that_cannot_be_written_is_said(model: Path, given: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_web_page(model, tmp_path / "file" / "page", obtain_runtime(given, pinned=PIN))


@pytest.mark.parametrize("below", ["", "dist", "package/dist"])
def test_runtime_is_taken_from_an_unpacked_folder(tmp_path: Path, below: str) -> None:
    folder = tmp_path / below
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ort.mjs").write_bytes(SCRIPT)
    (folder / "ort.wasm").write_bytes(WASM)
    assert obtain_runtime(tmp_path, pinned=PIN).wasm == WASM


def test_what_was_given_is_refused_when_one_byte_differs(tmp_path: Path, given: Path) -> None:
    altered = bytearray(ARCHIVE)
    altered[-1] ^= 1
    given.write_bytes(altered)
    with pytest.raises(UsageError, match=r"is not ort-fake@1\.2\.3"):
        obtain_runtime(given, pinned=PIN)
    (tmp_path / "ort.mjs").write_bytes(SCRIPT)
    (tmp_path / "ort.wasm").write_bytes(WASM[:-1] + b"\0")
    with pytest.raises(UsageError, match=r"is not ort-fake@1\.2\.3"):
        obtain_runtime(tmp_path, pinned=PIN)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        obtain_runtime(tmp_path / "none.tgz", pinned=PIN)


@pytest.mark.parametrize("others", [{}, {"package/dist/ort.wasm": SCRIPT}])
def test_archive_of_the_right_hash_with_other_files_is_refused(
    tmp_path: Path, others: dict[str, bytes]
) -> None:
    odd = archive_of({"package/dist/ort.mjs": SCRIPT, **others})
    path = tmp_path / "odd.tgz"
    path.write_bytes(odd)
    with pytest.raises(UsageError, match="other hashes"):
        obtain_runtime(path, pinned=pin_of(odd))


def test_npm_is_asked_once_for_the_pinned_version_and_no_script_is_run(
    tmp_path: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = fake_npm(tmp_path, monkeypatch, f'cp {given} "$4"')
    fetched: list[str] = []
    cache = tmp_path / "cache"
    for _ in range(2):
        runtime = obtain_runtime(pinned=PIN, cache=cache, on_fetch=fetched.append)
        assert (runtime.script, runtime.wasm) == (SCRIPT, WASM)
    assert fetched == ["ort-fake@1.2.3"]
    (line,) = called.read_text().splitlines()
    assert line.startswith("pack ort-fake@1.2.3 --pack-destination ")
    assert "--ignore-scripts" in line
    damaged = cache / "ort-fake-1.2.3" / "ort.wasm"
    damaged.write_bytes(b"\1" + WASM[1:])  # a cache that was altered is fetched again
    assert obtain_runtime(pinned=PIN, cache=cache, on_fetch=fetched.append).wasm == WASM
    assert len(fetched) == 2


def test_other_bytes_from_npm_are_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(tmp_path, monkeypatch, 'echo other > "$4/other.tgz"')
    with pytest.raises(DownloadError, match="npm gave another file") as raised:
        obtain_runtime(pinned=PIN, cache=tmp_path / "cache")
    assert raised.value.exit_code == 3
    assert not (tmp_path / "cache").exists()


def test_npms_own_words_are_in_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path, monkeypatch, 'echo "npm error code ENOTFOUND" >&2; exit 1')
    with pytest.raises(DownloadError, match=r"ort-fake@1\.2\.3 \(npm error code ENOTFOUND\)"):
        obtain_runtime(pinned=PIN, cache=tmp_path / "cache")


def test_without_npm_the_message_says_how_to_bring_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(EnvironmentLacks, match="npm, which fetches it, is not installed") as raised:
        obtain_runtime(pinned=PIN, cache=tmp_path / "cache")
    assert raised.value.exit_code == 3
    assert "npm pack ort-fake@1.2.3" in (raised.value.fix or "")
    assert "--ort-web ort-fake-1.2.3.tgz" in (raised.value.fix or "")


def test_a_cache_that_cannot_be_written_does_not_stop_the_page(
    tmp_path: Path, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(tmp_path, monkeypatch, f'cp {given} "$4"')
    (tmp_path / "cache").touch()
    assert obtain_runtime(pinned=PIN, cache=tmp_path / "cache").wasm == WASM


def test_the_pin_is_whole() -> None:
    assert len(web_runtime._integrity_of(PINNED)) == 64
    assert all(re.fullmatch("[0-9a-f]{64}", f.sha256) for f in (PINNED.script, PINNED.wasm))
