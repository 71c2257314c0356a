"""Which backend is taken when none is named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from aasist_deploy import engines
from aasist_deploy.contract import read_contract, write_contract
from aasist_deploy.engines import BACKENDS, choose_backend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Import names that are there, on a machine of this kind; a pretence of both."""

    def pretend(*packages: str, machine: str = "x86_64") -> None:
        monkeypatch.setattr(engines, "find_spec", lambda name: name if name in packages else None)
        monkeypatch.setattr("platform.machine", lambda: machine)

    return pretend


def test_of_two_installed_the_faster_exact_one_is_taken(installed: Callable[..., None]) -> None:
    installed("onnxruntime", "openvino")
    choice = choose_backend("m.onnx")
    assert choice == ("openvino", "the fastest exact one of openvino, onnx")


@pytest.mark.parametrize(("package", "name"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_the_only_one_installed_is_taken(
    package: str, name: str, installed: Callable[..., None]
) -> None:
    installed(package)
    choice = choose_backend("m.onnx")
    assert choice == (name, "the only one installed of openvino, onnx")


def test_where_openvino_was_not_measured_it_is_not_called_the_fastest(
    installed: Callable[..., None],
) -> None:
    installed("onnxruntime", "openvino", machine="aarch64")
    assert choose_backend("m.onnx").backend == "onnx"
    installed("openvino", machine="aarch64")
    assert choose_backend("m.onnx").backend == "openvino"


def test_rawnet2_goes_to_onnx_runtime_which_runs_its_gru_faster(
    installed: Callable[..., None], small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    contract, file = read_contract(small_onnx())
    path = tmp_path / "m.onnx"
    for architecture, taken in (("RawNet2", "onnx"), ("AASIST", "openvino")):
        write_contract(replace(contract, architecture=architecture), file, path)
        installed("onnxruntime", "openvino")
        assert choose_backend(path).backend == taken
        assert choose_backend(path, ["precision"]).backend == "openvino"
        installed("openvino")
        assert choose_backend(path).backend == "openvino"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["provider"], "onnx"),
        (["threads", "precision"], "openvino"),
        (["hint"], "openvino"),
        (["cache_dir"], "openvino"),
        (["threads", "max_batch"], "openvino"),
    ],
)
def test_an_option_that_one_backend_has_decides(
    options: list[str], name: str, installed: Callable[..., None]
) -> None:
    installed("onnxruntime", "openvino")
    assert choose_backend("m.onnx", options).backend == name


def test_options_of_the_registry_are_options_of_the_engines() -> None:
    from importlib import import_module
    from inspect import signature

    for name in ("onnx", "openvino"):
        known = signature(import_module(BACKENDS[name].module).ENGINE).parameters
        assert BACKENDS[name].own
        assert set(BACKENDS[name].own) <= set(known)


def test_files_that_one_backend_opens_are_that_one_s() -> None:
    assert choose_backend("m.pth") == ("torch", "which opens .pth files")
    assert choose_backend("m.plan").backend == "trt"
