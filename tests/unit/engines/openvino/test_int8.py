"""Files in int8."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aasist_deploy import open_engine
from aasist_deploy.errors import UsageError
from tests.unit.engines.openvino.files import NO_BF16, quantized

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# Found, not imported: only `import_openvino` imports it without its telemetry.
if find_spec("openvino") is None:
    pytest.skip("needs OpenVINO", allow_module_level=True)

NO_VNNI = "flags\t\t: fpu avx2\nmodel name\t: Made-up CPU\n"


@pytest.fixture(scope="module")
def int8_file(
    small_onnx: Callable[..., Path],
    waves: NDArray[np.float32],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return quantized(small_onnx(), tmp_path_factory.mktemp("int8") / "int8.onnx", waves[:4])


def test_int8_file_opens_in_its_own_precision_and_says_so(
    int8_file: Path, cpu: Callable[[str], None], waves: NDArray[np.float32]
) -> None:
    cpu(NO_BF16)  # it has VNNI
    with open_engine(int8_file, "openvino", threads=2) as engine:
        assert engine.device == "CPU, int8, 2 threads, latency"
        assert np.isfinite(engine.score(waves)).all()


def test_int8_file_is_no_fp32_and_mixes_with_bf16_only_when_asked(
    int8_file: Path, cpu: Callable[[str], None], waves: NDArray[np.float32]
) -> None:
    with pytest.raises(UsageError, match="file in int8, which can be computed in int8 or int8"):
        open_engine(int8_file, "openvino", precision="fp32")
    cpu("flags : avx512_vnni avx512_bf16\n")
    with open_engine(int8_file, "openvino", precision="int8+bf16", threads=2) as engine:
        assert engine.device == "CPU, int8+bf16, 2 threads, latency"
        assert np.isfinite(engine.score(waves)).all()


def test_int8_is_refused_on_a_pretended_cpu_without_vnni(
    int8_file: Path, cpu: Callable[[str], None]
) -> None:
    cpu(NO_VNNI)
    with pytest.raises(UsageError, match=r"int8 would be emulated.*neither VNNI nor AMX"):
        open_engine(int8_file, "openvino")
    open_engine(int8_file, "openvino", allow_slow_precision=True).close()
