"""RawGAT-ST and RawNet2 as exported files against the reference outputs of the published code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.engines.torch import run_in_order
from aasist_deploy.export import export_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint

# Rounding in another order. Measured on the six clips: RawNet2 1.4e-6 (log-probabilities) and
# 2.1e-6 (embedding); RawGAT-ST with the same nodes kept 3.4e-5 (logits).
RAWNET2_ATOL = 2e-5
RAWGAT_ATOL = 2e-4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def golden(shared: Path) -> Callable[[str], tuple[Any, NDArray[np.float32]]]:
    """Name -> reference outputs, and the windows they are of."""

    def load(name: str) -> tuple[Any, NDArray[np.float32]]:
        expected = np.load(shared / "golden" / f"{name}.golden.npz")
        waves = []
        for utterance in expected["utt"]:
            split = {"D": "dev", "E": "eval", "T": "train"}[str(utterance)[3]]
            clips = shared / "data" / "LA_mini" / f"ASVspoof2019_LA_{split}" / "flac"
            waves.append(fit_length(read_audio(clips / f"{utterance}.flac").wave, 64_600))
        return expected, np.stack(waves)

    return load


@pytest.mark.parametrize("variable", [False, True])
def test_rawnet2_is_the_reference_at_batch_one_and_six(
    variable: Any, golden: Callable[..., Any], exported: Callable[..., Path]
) -> None:
    expected, waves = golden("RawNet2-small")
    path = exported("RawNet2-small", variable=variable)
    for max_batch in (1, 6):
        with open_engine(path, "onnx", max_batch=max_batch) as engine:
            outputs = engine.run(waves)
        for name, wanted in (("logits", "output"), ("embedding", "embedding")):
            worst = float(np.abs(outputs[name] - expected[wanted]).max())
            print("RawNet2-small", variable, max_batch, name, worst)  # noqa: T201  # shown by -s
            assert worst <= RAWNET2_ATOL
        assert np.array_equal(outputs["score"], outputs["logits"][:, 1])


@pytest.fixture(scope="module")
def in_order(
    golden: Callable[..., Any], golden_checkpoint: Callable[[str], Checkpoint]
) -> Callable[[dict[str, NDArray[np.int64]]], NDArray[np.float32]]:
    """Nodes that RawGAT-ST is to keep -> its logits of the six clips in PyTorch; each once."""
    made: dict[bytes, NDArray[np.float32]] = {}

    def get(orders: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        key = b"".join(orders[name].tobytes() for name in sorted(orders))
        if key not in made:
            _, waves = golden("RawGAT-ST")
            model = golden_checkpoint("RawGAT-ST").model
            output, contradiction = run_in_order(model, torch.from_numpy(waves), orders)
            assert contradiction <= 0.0  # an order that the checkpoint's own scores allow
            made[key] = output.numpy()
        return made[key]

    return get


@pytest.mark.parametrize(
    ("topk", "max_batch"),
    [
        ("topk", 1),
        ("rank", 6),
        pytest.param("topk", 6, marks=pytest.mark.long),
        pytest.param("rank", 1, marks=pytest.mark.long),
    ],
)
def test_rawgat_is_the_reference_but_for_the_order_of_equal_scores(
    topk: Any,
    max_batch: int,
    golden: Callable[..., Any],
    in_order: Callable[..., NDArray[np.float32]],
    exported: Callable[..., Path],
) -> None:
    # The random weights saturate the sigmoid: most scores of a graph are exactly 1, and the
    # reference breaks those ties by the code of torch.topk on the CPU, which no runtime repeats.
    _, waves = golden("RawGAT-ST")
    engine: Any = open_engine(exported("RawGAT-ST", topk), "onnx", max_batch=max_batch)
    with engine:
        orders = engine.pooling_orders(waves)
        logits = engine.run(waves)["logits"]
    worst = float(np.abs(logits - in_order(orders)).max())
    print("RawGAT-ST", topk, max_batch, worst)  # noqa: T201  # shown by -s
    assert worst <= RAWGAT_ATOL


def test_full_size_rawnet2_is_one_file(
    shared: Path, golden: Callable[..., Any], tmp_path: Path
) -> None:
    from aasist_deploy.models import build_model, load_checkpoint, read_config, save_weights

    config = read_config(shared / "models" / "clovaai" / "RawNet2_baseline.conf")
    torch.manual_seed(0)
    model = build_model(config)
    assert sum(p.numel() for p in model.parameters()) == 17_621_410
    save_weights(tmp_path / "full.safetensors", model)
    checkpoint = load_checkpoint(tmp_path / "full.safetensors")
    result = export_onnx(checkpoint, tmp_path / "full.onnx")
    print("RawNet2", result.n_nodes, result.max_difference)  # noqa: T201  # shown by -s
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full.onnx", "full.safetensors"]
    assert result.path.stat().st_size > 4 * 17_000_000
    _, waves = golden("RawNet2-small")
    with open_engine(result.path, "onnx") as engine, torch.inference_mode():
        expected = checkpoint.model(torch.from_numpy(waves))[1].numpy()
        assert np.abs(engine.run(waves)["logits"] - expected).max() <= RAWNET2_ATOL
