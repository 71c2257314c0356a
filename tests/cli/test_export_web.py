"""`export --to web` and `--to ort` as a user meets them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.errors import EnvironmentLacks
from aasist_deploy.export import web_runtime
from aasist_deploy.export.web_runtime import PINNED, WebRuntime
from tests.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """A runtime without a network; where it was asked for."""
    places: list[Path | None] = []

    def obtain(given: Path | None = None, **_: object) -> WebRuntime:
        places.append(given)
        return WebRuntime(PINNED, b"script", b"wasm")

    monkeypatch.setattr(web_runtime, "obtain_runtime", obtain)
    return places


def test_exported_file_becomes_a_page(
    cli: Any, model: Path, asked: list[Path | None], tmp_path: Path
) -> None:
    result = cli("export", model, "--to", "web", "--ort-web", "ort.tgz", "-o", tmp_path / "page")
    assert result.code == 0, result.err
    assert "index.html: 0.1 MB, with the model and onnxruntime-web@1.30.0 inside" in result.out
    names = {path.name for path in (tmp_path / "page").iterdir()}
    assert names == {"index.html", "model.onnx", "README.md"}
    assert [str(place) for place in asked] == ["ort.tgz"]
    result = cli("export", model, "--to", "web", "-o", tmp_path / "other", "--json")
    said = json.loads(result.out)
    assert said["page_bytes"] == (tmp_path / "other" / "index.html").stat().st_size
    again = cli("export", model, "--to", "web", "-o", tmp_path / "page")
    assert again.code == 2
    assert "exists already" in again.err


def test_a_machine_without_npm_is_told_before_any_work(
    cli: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(*_: object, **__: object) -> WebRuntime:
        raise EnvironmentLacks("no npm here", fix="bring the file")

    monkeypatch.setattr(web_runtime, "obtain_runtime", lacks)
    result = cli("export", model, "--to", "web", "-o", tmp_path / "page")
    assert result.code == 3
    assert "no npm here" in result.err
    assert "bring the file" in result.err
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--to", "onnx", "--ort-web", "x.tgz"), "--ort-web is given without --to web"),
        (("--to", "web", "--precision", "fp16"), "--precision is fp16; the page runs fp32"),
        (("--to", "web", "--stream"), "a file for streams is made from the checkpoint"),
        (("--to", "ort", "--stream"), "a file for streams is made from the checkpoint"),
        (("--to", "ort", "--precision", "int8"), "--precision int8"),
    ],
)
def test_options_that_do_not_go_together(
    cli: Any, model: Path, asked: list[Path | None], tmp_path: Path,
    options: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    suffix = {"onnx": ".onnx", "ort": ".ort"}.get(options[1], "")
    result = cli("export", model, *options, "-o", tmp_path / f"out{suffix}")
    assert result.code == 2
    assert words in result.err
    assert asked == []
    assert not (tmp_path / f"out{suffix}").exists()


def test_exported_file_becomes_an_ort_file(cli: Any, model: Path, tmp_path: Path) -> None:
    result = cli("export", model, "--to", "ort", "-o", tmp_path / "m.ort", "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)["ort"]
    assert said["n_bytes"] == (tmp_path / "m.ort").stat().st_size
    assert said["n_operators"] == 2
    wrong = cli("export", model, "--to", "ort", "-o", tmp_path / "m.bin")
    assert wrong.code == 2
    assert "does not end in .ort" in wrong.err
