from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from aasist_deploy.bench import products
from aasist_deploy.bench.products import Products
from aasist_deploy.engines.cpu_features import lacks_int8


def test_a_product_has_two_operations_for_each_multiplication() -> None:
    made = Products(1, size=64)
    assert made.operations == 2 * 64**3
    assert "fp32, numpy" in made.runs
    for name in made.runs:
        made.run(name)


needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="needs the extra openvino"
)


@needs_openvino
@pytest.mark.parametrize("lacking", [None, "bf16", "int8"])
def test_precisions_are_those_that_the_cpu_computes_natively(
    lacking: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for precision in ("bf16", "int8"):
        reason = "said so" if precision == lacking else None
        monkeypatch.setattr(products, f"lacks_{precision}", lambda reason=reason: reason)
    made = Products(1, size=64)
    for precision in ("bf16", "int8"):
        assert (f"{precision}, OpenVINO" in made.runs) is (precision != lacking)


@needs_openvino
@pytest.mark.skipif(lacks_int8() is not None, reason="this CPU computes no int8")
def test_quantized_product_of_openvino_runs_in_int8() -> None:
    a = np.ones((64, 64), np.float32)
    compiled = products._compiled_product("int8", a, a, 1).get_compiled_model()
    types = {
        str(node.get_rt_info()["layerType"].astype(str)): str(
            node.get_rt_info()["runtimePrecision"].astype(str)
        )
        for node in compiled.get_runtime_model().get_ops()
    }
    assert any("FullyConnected" in kind and dtype in ("i8", "u8") for kind, dtype in types.items())


def test_integer_product_for_onnxruntime_is_a_valid_model() -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    model = onnx.load_model_from_string(products._matmul_integer(8))
    onnx.checker.check_model(model, full_check=True)
    reference = pytest.importorskip("onnx.reference").ReferenceEvaluator(model)
    a = np.arange(64, dtype=np.uint8).reshape(8, 8)
    ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"a": a})[0], reference.run(None, {"a": a})[0])


def test_onnxruntime_computes_the_int8_product_where_openvino_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    monkeypatch.setattr(products, "_is_here", lambda backend: backend == "onnx")
    made = Products(1, size=64)
    assert list(made.runs) == ["fp32, numpy", "int8, ONNX Runtime"]
    made.run("int8, ONNX Runtime")
