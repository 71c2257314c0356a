"""The graph alone, and the import."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from aasist_deploy.engines.openvino_graph import OpenvinoGraph

if TYPE_CHECKING:
    from pathlib import Path


# Found, not imported: only `import_openvino` imports it without its telemetry.
if find_spec("openvino") is None:
    pytest.skip("needs OpenVINO", allow_module_level=True)


def test_a_graph_without_contract_runs_arrays_by_name() -> None:
    helper = onnx.helper
    node = helper.make_node("Sub", ["a", "b"], ["c"])
    values = [helper.make_tensor_value_info(n, 1, ["n", 2]) for n in ("a", "b", "c")]
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    from pathlib import Path

    part = OpenvinoGraph(content, Path("part"), hint="throughput", threads=2)
    assert part.inputs == {"a": (None, 2), "b": (None, 2)}
    assert part.outputs == ("c",)
    one, two = np.full((3, 2), 5, np.float32), np.full((3, 2), 2, np.float32)
    assert np.array_equal(part.run({"b": two, "a": one})["c"], one - two)
    pieces = [{"a": one * i, "b": two} for i in range(9)]
    for i, found in enumerate(part.run_all(pieces)):
        assert np.array_equal(found["c"], one * i - two)
    with pytest.raises(RuntimeError):
        part.run_all([{"a": one, "b": two}, {"a": one, "nothing": two}])
    assert np.array_equal(part.run({"a": one, "b": two})["c"], one - two)  # requests came back
    part.close()
    part.close()


def test_openvino_is_imported_without_its_telemetry(tmp_path: Path) -> None:
    """In a process of its own, with a home that shows what was written."""
    program = (
        "import sys\n"
        "from aasist_deploy.engines.openvino_graph import openvino_core\n"
        "openvino_core()\n"
        "assert 'openvino' in sys.modules\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "print(telemetry_utils.tm.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["[]", "openvino.tools.ovc.telemetry_stub"]
    assert list(tmp_path.iterdir()) == []
