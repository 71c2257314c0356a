"""Exported files on OpenVINO against the reference outputs of the published code."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.engines.cpu_features import lacks_bf16

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# Found, not imported: only `import_openvino` imports it without its telemetry.
if find_spec("openvino") is None:
    pytest.skip("needs OpenVINO", allow_module_level=True)

# As for ONNX Runtime (test_onnx_golden.py). Measured max over the 412 clips: AASIST 6.7e-6,
# AASIST-L 1.0e-5 (logits), 7.9e-6 (embedding).
ATOL = 1e-4
# Threads may cut sums in other places; measured 0 with one and two.
THREADS_ATOL = 2e-5
# bf16 keeps 8 bits of the mantissa, and a node of graph pooling may give way to another. Measured
# max over all 412 clips: AASIST 0.195 (topk), 0.258 (rank, a training clip); AASIST-L 0.199, 0.176.
BF16_ATOL = 0.25
# RawGAT-ST with random weights magnifies rounding: of three clips, its embedding (up to 7.7) is up
# to 4.4e-5 from float64 in PyTorch, 3.5e-5 in ONNX Runtime and 1.9e-4 in OpenVINO; scores 7.3e-5.
RANDOM_EMBEDDING_ATOL = 4e-4
N_CLIPS = 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # seconds on quiet cores


@pytest.fixture(scope="module")
def clips(shared: Path) -> Callable[..., tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """(number of clips, first letters of their names) -> places in the reference, windows."""
    names = np.load(shared / "golden" / "AASIST.LA_mini.npz")["utt"]

    def load(n: int, kind: str = "LA") -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        able = [i for i, name in enumerate(names) if str(name).startswith(kind)]
        places = np.array(able)[np.linspace(0, len(able) - 1, n).astype(int)]
        waves = []
        for name in names[places]:
            split = {"D": "dev", "E": "eval", "T": "train"}[str(name)[3]]
            folder = shared / "data" / "LA_mini" / f"ASVspoof2019_LA_{split}" / "flac"
            audio = read_audio(folder / f"{name}.flac", max_samples=64_600)
            waves.append(fit_length(audio.wave))
        return places, np.stack(waves)

    return load


@pytest.mark.parametrize(("name", "topk"), [("AASIST", "topk"), ("AASIST-L", "rank")])
def test_fp32_is_the_reference_and_bf16_near_it(
    name: str, topk: str, shared: Path, exported: Callable[..., Path], clips: Callable[..., Any]
) -> None:
    golden = np.load(shared / "golden" / f"{name}.LA_mini.npz")
    path = exported(name, topk)
    places, waves = clips(N_CLIPS)
    found: dict[int, dict[str, NDArray[np.float32]]] = {}
    for max_batch in (1, 16):
        with open_engine(path, "openvino", max_batch=max_batch, threads=2) as engine:
            found[max_batch] = engine.run(waves)
    for output in ("logits", "embedding"):
        worst = float(np.abs(found[1][output] - golden[output][places]).max())
        print(name, output, worst)  # noqa: T201  # shown by -s, for the constants above
        assert worst <= ATOL
        assert np.array_equal(found[1][output], found[16][output])  # any batch: bit for bit
    one: Any = open_engine(path, "openvino", threads=1, hint="throughput")
    other: Any = open_engine(path, "onnx")
    with one, other:
        difference = np.abs(one.score(waves[:4]) - found[1]["score"][:4]).max()
        assert difference <= THREADS_ATOL
        for pool, order in one.pooling_orders(waves[:4]).items():
            assert np.array_equal(order, other.pooling_orders(waves[:4])[pool]), pool

    if (reason := lacks_bf16()) is not None:
        pytest.skip(f"the part on bf16 needs a CPU that computes it: {reason}")
    places, waves = clips(N_CLIPS, "LA_D")
    exact = golden["logits"][places, 1]
    with open_engine(path, "openvino", precision="bf16", threads=2) as engine:
        lower = engine.score(waves)
        assert np.array_equal(engine.score(waves), lower)
    print(name, "bf16", float(np.abs(lower - exact).max()))  # noqa: T201
    assert 1e-4 < np.abs(lower - exact).max() <= BF16_ATOL
    assert np.array_equal(lower > 0, exact > 0)


@pytest.mark.parametrize("name", ["RawGAT-ST", "RawNet2-small"])
def test_other_architectures_are_those_of_onnx_runtime(
    name: str, clips: Callable[..., Any], exported: Callable[..., Path]
) -> None:
    path = exported(name)
    _, waves = clips(3)
    with open_engine(path, "openvino") as engine, open_engine(path, "onnx") as other:
        found, expected = engine.run(waves), other.run(waves)
    for output, value in expected.items():
        worst = float(np.abs(found[output] - value).max())
        print(name, output, worst)  # noqa: T201
        assert worst <= (RANDOM_EMBEDDING_ATOL if output == "embedding" else ATOL)
