from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aasist_deploy.bench import Spec, combinations, parse_spec
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def labels(*arguments: list[str]) -> list[str]:
    return [spec.label for spec in combinations(*arguments)]


def test_a_variant_is_model_backend_and_precision() -> None:
    assert parse_spec("m.onnx") == Spec(model="m.onnx")
    assert parse_spec("m.onnx@onnx") == Spec(model="m.onnx", backend="onnx")
    spec = parse_spec("a/m.onnx@openvino:bf16")
    assert spec == Spec(model="a/m.onnx", backend="openvino", precision="bf16")
    assert spec.label == "m.onnx@openvino:bf16"


def test_a_file_whose_name_has_an_at_sign_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m@onnx"
    path.touch()
    assert parse_spec(str(path)) == Spec(model=str(path))


def test_every_model_runs_on_every_backend_in_every_precision() -> None:
    found = labels(["a.onnx", "b.onnx"], ["onnx", "openvino"], ["fp32", "bf16"])
    assert found == [
        *("a.onnx@onnx", "a.onnx@openvino:fp32", "a.onnx@openvino:bf16"),
        *("b.onnx@onnx", "b.onnx@openvino:fp32", "b.onnx@openvino:bf16"),
    ]


def test_a_model_that_names_its_backend_runs_on_that_alone() -> None:
    assert labels(["a.onnx@onnx", "b.onnx"], ["openvino:bf16"]) == [
        "a.onnx@onnx",
        "b.onnx@openvino:bf16",
    ]


def test_a_precision_of_its_own_is_kept() -> None:
    assert labels(["a@openvino:bf16", "b@openvino"], [], ["fp32"]) == [
        "a@openvino:bf16",
        "b@openvino:fp32",
    ]


def test_precisions_alone_mean_the_backend_that_has_them() -> None:
    assert labels(["a", "b@onnx"], [], ["bf16"]) == ["a@openvino:bf16", "b@onnx"]


def test_no_variant_is_measured_twice() -> None:
    assert labels(["a@onnx", "a"], ["onnx"]) == ["a@onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a@nothing"],), "There is no backend 'nothing'"),
        ((["a"], ["nothing"]), "There is no backend 'nothing'"),
        ((["a@openvino:"],), "ends where a precision should be"),
        ((["a@onnx:bf16"],), "asks the backend onnx for bf16"),
        ((["@onnx"],), "names no model"),
        ((["a"], ["onnx"], ["bf16"]), "--precision bf16 is for the backend openvino"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: tuple[list[str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        combinations(*arguments)
