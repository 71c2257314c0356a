"""What the machine can do: the rate of a large matrix product, by precision.

A product of two square matrices of 2,048 rows is the arithmetic that libraries of linear algebra do
best, so that its rate stands for the hardware's. It is measured with the same number of threads and
in the same rounds as the models. Where several tools can do a precision, each is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.engines import missing_packages
from aasist_deploy.engines.cpu_features import lacks_bf16, lacks_int8
from aasist_deploy.engines.onnx import import_onnxruntime
from aasist_deploy.engines.openvino_graph import import_openvino, openvino_core

if TYPE_CHECKING:
    from collections.abc import Callable

PRODUCT_SIZE: Final = 2048  # 17 GFLOP; 1,024 gave the same rates within 5 % where this was written
_HINT: Final = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # int8 is in the graph


class Products:
    """Matrix products that can be run, by name "PRECISION, TOOL".

    Args:
        threads: Of ONNX Runtime and OpenVINO; numpy has those that its environment variables gave
            when the process began.
        size: Rows of the square matrices.
    """

    def __init__(self, threads: int, size: int = PRODUCT_SIZE) -> None:
        random = np.random.default_rng(0)
        a, b = (random.standard_normal((size, size), dtype=np.float32) for _ in range(2))
        self.operations = 2 * size**3
        self.runs: dict[str, Callable[[], object]] = {"fp32, numpy": lambda: a @ b}
        if _is_here("openvino"):
            self.runs |= _openvino_products(a, b, threads)
        if "int8, OpenVINO" not in self.runs and _is_here("onnx"):
            self.runs["int8, ONNX Runtime"] = _onnxruntime_product(size, threads)

    def run(self, name: str) -> None:
        """Compute one product."""
        self.runs[name]()


def _is_here(backend: str) -> bool:
    try:
        return not missing_packages(backend)
    except KeyError:  # no such backend
        return False


def _openvino_products(a: Any, b: Any, threads: int) -> dict[str, Callable[[], object]]:  # noqa: ANN401
    """One product for each precision that this CPU computes natively."""
    lacks = {"fp32": None, "bf16": lacks_bf16(), "int8": lacks_int8()}
    return {
        f"{precision}, OpenVINO": _compiled_product(precision, a, b, threads).infer
        for precision, reason in lacks.items()
        if reason is None
    }


def _compiled_product(precision: str, a: Any, b: Any, threads: int) -> Any:  # noqa: ANN401
    """A request that computes the product of a and b's transpose."""
    openvino = import_openvino()
    opset13 = openvino.opset13
    given = opset13.parameter(list(a.shape), np.float32)
    left, right = given, opset13.constant(b)
    if precision == "int8":
        left, right = (_quantized(opset13, value) for value in (left, right))
    product = opset13.matmul(left, right, transpose_a=False, transpose_b=True)
    compiled = openvino_core().compile_model(
        openvino.Model([product], [given]),
        "CPU",
        {"INFERENCE_PRECISION_HINT": _HINT[precision], "INFERENCE_NUM_THREADS": threads},
    )
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(a, shared_memory=True))
    return request


def _quantized(opset: Any, value: Any) -> Any:  # noqa: ANN401  # openvino has no types
    """The value rounded to 256 levels over four standard deviations."""
    low, high = (opset.constant(np.float32(limit)) for limit in (-4.0, 4.0 * 127 / 128))
    return opset.fake_quantize(value, low, high, low, high, levels=256)


def _onnxruntime_product(size: int, threads: int) -> Callable[[], object]:
    """A MatMulInteger of bytes, the product of quantized models in ONNX Runtime."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(
        _matmul_integer(size), options, providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    a = random.integers(0, 256, (size, size), dtype=np.uint8)
    return lambda: session.run(None, {"a": a})


def _matmul_integer(size: int) -> bytes:
    """An ONNX model y = MatMulInteger(a, b) with fixed b; written here, as `onnx` may be missing.

    Source: field numbers from onnx.proto.
    """
    b = np.random.default_rng(1).integers(-128, 128, (size, size), dtype=np.int8)
    weight = _packed((1, size), (1, size), (2, 3), (8, b"b"), (9, b.tobytes()))
    node = _packed((1, b"a"), (1, b"b"), (2, b"y"), (4, b"MatMulInteger"))
    graph = _packed(
        *((1, node), (2, b"product"), (5, weight)),
        *((11, _value("a", 2, size)), (12, _value("y", 6, size))),
    )
    return _packed((1, 8), (7, graph), (8, _packed((1, b""), (2, 17))))


def _value(name: str, element: int, size: int) -> bytes:
    """ValueInfoProto of a square matrix; element 2 is uint8, 6 is int32."""
    side = _packed((1, _packed((1, size))))
    tensor = _packed((1, element), (2, side + side))
    return _packed((1, name.encode()), (2, _packed((1, tensor))))


def _packed(*fields: tuple[int, int | bytes]) -> bytes:
    """One protobuf message: numbers as varints, bytes with their length before them."""
    out = []
    for number, value in fields:
        if isinstance(value, int):
            out += [_varint(number << 3), _varint(value)]
        else:
            out += [_varint(number << 3 | 2), _varint(len(value)), value]
    return b"".join(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
