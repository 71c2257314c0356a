"""Plans, options and GPUs that are refused, and what fails while running."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.engines import trt
from aasist_deploy.engines.cuda_memory import CudaError
from aasist_deploy.engines.tensorrt_runtime import Gpu, load_tensorrt
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, UsageError
from tests.unit.engines.trt.asked import expected, refused

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.mark.parametrize(
    ("fields", "version", "fits"),
    [
        ({}, "10.13.3", True),
        ({}, "10.13.4", False),
        ({}, "11.0.0", False),
        ({"build": {"version_compatible": True}}, "10.14.0", True),
        ({"build": {"version_compatible": True}}, "10.12.0", False),
        ({"build": {"version_compatible": True}}, "11.0.0", False),
    ],
)
def test_plan_of_another_version_is_refused_with_both_and_the_command(
    fields: dict[str, Any], version: str, fits: bool, fake_plan: Any
) -> None:
    fake_plan.fields, fake_plan.module.__version__ = fields, version
    if fits:
        fake_plan.open().close()
        assert fake_plan.module.host_code_allowed == bool(fields)
        return
    message = f"built by TensorRT 10.13.3 for .*9.0.*; this machine has TensorRT {version}"
    fix = refused(fake_plan, ModelFileError, message)
    assert "aasist-deploy export model.onnx --to trt" in fix
    assert fake_plan.module.loggers == []  # TensorRT was not started


@pytest.mark.parametrize(
    ("fields", "sm", "fits"),
    [
        ({}, (8, 9), False),
        ({}, (9, 0), True),
        ({"sm": "8.6 8.9"}, (8, 9), True),
        ({"sm": "8.0"}, (9, 0), False),
        ({"sm": "8.0", "build": {"hardware_compatible": True}}, (9, 0), True),
        ({"sm": "9.0", "build": {"hardware_compatible": True}}, (8, 0), False),
        ({"sm": "7.5", "build": {"hardware_compatible": True}}, (7, 0), False),
    ],
)
def test_plan_for_another_gpu_is_refused(
    fields: dict[str, Any], sm: tuple[int, int], fits: bool, fake_plan: Any
) -> None:
    fake_plan.fields, fake_plan.gpu = fields, Gpu(0, "Other GPU", sm, 1 << 30, "13.0")
    if fits:
        fake_plan.open().close()
        return
    refused(fake_plan, ModelFileError, rf"was built for sm .*Other GPU \(sm {sm[0]}\.{sm[1]}\)")


def test_plan_of_the_other_runtime_is_refused(fake_plan: Any) -> None:
    fake_plan.fields = {"runtime": "tensorrt_rtx"}
    refused(fake_plan, ModelFileError, "built by TensorRT-RTX .*this machine has TensorRT 10.13.3")


@pytest.mark.parametrize(
    ("refuse", "error", "message"),
    [
        ("Runtime", EnvironmentLacks, "TensorRT 10.13.3 cannot start here"),
        ("deserialize", ModelFileError, "does not take .*magicTagRead failed"),
        ("context", EnvironmentLacks, "gave no execution context .*GPU memory could not be"),
        ("profile", EnvironmentLacks, r"context with the profile \(1, 4, 8\) .*already in use"),
    ],
)
def test_what_tensorrt_refuses_on_opening_has_its_own_words_and_leaves_nothing(
    refuse: str, error: type[Exception], message: str, fake_plan: Any
) -> None:
    fake_plan.module.refuse.add(refuse)
    refused(fake_plan, error, message)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"wave": None, "audio": (True, (-1, 800), "float32")},
            "says wave -> .*has audio -> score",
        ),
        (
            {"logits": None},
            "says wave -> embedding, logits, score; the plan has wave -> score, emb",
        ),
        ({"wave": (True, (-1, 799), "float32")}, r"says waves of 800 samples.*\(-1, 799\)"),
        ({"wave": (True, (-1, 800), "float16")}, "float32 tensors; the plan's wave is float16"),
        ({"logits": (False, (-1, 2), "float16")}, "float32 tensors; the plan's logits is float16"),
        ({"score": (False, (-1,), "bfloat16")}, "numpy can hold; score is bfloat16"),
        ({"embedding": (False, (-1, -1), "float32")}, r"first axis alone varies; embedding"),
    ],
)
def test_plan_with_other_tensors_than_its_contract_is_refused(
    tensors: dict[str, Any], message: str, fake_plan: Any
) -> None:
    changed = {**fake_plan.module.tensors, **tensors}
    fake_plan.module.tensors = {name: value for name, value in changed.items() if value}
    refused(fake_plan, ModelFileError, message)


def test_plan_with_other_profiles_than_its_json_is_refused(fake_plan: Any) -> None:
    fake_plan.fields = {"profiles": ((1, 2, 4),)}
    refused(fake_plan, ModelFileError, r"says the profiles \(\(1, 2, 4\),\); the plan has")


def test_output_that_the_contract_does_not_name_is_computed_and_left_out(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    fake_plan.contract = {"outputs": {"score": "fake"}}
    with fake_plan.open() as engine:
        outputs = engine.run(waves[:20])
    assert list(outputs) == ["score"]
    assert np.array_equal(outputs["score"], expected(fake_plan, waves[:20])["score"])


def test_too_little_memory_names_the_batch_and_what_is_free(fake_plan: Any) -> None:
    fake_plan.driver.memory_bytes = 8 << 20
    fake_plan.module.activation_bytes = 100 << 20
    message = "no room for the inner values of a batch of 8: 100 MiB are needed, 8 of 8 MiB are"
    assert "max_batch" in refused(fake_plan, EnvironmentLacks, message)
    fake_plan.module.activation_bytes = 8 << 20
    refused(fake_plan, EnvironmentLacks, "no room for the waves of a batch of 8")


@pytest.mark.parametrize("graphs", [True, False])
def test_failure_while_running_is_an_error_and_the_engine_closes_clean(
    graphs: bool, fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    engine = fake_plan.open(cuda_graphs=graphs)
    engine.score(waves)
    fake_plan.module.refuse.add("execute")
    with pytest.raises(
        EnvironmentLacks, match=r"did not run a batch of 7 .*illegal memory"
    ) as raised:
        engine.score(waves[:7])
    assert raised.value.exit_code == 3
    fake_plan.module.refuse.clear()
    assert np.array_equal(engine.score(waves), expected(fake_plan, waves)["score"])
    raised.value.__traceback__ = None
    engine.close()
    gc.collect()
    assert fake_plan.left() == {}


def test_driver_that_fails_for_good_is_an_error_and_close_does_not_raise(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    engine = fake_plan.open()
    broken = CudaError("cuEventSynchronize", "CUDA_ERROR_LAUNCH_FAILED", 719)
    fake_plan.driver.fail |= dict.fromkeys(
        ("synchronize_event", "synchronize_stream", "free"), broken
    )
    with pytest.raises(
        EnvironmentLacks, match="cuEventSynchronize failed: CUDA_ERROR_LAUNCH_FAILED"
    ):
        engine.score(waves)
    engine.close()
    assert fake_plan.driver.released == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contexts": 0}, "contexts is 0"),
        ({"max_batch": 0}, "max_batch is 0"),
        ({"threads": 0}, "number of threads is 0"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, int], message: str, fake_plan: Any
) -> None:
    with pytest.raises(UsageError, match=message):
        fake_plan.open(**options)


def test_altered_plan_is_refused_before_the_gpu_is_touched(fake_plan: Any) -> None:
    path = fake_plan.write()
    path.write_bytes(b"a plaN")
    with pytest.raises(ModelFileError, match="was altered"):
        trt.TrtEngine(path)
    assert fake_plan.driver.log == fake_plan.module.loggers == []


def test_registry_row_and_engine_agree() -> None:
    assert trt.ENGINE.backend == "trt"


def test_real_tensorrt_rtx_that_refuses_a_plan_is_quoted(fake_plan: Any) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")
    from aasist_deploy.engines.trt_plan import LoadedPlan
    from aasist_deploy.plan_file import read_plan

    plan, content = read_plan(fake_plan.write())
    with pytest.raises(ModelFileError, match=r"TensorRT-RTX .* does not take .*Error Code"):
        LoadedPlan(content, plan, fake_plan.path, load_tensorrt("tensorrt_rtx"))
