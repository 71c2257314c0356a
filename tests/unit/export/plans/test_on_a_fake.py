"""Building on a fake of TensorRT's own package and a fake GPU, and options of plans."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("onnx", reason="needs the extra export")

from aasist_deploy.engines import tensorrt_runtime
from aasist_deploy.engines.tensorrt_runtime import Gpu, TensorRt
from aasist_deploy.errors import (
    EnvironmentLacks,
    ModelFileError,
    UsageError,
)
from aasist_deploy.export import engine_from_onnx, plan_cache
from aasist_deploy.export.engine_from_onnx import BuildOptions, build_plan
from aasist_deploy.export.plan_options import profile_of, sm_of
from aasist_deploy.plan_file import json_path, read_plan
from tests.unit.export.plans.conftest import FOR_86
from tests.unit.export.plans.fake_tensorrt import FakeTensorRt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
