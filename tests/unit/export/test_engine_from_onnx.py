"""Plans from small graphs: what the builder takes and refuses, with real TensorRT-RTX where it can.

TensorRT-RTX builds plans for other machines without a GPU; what needs a GPU, or TensorRT's own
package, is tested on a fake module that is named so.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra export")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from aasist_deploy.contract import ModelContract, read_contract  # noqa: E402
from aasist_deploy.engines import tensorrt_runtime  # noqa: E402
from aasist_deploy.engines.tensorrt_runtime import Gpu, TensorRt  # noqa: E402
from aasist_deploy.errors import (  # noqa: E402
    EnvironmentLacks,
    ModelFileError,
    OutputError,
    UsageError,
)
from aasist_deploy.export import engine_from_onnx, plan_cache  # noqa: E402
from aasist_deploy.export.engine_from_onnx import BuildOptions, build_plan  # noqa: E402
from aasist_deploy.export.plan_options import profile_of, sm_of  # noqa: E402
from aasist_deploy.onnx_file import parse_onnx  # noqa: E402
from aasist_deploy.plan_file import json_path, read_plan  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

N_SAMPLES = 64
FOR_86 = BuildOptions(for_sm=("8.6",))
WEIGHT = np.random.default_rng(0).normal(size=(N_SAMPLES, 2)).astype(np.float32)

rtx = pytest.mark.trt


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("AASIST_DEPLOY_CACHE", str(folder))
    return folder


@pytest.fixture
def real_rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    """(nodes, weights, contract) -> an exported file whose graph takes waves of 64 samples."""

    def make(
        nodes: list[Any] | None = None,
        weights: dict[str, NDArray[Any]] | None = None,
        graph_samples: int = N_SAMPLES,
        graph_batch: str | int = "batch",
        **contract: Any,
    ) -> Path:
        graph = helper.make_graph(
            nodes or [helper.make_node("MatMul", ["wave", "w"], ["logits"], name="head")],
            "g",
            [
                helper.make_tensor_value_info(
                    "wave", TensorProto.FLOAT, [graph_batch, graph_samples]
                )
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [graph_batch, 2])],
            [numpy_helper.from_array(v, k) for k, v in (weights or {"w": WEIGHT}).items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        path = tmp_path / "model.onnx"
        fields: dict[str, Any] = {
            "architecture": "Head",
            "config": {},
            "sample_rate_hz": 16_000,
            "n_samples": graph_samples,
            "min_samples": graph_samples,
            "outputs": {"logits": "logits of spoof and bona fide, (batch, 2)"},
            "checkpoint_sha256": "0" * 64,
            "graph_sha256": parse_onnx(made.SerializeToString(), path).graph_sha256,
            **contract,
        }
        helper.set_model_props(made, ModelContract(**fields).to_metadata())
        path.write_bytes(made.SerializeToString())
        return path

    return make


@rtx
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


class FakeConfig:
    """A builder's configuration that keeps what is set; `takes` are values that it changes."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.flags: set[str] = {"TF32"}  # TensorRT's default
        self.profiles: list[Any] = []
        self.capabilities: list[str] = []
        self.builder_optimization_level = 3
        self.pool: dict[str, int] = {}
        self.hardware_compatibility_level = "NONE"
        self.cache: Any = None

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return int(self.module.profile_index)

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, limit: int) -> None:
        self.pool[pool] = min(limit, self.module.most_workspace)

    def get_memory_pool_limit(self, pool: str) -> int:
        return self.pool[pool]

    def set_compute_capability(self, capability: str, _index: int) -> bool:
        self.capabilities.append(capability)
        return True

    def create_timing_cache(self, content: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: content + b"+measured")

    def set_timing_cache(self, cache: Any, _ignore: bool) -> bool:
        self.cache = cache
        return bool(self.module.cache_fits)

    def get_timing_cache(self) -> Any:
        return self.cache


class FakeTensorRt:
    """A module with TensorRT's names, without TensorRT: what `said` holds is what it logs."""

    __version__ = "10.13.3.9"
    BuilderFlag = SimpleNamespace(TF32="TF32", VERSION_COMPATIBLE="VC", REFIT="REFIT")
    MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
    HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="AMPERE_PLUS")
    ProfilingVerbosity = SimpleNamespace(DETAILED="DETAILED")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)

    class ILogger:
        """The base class of loggers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.built: bytes | None = b"a fake plan"
        self.profile_index, self.cache_fits, self.most_workspace = 0, True, 2**40
        self.config: Any = None
        self.network_flags = -1
        self.builder_error: Exception | None = None
        self.refuses_to_load: str | None = None

    def Runtime(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's name
        def load(content: bytes) -> bytes | None:
            if self.refuses_to_load is None:
                return content
            logger.log(SimpleNamespace(name="ERROR"), self.refuses_to_load)
            return None

        return SimpleNamespace(deserialize_cuda_engine=load)

    def Builder(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's name
        if self.builder_error is not None:
            raise self.builder_error

        def network(flags: int) -> Any:
            self.network_flags = flags
            float_ = SimpleNamespace(name="FLOAT")
            return SimpleNamespace(
                num_inputs=1,
                num_outputs=1,
                get_input=lambda _i: SimpleNamespace(name="wave", shape=(-1, 64), dtype=float_),
                get_output=lambda _i: SimpleNamespace(name="logits", dtype=float_),
            )

        def new_config() -> FakeConfig:
            config = self.config = FakeConfig(self)
            return config

        def build(_network: Any, _config: Any) -> bytes | None:
            for line in self.said:
                logger.log(SimpleNamespace(name="ERROR"), line)
            return self.built

        return SimpleNamespace(
            create_network=network,
            create_builder_config=new_config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *_: None),
            build_serialized_network=build,
        )

    @staticmethod
    def OnnxParser(_network: Any, _logger: Any) -> Any:  # noqa: N802  # TensorRT's name
        return SimpleNamespace(parse=lambda _content: True)


H200 = Gpu(0, "NVIDIA H200", (9, 0), 141 * 2**30, "13.0")


@pytest.fixture
def fake_tensorrt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    """A fake module of TensorRT on a fake H200."""
    from contextlib import nullcontext

    module = FakeTensorRt()
    found = TensorRt(module, "tensorrt", module.__version__)
    monkeypatch.setattr(engine_from_onnx, "load_tensorrt", lambda: found)
    monkeypatch.setattr(engine_from_onnx, "require_gpu", lambda _index: H200)
    monkeypatch.setattr(engine_from_onnx, "primary_context", lambda _gpu: nullcontext())
    return module


def test_fp32_is_built_without_tf32_and_strongly_typed(
    fake_tensorrt: FakeTensorRt, model: Callable[..., Path], tmp_path: Path
) -> None:
    result = build_plan(model(), tmp_path / "a.plan")
    assert fake_tensorrt.config.flags == set()
    assert fake_tensorrt.network_flags == 1 << 1
    plan = result.contract
    assert (plan.tensorrt_version, plan.gpu_name, plan.sm) == ("10.13.3.9", "NVIDIA H200", "9.0")
    assert (plan.cuda_version, plan.profiles) == ("13.0", ((1, 8, 32),))
    assert read_plan(tmp_path / "a.plan") == (plan, b"a fake plan")


def test_options_reach_the_builder(
    fake_tensorrt: FakeTensorRt, model: Callable[..., Path], tmp_path: Path
) -> None:
    options = BuildOptions(
        tf32=True,
        optimization_level=5,
        workspace_mib=256,
        version_compatible=True,
        hardware_compatible=True,
        refittable=True,
    )
    plan = build_plan(model(), tmp_path / "a.plan", options).contract
    config = fake_tensorrt.config
    assert config.flags == {"TF32", "VC", "REFIT"}
    assert config.builder_optimization_level == 5
    assert config.pool == {"WORKSPACE": 256 * 2**20}
    assert config.hardware_compatibility_level == "AMPERE_PLUS"
    assert plan.sm == "8.0+"
    assert plan.build["hardware_compatible"] is True
    assert plan.tf32 is True


def test_timing_cache_is_read_and_written_back(
    fake_tensorrt: FakeTensorRt, model: Callable[..., Path], tmp_path: Path
) -> None:
    place = tmp_path / "kernels.cache"
    options = BuildOptions(timing_cache=place)
    build_plan(model(), tmp_path / "a.plan", options, cache=False)
    build_plan(model(), tmp_path / "a.plan", options, cache=False)
    assert place.read_bytes() == b"+measured+measured"
    fake_tensorrt.cache_fits = False
    with pytest.raises(UsageError, match="damaged, or of another GPU or version"):
        build_plan(model(), tmp_path / "a.plan", options, cache=False)


@pytest.mark.parametrize(
    ("said", "kind", "fix"),
    [
        ("CUDA error: out of memory", EnvironmentLacks, "smaller profile"),
        ("Error Code 2: OutOfMemory (Requested size was 1 bytes.)", EnvironmentLacks, "smaller"),
        ("SM version 9.0 is not supported", EnvironmentLacks, "doctor"),
        ("Could not find any implementation for node x", ModelFileError, "-vv"),
        (None, ModelFileError, "-vv"),
    ],
)
def test_no_plan_from_the_builder_is_told_by_its_reason(
    said: str | None,
    kind: type[Exception],
    fix: str,
    fake_tensorrt: FakeTensorRt,
    model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    fake_tensorrt.built = None
    fake_tensorrt.said = [] if said is None else [said]
    with pytest.raises(kind) as caught:
        build_plan(model(), tmp_path / "a.plan")
    assert (said or "gave no reason") in str(caught.value)
    assert fix in str(caught.value.fix)  # type: ignore[attr-defined]
    assert not (tmp_path / "a.plan").exists()


def test_plan_that_the_gpu_does_not_load_is_refused_and_not_kept(
    fake_tensorrt: FakeTensorRt, model: Callable[..., Path], tmp_path: Path
) -> None:
    fake_tensorrt.refuses_to_load = "The engine cannot run on this GPU"
    with pytest.raises(EnvironmentLacks, match=r"cannot load on NVIDIA H200 \(sm 9\.0\): The eng"):
        build_plan(model(), tmp_path / "a.plan")
    assert not (tmp_path / "a.plan").exists()
    fake_tensorrt.refuses_to_load = None
    assert not build_plan(model(), tmp_path / "a.plan").from_cache


def test_builder_that_cannot_be_made_is_told(
    fake_tensorrt: FakeTensorRt, model: Callable[..., Path], tmp_path: Path
) -> None:
    fake_tensorrt.builder_error = TypeError("factory function returned nullptr")
    with pytest.raises(EnvironmentLacks, match="cannot make a builder here"):
        build_plan(model(), tmp_path / "a.plan")


def test_profile_and_workspace_that_are_not_taken_are_told(
    fake_tensorrt: FakeTensorRt, model: Callable[..., Path], tmp_path: Path
) -> None:
    fake_tensorrt.most_workspace = 100 * 2**20
    with pytest.raises(UsageError, match="takes 100 for --workspace-mib 256"):
        build_plan(model(), tmp_path / "a.plan", BuildOptions(workspace_mib=256))
    fake_tensorrt.profile_index = -1
    with pytest.raises(ModelFileError, match="does not take the profile 1,8,32"):
        build_plan(model(), tmp_path / "a.plan")


@pytest.mark.usefixtures("fake_tensorrt")
def test_plans_for_other_machines_need_tensorrt_rtx(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"TensorRT 10\.13\.3\.9 builds for the GPU that it runs on"
    ):
        build_plan(tmp_path / "no.onnx", tmp_path / "a.plan", FOR_86)


@pytest.mark.parametrize(
    "change",
    [
        {"gpu_name": "NVIDIA L4"},
        {"sm": "8.9"},
        {"runtime": "tensorrt_rtx"},
        {"tensorrt_version": "11.4.0"},
        {"cuda_version": "13.1"},
        {"onnx_sha256": "e" * 64},
        {"profiles": ((1, 8, 64),)},
        {"tf32": True},
        {"build": {"optimization_level": 5}},
    ],
)
def test_cache_tells_apart_everything_that_a_plan_depends_on(
    change: dict[str, Any], fake_tensorrt: FakeTensorRt, model: Callable[..., Path], tmp_path: Path
) -> None:
    assert fake_tensorrt.built is not None
    plan = build_plan(model(), tmp_path / "a.plan").contract
    assert plan_cache.find_plan(plan) is not None
    other = replace(plan, **change)
    assert plan_cache.plan_key(other) != plan_cache.plan_key(plan)
    assert plan_cache.find_plan(other) is None
    unbuilt = replace(plan, plan_sha256="0" * 64, plan_bytes=0)
    assert plan_cache.plan_key(unbuilt) == plan_cache.plan_key(plan)


@pytest.mark.usefixtures("fake_tensorrt")
def test_cached_plan_whose_description_was_changed_is_not_taken(
    model: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = build_plan(model(), tmp_path / "a.plan").contract
    kept = json_path(plan_cache.cached_plan_path(plan))
    kept.write_text(kept.read_text().replace("NVIDIA H200", "NVIDIA L4"))
    assert plan_cache.find_plan(plan) is None
    assert "is not what its key says" in caplog.text
    assert not kept.exists()


@pytest.mark.usefixtures("fake_tensorrt")
def test_cache_that_cannot_be_written_costs_no_plan(
    model: Callable[..., Path], tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where a folder should be")
    build_plan(model(), tmp_path / "a.plan")
    assert read_plan(tmp_path / "a.plan")[1] == b"a fake plan"
    assert "not kept in the cache" in caplog.text


def test_missing_driver_is_told_before_the_model_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_driver() -> None:
        raise EnvironmentLacks("There is no NVIDIA driver here.")

    found = TensorRt(FakeTensorRt(), "tensorrt", "10.13.3.9")
    monkeypatch.setattr(engine_from_onnx, "load_tensorrt", lambda: found)
    monkeypatch.setattr(tensorrt_runtime, "_libcuda", no_driver)
    with pytest.raises(EnvironmentLacks, match="no NVIDIA driver"):
        build_plan(tmp_path / "no-such-file.onnx", tmp_path / "out" / "a.plan")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"profiles": ((8, 1, 32),)},
        {"profiles": ((0, 1, 1),)},
        {"optimization_level": 6},
        {"workspace_mib": 0},
        {"device": -1},
        {"for_sm": ("86",)},
        {"for_sm": ("8.6",), "hardware_compatible": True},
    ],
)
def test_options_that_no_builder_could_follow_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        BuildOptions(**options)


def test_profiles_and_capabilities_are_read_as_people_type_them() -> None:
    assert profile_of("1,8,32") == (1, 8, 32)
    assert profile_of(" 8 ") == (8, 8, 8)
    assert [sm_of(text) for text in ("86", "8.6", "sm_90", "120")] == ["8.6", "8.6", "9.0", "12.0"]
    for text in ("1,8", "a,b,c", "", "-1,2,3"):
        with pytest.raises(UsageError):
            profile_of(text)
    for text in ("", "8", "x86", "1200"):
        with pytest.raises(UsageError):
            sm_of(text)
