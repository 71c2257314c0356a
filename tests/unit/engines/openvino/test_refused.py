"""Options, precisions and files that are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from aasist_deploy import open_engine
from aasist_deploy.contract import ModelContract
from aasist_deploy.engines import cpu_features
from aasist_deploy.errors import ModelFileError, UsageError
from aasist_deploy.onnx_file import parse_onnx
from tests.unit.engines.openvino.files import NO_BF16, with_contract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# Found, not imported: only `import_openvino` imports it without its telemetry.
if find_spec("openvino") is None:
    pytest.skip("needs OpenVINO", allow_module_level=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "no precision 'fp8' in OpenVINO; known are: fp32, bf16, int8"),
        ({"hint": "fast"}, "no hint 'fast'; known are: latency, throughput"),
        ({"threads": 0}, "number of threads is 0"),
        ({"precision": "int8"}, "is a file in fp32, which can be computed in fp32 or bf16"),
        ({"precision": "int8+bf16"}, "asked was int8\\+bf16"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: Any, message: str, small_onnx: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=message):
        open_engine(small_onnx(), "openvino", **options)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_files_written_for_gpus_are_refused_unless_allowed(
    precision: str, small_onnx: Callable[..., Path], tmp_path: Path, waves: NDArray[np.float32]
) -> None:
    # Only the contract says so here; the graph computes in fp32, so that it runs when allowed.
    path = with_contract(small_onnx(), tmp_path / "low.onnx", precision=precision)
    with pytest.raises(UsageError, match=f"written in {precision} for GPUs") as raised:
        open_engine(path, "openvino")
    assert "--precision bf16" in str(raised.value.fix)
    with open_engine(path, "openvino", allow_slow_precision=True, threads=1) as engine:
        assert engine.device == f"CPU, fp32 of a {precision} file, 1 threads, latency"
        assert np.isfinite(engine.score(waves)).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NO_BF16, r"this CPU \(Made-up CPU\) has neither AVX512_BF16 nor AMX"),
        ("", "does not say what this CPU computes"),
    ],
)
def test_bf16_is_refused_on_a_pretended_cpu_without_it(
    text: str,
    reason: str,
    cpu: Callable[[str], None],
    small_onnx: Callable[..., Path],
    waves: NDArray[np.float32],
) -> None:
    cpu(text)
    path = small_onnx()
    with pytest.raises(UsageError, match=f"bf16 would be emulated, slower.*{reason}") as raised:
        open_engine(path, "openvino", precision="bf16")
    assert "allow_slow_precision" in str(raised.value.fix)
    options: Any = {"precision": "bf16", "allow_slow_precision": True}
    with open_engine(path, "openvino", **options) as engine:
        assert np.isfinite(engine.score(waves[:1])).all()
    open_engine(path, "openvino").close()  # fp32 needs none of it


def test_bf16_is_refused_where_onednn_is_really_held_below_it(
    small_onnx: Callable[..., Path],
) -> None:
    """In a process whose oneDNN emulates bf16, on whatever CPU this is."""
    program = (
        "import sys, aasist_deploy as a\n"
        "try: a.open_engine(sys.argv[1], 'openvino', precision='bf16')\n"
        "except a.UsageError as error: print(error)\n"
    ).replace("a.UsageError", "a.AasistDeployError")
    done = subprocess.run(
        [sys.executable, "-c", program, small_onnx()],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bf16 would be emulated" in done.stdout
    if "avx512_bf16" in cpu_features.cpu_flags():
        assert "ONEDNN_MAX_CPU_ISA=AVX512_CORE keeps the arithmetic below it" in done.stdout


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_name": "audio"}, "says audio -> .*; the graph has wave -> "),
        ({"outputs": {"score": "x", "posterior": "y"}}, "says wave -> posterior, score"),
        ({"n_samples": 64_600, "min_samples": 64_600}, "waves of 64600 samples.*takes 16000"),
    ],
)
def test_contract_that_speaks_of_another_graph_is_refused(
    fields: dict[str, Any], message: str, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    path = with_contract(small_onnx(), tmp_path / "x.onnx", **fields)
    with pytest.raises(ModelFileError, match=message):
        open_engine(path, "openvino")


def test_altered_file_and_graph_that_openvino_refuses_are_model_file_errors(
    small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    content = small_onnx().read_bytes()
    path = tmp_path / "x.onnx"
    position = content.index(b"encoder.0")
    path.write_bytes(content[:position] + b"E" + content[position + 1 :])
    with pytest.raises(ModelFileError, match="altered after export"):
        open_engine(path, "openvino")
    model = onnx.load_model_from_string(content)
    model.graph.node[3].op_type = "NoSuchOperator"
    fields = {p.key: p.value for p in model.metadata_props}
    graph = parse_onnx(model.SerializeToString(), path).graph_sha256
    contract = replace(ModelContract.from_metadata(fields, path), graph_sha256=graph)
    onnx.helper.set_model_props(model, contract.to_metadata())
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"OpenVINO .* cannot compile .*NoSuchOperator"):
        open_engine(path, "openvino")
