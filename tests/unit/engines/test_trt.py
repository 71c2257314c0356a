"""The engine for plans on a fake GPU and a fake TensorRT; tests/gpu has the real ones."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.engines import trt
from aasist_deploy.engines.cuda_memory import CudaError
from aasist_deploy.engines.tensorrt_runtime import Gpu, load_tensorrt
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, ShapeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

N_SAMPLES = 800


@pytest.fixture
def waves(noise: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
    return noise(40, N_SAMPLES)


def expected(plan: Any, waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    result: dict[str, NDArray[np.float32]] = plan.module.compute(waves)
    return result


def calls(plan: Any, *names: str) -> list[Any]:
    return [entry for entry in plan.driver.log if entry[0] in names]


@pytest.mark.parametrize("n_waves", [1, 2, 7, 8, 9, 16, 17, 40])
def test_outputs_are_those_of_each_wave_for_any_number_of_waves(
    n_waves: int, fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    with fake_plan.open() as engine:
        for _ in range(4):  # without a graph, captured, replayed, replayed
            outputs = engine.run(waves[:n_waves])
            assert set(outputs) == {"score", "logits", "embedding"}
            for name, values in expected(fake_plan, waves[:n_waves]).items():
                assert np.array_equal(outputs[name], values), name
                assert outputs[name].dtype == np.float32


def test_large_batches_are_split_and_small_ones_run_unpadded(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    with fake_plan.open(cuda_graphs=False) as engine:
        engine.score(waves[:19])
        engine.score(waves[:3])
    assert [entry[1] for entry in calls(fake_plan, "compute")] == [8, 8, 3, 3]
    assert [entry[1] for entry in calls(fake_plan, "copy_in")] == [8, 8, 3, 3]


def test_max_batch_bounds_pieces_and_is_at_least_the_smallest_of_the_plan(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    with fake_plan.open(cuda_graphs=False, max_batch=4) as engine:
        assert engine.max_batch == 4
        engine.score(waves[:9])
    assert [entry[1] for entry in calls(fake_plan, "compute")] == [4, 4, 1]
    fake_plan.module.profiles = ((3, 4, 8),)
    with fake_plan.open(max_batch=2) as engine:
        assert engine.max_batch == 3


def test_batch_below_the_smallest_of_the_plan_is_filled_and_the_filling_dropped(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    fake_plan.module.profiles = ((3, 4, 8),)
    with fake_plan.open() as engine:
        assert engine.contract.batch == (3, 8)
        scores = engine.score(waves[:2])
        assert np.array_equal(scores, expected(fake_plan, waves[:2])["score"])
    assert [entry[1] for entry in calls(fake_plan, "compute")] == [3]


def test_profile_with_the_nearest_optimum_runs_a_batch(
    fake_plan: Any, waves: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_plan.module.profiles = ((1, 1, 4), (1, 8, 16), (24, 32, 32))
    chosen = []
    from aasist_deploy.engines.trt_plan import PlanContext

    execute = PlanContext.execute

    def watched(self: Any, batch: int, addresses: dict[str, int], stream: int) -> None:
        chosen.append((batch, self.profile))
        execute(self, batch, addresses, stream)

    monkeypatch.setattr(PlanContext, "execute", watched)
    with fake_plan.open(cuda_graphs=False) as engine:
        for n_waves in (1, 4, 5, 16, 20, 32):
            scores = engine.score(waves[:n_waves])
            assert np.array_equal(scores, expected(fake_plan, waves[:n_waves])["score"])
    # No profile holds 20, so it is filled up to 24.
    assert chosen == [(1, 0), (4, 0), (5, 1), (16, 1), (24, 2), (32, 2)]


def test_next_piece_is_on_its_way_before_the_previous_one_is_waited_for(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    with fake_plan.open(cuda_graphs=False) as engine:
        engine.score(waves[:32])
    order = [entry[0] for entry in calls(fake_plan, "copy_in", "compute", "synchronize_event")]
    queued = ["copy_in", "compute"]
    assert order == [
        *queued,
        *queued,
        *(["synchronize_event", *queued] * 2),
        *["synchronize_event"] * 2,
    ]
    streams = [entry[-1] for entry in calls(fake_plan, "copy_in")]
    assert streams[0] == streams[2] != streams[1] == streams[3]


def test_computing_waits_for_the_one_before_because_inner_values_share_memory(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    with fake_plan.open(cuda_graphs=False) as engine:
        engine.score(waves[:16])
    log = fake_plan.driver.log
    for index, entry in enumerate(log):
        if entry[0] == "compute":
            before, after = log[index - 1], log[index + 1]
            assert before[0] == "wait"
            assert after[0] == "record"
            assert before[1] == after[1]
            assert before[-1] == entry[-1] == after[-1]


def test_graph_is_captured_once_for_each_batch_size_and_reused(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    with fake_plan.open() as engine:
        for _ in range(5):
            engine.score(waves[:2])
            engine.score(waves[:5])
        assert len(calls(fake_plan, "captured")) == 2
        assert len(calls(fake_plan, "launch")) == 2 * 3
        assert fake_plan.driver.alive()["graphs"] == 2


def test_graphs_are_bounded_and_the_longest_unused_goes(fake_plan: Any) -> None:
    fake_plan.module.profiles = ((1, 8, 40),)
    ones = np.ones((40, N_SAMPLES), np.float32)
    with fake_plan.open() as engine:
        for n_waves in range(1, 31):
            for _ in range(2):
                assert np.array_equal(
                    engine.score(ones[:n_waves]), np.full(n_waves, 10, np.float32)
                )
        assert fake_plan.driver.alive()["graphs"] == 16
        assert fake_plan.module.alive["contexts"] == 17
        launched = len(calls(fake_plan, "launch"))
        engine.score(ones[:30])
        assert len(calls(fake_plan, "launch")) == launched + 1
        engine.score(ones[:1])
        assert len(calls(fake_plan, "launch")) == launched + 1


@pytest.mark.parametrize("reason", ["capture", "profile in use", "end_capture"])
def test_scores_go_on_without_graphs_where_none_can_be_made_and_a_warning_says_so(
    reason: str, fake_plan: Any, waves: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    if reason == "profile in use":
        fake_plan.module.shares_profiles = False
    elif reason == "capture":
        fake_plan.module.refuse.add("capture")
    else:
        fake_plan.driver.fail["end_capture"] = CudaError("cuStreamEndCapture", "INVALIDATED", 901)
    with fake_plan.open() as engine:
        for _ in range(4):
            assert np.array_equal(engine.score(waves), expected(fake_plan, waves)["score"])
        assert not calls(fake_plan, "launch")
    assert [r.message for r in caplog.records if "No CUDA graph can be made" in r.message]
    gc.collect()
    assert fake_plan.left() == {}


def test_copies_of_a_profile_give_graphs_where_contexts_cannot_share_one(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    fake_plan.module.shares_profiles = False
    fake_plan.module.profiles = ((1, 4, 8),) * 3
    with fake_plan.open(contexts=1) as engine:
        for _ in range(3):
            assert np.array_equal(
                engine.score(waves[:16]), expected(fake_plan, waves[:16])["score"]
            )
        assert len(calls(fake_plan, "launch")) == 2


@pytest.mark.parametrize("contexts", [1, 3])
def test_eight_threads_get_the_scores_of_their_own_waves(
    contexts: int, fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    sizes = [1, 2, 3, 5, 8, 9, 17, 20]
    with fake_plan.open(contexts=contexts) as engine:

        def use(thread: int) -> bool:
            rng = np.random.default_rng(thread)
            for _ in range(25):
                rows = rng.integers(0, len(waves), sizes[(thread + rng.integers(8)) % 8])
                mine = waves[rows]
                if not np.array_equal(engine.score(mine), expected(fake_plan, mine)["score"]):
                    return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(use, range(8)))
        slots = 2
        assert 1 <= fake_plan.driver.alive()["streams"] / slots <= contexts
    gc.collect()
    assert fake_plan.left() == {}


def test_further_context_that_does_not_fit_is_done_without_and_a_warning_says_so(
    fake_plan: Any, waves: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    with fake_plan.open(contexts=2) as engine:
        fake_plan.driver.memory_bytes = sum(map(len, fake_plan.driver.memory.values())) + 100
        started = threading.Barrier(4)
        results: list[bool] = []

        def use() -> None:
            started.wait()
            right = expected(fake_plan, waves)["score"]
            results.extend(np.array_equal(engine.score(waves), right) for _ in range(20))

        with engine._pool.taken():  # the second context is wanted for sure
            threads = [threading.Thread(target=use) for _ in range(4)]
            for thread in threads:
                thread.start()
            while not caplog.records:
                pass
        for thread in threads:
            thread.join()
        assert results == [True] * 80
    assert "Threads share 1 execution contexts: GPU 0 has no room" in caplog.text


def test_close_is_idempotent_frees_everything_and_ends_every_use(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    engine = fake_plan.open()
    for n_waves in (1, 1, 1, 20, 20):
        engine.score(waves[:n_waves])
    engine.close()
    engine.close()
    gc.collect()
    assert fake_plan.left() == {}
    assert fake_plan.driver.released == 1
    for use in (engine.score, engine.run, lambda w: engine.run_on_device(w, {})):
        with pytest.raises(ShapeError, match="closed"):
            use(waves)


def test_nothing_grows_over_ten_thousand_calls(fake_plan: Any, waves: NDArray[np.float32]) -> None:
    with fake_plan.open() as engine:
        for n_waves in (1, 9, 1, 9, 1, 9):
            engine.score(waves[:n_waves])
        before = {**fake_plan.driver.alive(), **fake_plan.module.alive}
        for call in range(10_000):
            engine.score(waves[: 9 if call % 10 == 0 else 1])
            fake_plan.driver.log.clear()
        assert {**fake_plan.driver.alive(), **fake_plan.module.alive} == before


def test_nan_in_outputs_is_not_hidden(
    fake_plan: Any, waves: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = fake_plan.module.compute

    def broken(given: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        outputs: dict[str, NDArray[np.float32]] = compute(given)
        outputs["score"][1] = np.nan
        return outputs

    monkeypatch.setattr(fake_plan.module, "compute", broken)
    with fake_plan.open() as engine:
        assert np.isnan(engine.score(waves[:3])).tolist() == [False, True, False]


def test_results_are_fresh_arrays(fake_plan: Any, waves: NDArray[np.float32]) -> None:
    with fake_plan.open() as engine:
        first = engine.run(waves[:3])
        kept = {name: values.copy() for name, values in first.items()}
        engine.run(waves[3:6])
        assert all(np.array_equal(first[name], kept[name]) for name in kept)


def test_device_says_gpu_runtime_and_package(fake_plan: Any) -> None:
    with fake_plan.open() as engine:
        assert engine.device == "Fake GPU (GPU 0), TensorRT 10.13.3 through fake CUDA"
        assert engine.backend == "trt"


class OnDevice:
    """A fake array on the fake GPU."""

    def __init__(self, driver: Any, shape: tuple[int, ...], typestr: str = "<f4") -> None:
        self.driver, self.shape = driver, shape
        n_bytes = int(np.prod(shape)) * np.dtype(typestr).itemsize
        driver.push()
        self.address = driver.allocate(n_bytes)
        driver.pop()
        self.data = driver.view(self.address, n_bytes).view(np.dtype(typestr)).reshape(shape)
        self.__cuda_array_interface__: dict[str, Any] = {
            "shape": shape,
            "typestr": typestr,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
        }


def test_waves_on_the_device_are_scored_there_in_the_order_of_the_callers_stream(
    fake_plan: Any, waves: NDArray[np.float32]
) -> None:
    driver = fake_plan.driver
    with fake_plan.open() as engine:
        driver.push()
        stream = driver.create_stream()
        given, logits = OnDevice(driver, (5, N_SAMPLES)), OnDevice(driver, (5, 2))
        for round_ in range(4):
            mine = waves[round_ : round_ + 5]

            def write(mine: NDArray[np.float32] = mine) -> None:
                given.data[:] = mine

            driver.queue(stream, write, "caller")
            engine.run_on_device(given, {"logits": logits}, stream=stream)
            # A call in between must neither disturb it nor be disturbed.
            assert np.array_equal(engine.score(waves[:9]), expected(fake_plan, waves[:9])["score"])
            driver.synchronize_stream(stream)
            assert np.array_equal(logits.data, expected(fake_plan, mine)["logits"])
        driver.pop()


@pytest.mark.parametrize(
    ("array", "outputs", "message"),
    [
        (((5, N_SAMPLES), "<f2"), {}, "wave must be float32 .* this one is float16"),
        (((5, 799), "<f4"), {}, r"the shape \(5, 800\).* the shape \(5, 799\)"),
        (((9, N_SAMPLES), "<f4"), {}, "A batch of 9 waves cannot run on the device"),
        (((5, N_SAMPLES), "<f4"), {"logits": (4, 2)}, r"logits must be float32 .* \(5, 2\)"),
        (((5, N_SAMPLES), "<f4"), {"posterior": (5,)}, "no output 'posterior'; it has score"),
    ],
)
def test_arrays_on_the_device_that_do_not_fit_are_refused(
    array: tuple[Any, str], outputs: dict[str, Any], message: str, fake_plan: Any
) -> None:
    with fake_plan.open() as engine:
        given = OnDevice(fake_plan.driver, *array)
        there = {name: OnDevice(fake_plan.driver, shape) for name, shape in outputs.items()}
        with pytest.raises(ShapeError, match=message):
            engine.run_on_device(given, there)
    assert not calls(fake_plan, "compute")


def test_strided_array_on_the_device_is_refused(fake_plan: Any) -> None:
    with fake_plan.open() as engine:
        given = OnDevice(fake_plan.driver, (5, N_SAMPLES))
        packed = SimpleNamespace(__cuda_array_interface__=dict(given.__cuda_array_interface__))
        packed.__cuda_array_interface__["strides"] = (N_SAMPLES * 4, 4)
        engine.run_on_device(packed, {})
        packed.__cuda_array_interface__["strides"] = (N_SAMPLES * 8, 4)
        with pytest.raises(ShapeError, match=r"with the strides \(6400, 4\)"):
            engine.run_on_device(packed, {})


def refused(plan: Any, error: type[Exception], message: str, **options: Any) -> str:
    """Opening fails with the message and leaves nothing; gives the fix."""
    with pytest.raises(error, match=message) as raised:
        plan.open(**options)
    fix = str(getattr(raised.value, "fix", ""))
    raised.value.__traceback__ = None
    del raised
    gc.collect()
    assert plan.left() == {}
    return fix


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
