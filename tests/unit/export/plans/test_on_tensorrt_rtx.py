"""What the builder takes and refuses, with real TensorRT-RTX.

TensorRT-RTX builds plans for other machines without a GPU.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra export")
from onnx import TensorProto, helper

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import (
    EnvironmentLacks,
    ModelFileError,
    OutputError,
    UsageError,
)
from aasist_deploy.export import plan_cache
from aasist_deploy.export.engine_from_onnx import build_plan
from aasist_deploy.plan_file import read_plan
from tests.unit.export.plans.conftest import FOR_86, WEIGHT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def real_rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")


@pytest.mark.trt
@pytest.mark.usefixtures("real_rtx")
class TestRealTensorRtRtx:
    """TensorRT-RTX itself, without a GPU."""

    def test_plan_and_description_are_written_together(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        path = model()
        options = replace(FOR_86, profiles=((1, 4, 8), (1, 16, 64)), for_sm=("8.6", "12.0"))
        result = build_plan(path, tmp_path / "out" / "model.plan", options)
        plan, content = read_plan(result.path)
        assert plan == result.contract
        assert plan.contract == read_contract(path)[0]
        assert plan.profiles == ((1, 4, 8), (1, 16, 64))
        assert (plan.runtime, plan.sm, plan.gpu_name) == ("tensorrt_rtx", "8.6 12.0", None)
        assert plan.tf32 is False
        assert len(content) > 1_000
        assert not result.from_cache

    def test_second_build_is_taken_from_the_cache(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        path = model()
        first = build_plan(path, tmp_path / "a.plan", FOR_86)
        second = build_plan(path, tmp_path / "b.plan", FOR_86)
        assert (first.from_cache, second.from_cache) == (False, True)
        assert (tmp_path / "a.plan").read_bytes() == (tmp_path / "b.plan").read_bytes()
        assert not build_plan(path, tmp_path / "c.plan", FOR_86, cache=False).from_cache

    def test_damaged_plan_in_the_cache_is_built_again(
        self, model: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = model()
        result = build_plan(path, tmp_path / "a.plan", FOR_86)
        kept = plan_cache.cached_plan_path(result.contract)
        kept.write_bytes(kept.read_bytes()[:-1])
        again = build_plan(path, tmp_path / "b.plan", FOR_86)
        assert not again.from_cache
        assert "cut short" in caplog.text
        assert build_plan(path, tmp_path / "c.plan", FOR_86).from_cache

    def test_progress_reaches_the_end_and_never_goes_back(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        seen: list[tuple[str, float]] = []
        build_plan(model(), tmp_path / "a.plan", FOR_86, progress=lambda *at: seen.append(at))
        parts = [part for _, part in seen]
        assert parts == sorted(parts)
        assert parts[-1] == 1.0
        assert len({name for name, _ in seen}) > 3

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
    def test_interrupted_build_ends_and_leaves_the_old_plan(
        self, error: type[BaseException], model: Callable[..., Path], tmp_path: Path
    ) -> None:
        place = tmp_path / "a.plan"
        old = build_plan(model(), place, FOR_86).contract

        def stop(_name: str, part: float) -> None:
            if part > 0:
                raise error

        with pytest.raises(error):
            build_plan(model(), place, FOR_86, progress=stop, cache=False)
        assert read_plan(place)[0] == old

    def test_report_lists_layers_with_types_and_shapes(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        report = tmp_path / "layers.json"
        build_plan(model(), tmp_path / "a.plan", FOR_86, report=report)
        said = json.loads(report.read_text())
        assert said["n_layers"] == len(said["network"]) == sum(said["layers"].values())
        (product,) = [x for x in said["network"] if x["type"] == "MATRIX_MULTIPLY"]
        assert product["outputs"] == [{"name": "logits", "type": "FLOAT", "shape": [-1, 2]}]
        assert said["plan"] is None
        assert "other machines" in said["plan_not_listed_because"]

    def test_int8_graph_with_quantization_is_accepted(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        nodes = []
        for name in ("wave", "w"):
            quantized = [f"{name}.q", "scale", "zero"]
            nodes.append(helper.make_node("QuantizeLinear", [name, *quantized[1:]], [quantized[0]]))
            nodes.append(helper.make_node("DequantizeLinear", quantized, [f"{name}.d"]))
        nodes.append(helper.make_node("MatMul", ["wave.d", "w.d"], ["logits"]))
        weights = {"w": WEIGHT, "scale": np.float32(0.02), "zero": np.int8(0)}
        path = model(nodes, {k: np.asarray(v) for k, v in weights.items()}, precision="int8")
        report = tmp_path / "layers.json"
        result = build_plan(path, tmp_path / "a.plan", FOR_86, report=report)
        assert result.contract.contract.precision == "int8"
        assert json.loads(report.read_text())["layers"]["QUANTIZE"] == 2

    def test_unsupported_operator_is_named_with_its_node(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        path = model(
            [
                helper.make_node("MatMul", ["wave", "w"], ["m"]),
                helper.make_node("Unique", ["m"], ["logits"], name="pool.unique"),
            ]
        )
        with pytest.raises(ModelFileError, match=r"pool\.unique \(Unique\): UNSUPPORTED_NODE"):
            build_plan(path, tmp_path / "a.plan", FOR_86)
        assert not (tmp_path / "a.plan").exists()

    def test_fp16_weights_at_an_fp32_input_are_refused_by_type(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        path = model(weights={"w": WEIGHT.astype(np.float16)})
        with pytest.raises(ModelFileError, match=r"`A` is of type Float and `B` is of type Half"):
            build_plan(path, tmp_path / "a.plan", FOR_86)

    def test_output_that_tensorrt_would_give_in_half_is_refused(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        nodes = [
            helper.make_node("Cast", ["wave"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("MatMul", ["half", "w"], ["logits"]),  # the graph calls it float
        ]
        path = model(nodes, {"w": WEIGHT.astype(np.float16)})
        with pytest.raises(ModelFileError, match=r"outputs are float32; .* would give logits HALF"):
            build_plan(path, tmp_path / "a.plan", FOR_86)

    def test_top_k_beyond_the_limit_is_refused_in_tensorrts_words(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        nodes = [
            helper.make_node("TopK", ["wave", "k"], ["best", "indices"], name="pool"),
            helper.make_node("MatMul", ["best", "w"], ["logits"]),
        ]
        weights = {"k": np.array([4_000]), "w": np.ones((4_000, 2), np.float32)}
        path = model(nodes, weights, graph_samples=5_000)
        with pytest.raises(ModelFileError, match=r"K exceeds the maximum value allowed \(3840\)"):
            build_plan(path, tmp_path / "a.plan", FOR_86)

    def test_too_little_workspace_is_told_with_the_option(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="workspace") as caught:
            build_plan(model(), tmp_path / "a.plan", replace(FOR_86, workspace_mib=1))
        assert "--workspace-mib 1" in str(caught.value.fix)

    def test_contract_of_another_input_or_output_is_refused(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        with pytest.raises(ModelFileError, match=r"says the input audio; .* sees wave"):
            build_plan(model(input_name="audio"), tmp_path / "a.plan", FOR_86)
        with pytest.raises(ModelFileError, match=r"says the output score; .* sees logits"):
            build_plan(model(outputs={"score": "?"}), tmp_path / "a.plan", FOR_86)
        with pytest.raises(ModelFileError, match=r"\(-1, 32\); .* sees FLOAT, \(-1, 64\)"):
            build_plan(model(n_samples=32, min_samples=32), tmp_path / "a.plan", FOR_86)

    def test_capability_that_tensorrt_rtx_lacks_is_told_with_those_it_has(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match=r"capability 90; it knows 120, 121, 75, 80, 86, 89"):
            build_plan(model(), tmp_path / "a.plan", replace(FOR_86, for_sm=("9.0",)))

    def test_timing_cache_is_refused_because_there_is_none(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="has no timing cache"):
            build_plan(model(), tmp_path / "a.plan", replace(FOR_86, timing_cache=tmp_path / "t"))

    @pytest.mark.parametrize(
        ("option", "kind", "message"),
        [
            ({"version_compatible": True}, EnvironmentLacks, "libnvinfer_lean"),
            ({"refittable": True}, UsageError, "Myelin"),
        ],
    )
    def test_options_that_need_more_than_is_here_are_told_in_tensorrts_words(
        self,
        option: dict[str, bool],
        kind: type[Exception],
        message: str,
        model: Callable[..., Path],
        tmp_path: Path,
    ) -> None:
        with pytest.raises(kind, match=message):
            build_plan(model(), tmp_path / "a.plan", replace(FOR_86, **option))  # type: ignore[arg-type]

    def test_model_of_any_length_is_refused(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="one window"):
            build_plan(model(n_samples=None), tmp_path / "a.plan", FOR_86)

    def test_fixed_batch_makes_its_own_profile(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        path = model(graph_batch=4, batch=(4, 4))
        assert build_plan(path, tmp_path / "a.plan", FOR_86).contract.profiles == ((4, 4, 4),)
        with pytest.raises(UsageError, match="does not fit the model, which takes batches of 4"):
            build_plan(path, tmp_path / "b.plan", replace(FOR_86, profiles=((1, 8, 32),)))

    def test_folder_in_place_of_a_file_is_told(
        self, model: Callable[..., Path], tmp_path: Path
    ) -> None:
        with pytest.raises(OutputError, match="is a folder"):
            build_plan(model(), tmp_path, FOR_86)
