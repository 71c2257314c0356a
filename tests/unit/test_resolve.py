from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aasist_deploy import __version__, extras, published, resolve
from aasist_deploy.engines import choose_backend
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, OutputError, UsageError
from aasist_deploy.published import PUBLISHED
from aasist_deploy.resolve import backend_of, chosen_backend, model_file
from tests.contracts import contract_of


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv(published.CACHE_VARIABLE, str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The exports that would have been made; nothing is pulled or traced."""
    import aasist_deploy.export as export_package
    from aasist_deploy import models

    made: list[Path] = []

    class Result:
        def __init__(self, path: Path) -> None:
            self.path = path

    def export_onnx(_checkpoint: object, path: Path) -> Result:
        made.append(path)
        path.write_bytes(b"new")
        return Result(path)

    monkeypatch.setattr(export_package, "export_onnx", export_onnx)
    monkeypatch.setattr(models, "load_checkpoint", lambda path: path)
    monkeypatch.setattr(resolve, "pull", lambda name: Path(f"{name}.pth"))
    return made


def test_file_is_itself(cache: Path) -> None:
    path = cache / "x.onnx"
    path.touch()
    assert model_file(str(path), None) == path


def test_file_with_a_published_name_wins(cache: Path) -> None:
    Path("aasist").touch()
    assert model_file("aasist", None) == Path("aasist")
    assert cache.exists()


def test_folder_does_not_hide_the_published_name(cache: Path, exports: list[Path]) -> None:
    Path("aasist").mkdir()
    assert model_file("aasist", "onnx") == cache / f"aasist-{__version__}.onnx"
    assert len(exports) == 1


@pytest.mark.parametrize(("name", "what"), [("none", "neither a file"), (".", "is a folder")])
def test_what_is_no_model_is_refused_with_the_names(name: str, what: str, cache: Path) -> None:
    assert cache.exists()
    with pytest.raises(UsageError, match=f"{what}.*aasist, aasist-l"):
        model_file(name, None)


def test_torch_takes_the_weights_and_others_the_exported_file(
    cache: Path, exports: list[Path]
) -> None:
    assert model_file("aasist-l", "torch") == Path("aasist-l.pth")
    assert exports == []
    target = cache / f"aasist-l-{__version__}.onnx"
    for backend in (None, "onnx"):
        assert model_file("aasist-l", backend) == target
    assert exports == [target, target]  # what the fake export wrote has no contract


@pytest.mark.parametrize("fresh", [True, False])
def test_cached_file_is_used_only_when_it_comes_from_these_weights(
    fresh: bool, cache: Path, exports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = cache / f"aasist-{__version__}.onnx"
    target.write_bytes(b"old")
    sha256 = PUBLISHED["aasist"].sha256 if fresh else "0" * 64
    monkeypatch.setattr(
        resolve, "read_contract", lambda _path, **_: (contract_of(checkpoint_sha256=sha256), None)
    )
    assert model_file("aasist", "onnx") == target
    assert exports == ([] if fresh else [target])


def test_damaged_file_in_the_cache_is_replaced(
    cache: Path, exports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = cache / f"aasist-{__version__}.onnx"
    target.write_bytes(b"old")

    def damaged(_path: Path, **_: object) -> Any:
        raise ModelFileError("damaged")

    monkeypatch.setattr(resolve, "read_contract", damaged)
    model_file("aasist", "onnx")
    assert exports == [target]


def test_unknown_backend_is_refused_before_anything_is_exported(
    cache: Path, exports: list[Path]
) -> None:
    with pytest.raises(
        UsageError, match="There is no backend 'tpu'; known are: openvino, onnx, torch"
    ):
        model_file("aasist", "tpu")
    assert exports == []
    assert list(cache.iterdir()) == []


def test_first_use_without_pytorch_names_the_extra(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.exists()
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(EnvironmentLacks, match=r"aasist is exported on first use.*torch") as raised:
        model_file("aasist", "onnx")
    assert "aasist-deploy[export]" in str(raised.value.fix)
    assert raised.value.exit_code == 3


def test_cache_that_cannot_be_written_says_how_to_move_it(
    cache: Path, exports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import aasist_deploy.export as export_package

    def full(_checkpoint: object, path: Path) -> Any:
        raise OutputError(f"{path} cannot be written: full.", fix="choose another place with -o")

    assert exports == []
    assert cache.exists()
    monkeypatch.setattr(export_package, "export_onnx", full)
    with pytest.raises(OutputError) as raised:
        model_file("aasist", "onnx")
    assert published.CACHE_VARIABLE in str(raised.value.fix)


def test_backend_is_the_one_asked_for_or_that_of_the_suffix() -> None:
    assert backend_of(Path("x.onnx"), None) == choose_backend("x.onnx").backend
    assert backend_of(Path("x.onnx"), None, ["provider"]) == "onnx"
    assert backend_of(Path("x.onnx"), None, ["precision"]) == "openvino"
    assert backend_of(Path("x.onnx"), "onnx", ["precision"]) == "onnx"
    assert chosen_backend(Path("x.onnx"), "onnx").why == "as asked"
    assert backend_of(Path("x.pth"), None) == "torch"
    assert backend_of(Path("x.pth"), "onnx") == "onnx"
    with pytest.raises(UsageError, match=r"suffix is '\.dat'"):
        backend_of(Path("x.dat"), None)
    with pytest.raises(UsageError, match="no backend 'tpu'"):
        backend_of(Path("x.onnx"), "tpu")
