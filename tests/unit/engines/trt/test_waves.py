"""The engine for plans on a fake GPU and a fake TensorRT; tests/gpu has the real ones."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.engines.cuda_memory import CudaError
from aasist_deploy.errors import ShapeError
from tests.contracts import N_SAMPLES
from tests.unit.engines.trt.asked import calls, expected

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
