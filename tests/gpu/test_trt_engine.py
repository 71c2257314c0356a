"""Plans on a GPU: published logits on real clips, threads, thousands of calls, closing.

The clips and the exported files are those of `benchmarks/gpu/prepare.py`, in the folder that
AASIST_GPU_CLIPS names (default ~/bench).
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import pytest

from aasist_deploy.engines.cuda_memory import open_cuda
from aasist_deploy.engines.trt import TrtEngine
from aasist_deploy.errors import AasistDeployError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from aasist_deploy.engines.tensorrt_runtime import TensorRt

pytestmark = [pytest.mark.gpu, pytest.mark.trt]

# float32 with TF32 off against the published code on a CPU: the limit that the project states.
FP32_ATOL = 1e-3
# Sizes of a batch choose other kernels of the same precision: twice that limit, which each keeps.
BATCH_ATOL = 2e-3
GROWTH_BYTES = 8 << 20  # allocators and the driver keep pages; 1 KiB lost a call would be more
LARGEST = 512


class Clips(NamedTuple):
    waves: NDArray[np.float32]
    logits: NDArray[np.float32]


def lacking(reason: str) -> NoReturn:
    if os.environ.get("AASIST_REQUIRE_GPU") == "1":
        pytest.fail(f"AASIST_REQUIRE_GPU=1: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def folder() -> Path:
    path = Path(os.environ.get("AASIST_GPU_CLIPS", "~/bench")).expanduser()
    if not (path / "waves.npy").is_file():
        lacking(f"no clips in {path}; benchmarks/gpu/prepare.py makes them")
    return path


@pytest.fixture(scope="session")
def clips(folder: Path) -> Clips:
    pcm = np.load(folder / "waves.npy")
    return Clips(
        pcm.astype(np.float32) / np.float32(32768), np.load(folder / "clips.npz")["logits.AASIST"]
    )


@pytest.fixture(scope="session")
def plan(folder: Path, tensorrt: TensorRt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AASIST in fp32 with batches of 1 to 512, in two profiles."""
    from aasist_deploy.export.engine_from_onnx import BuildOptions, build_plan

    assert tensorrt.version
    path = tmp_path_factory.mktemp("plan") / "aasist.plan"
    options = BuildOptions(profiles=((1, 1, 8), (1, 128, LARGEST)))
    build_plan(folder / "onnx" / "AASIST.rank.onnx", path, options, cache=False)
    return path


@pytest.fixture(scope="session")
def engine(plan: Path) -> Iterator[TrtEngine]:
    with TrtEngine(plan, contexts=2) as opened:
        yield opened


def rows_of(n_waves: int, clips: Clips) -> NDArray[np.int64]:
    return np.arange(n_waves) % len(clips.waves)


@pytest.mark.parametrize("n_waves", [1, 2, 3, 8, 9, 16, 64, 100, 256, LARGEST])
def test_logits_of_real_clips_are_the_published_ones_at_any_batch(
    n_waves: int, engine: TrtEngine, clips: Clips
) -> None:
    rows = rows_of(n_waves, clips)
    for use in range(4):  # plain, captured, replayed, replayed
        outputs = engine.run(clips.waves[rows])
        assert np.abs(outputs["logits"] - clips.logits[rows]).max() <= FP32_ATOL, use
        assert np.array_equal(outputs["score"], outputs["logits"][:, 1])


def test_every_clip_has_its_published_logits_in_pieces(engine: TrtEngine, clips: Clips) -> None:
    outputs = engine.run(np.concatenate([clips.waves, clips.waves]))
    logits = np.concatenate([clips.logits, clips.logits])
    assert len(logits) > engine.max_batch  # so there are pieces
    assert np.abs(outputs["logits"] - logits).max() <= FP32_ATOL


def test_graphs_change_no_score(plan: Path, clips: Clips) -> None:
    scores = []
    for graphs in (False, True):
        with TrtEngine(plan, cuda_graphs=graphs, max_batch=8) as engine:
            scores.append([engine.score(clips.waves[:5]) for _ in range(4)])
    for score in (*scores[0], *scores[1]):
        assert np.array_equal(score, scores[0][0])


def test_eight_threads_get_the_scores_of_their_own_clips(plan: Path, clips: Clips) -> None:
    with TrtEngine(plan, contexts=4, max_batch=16) as engine:

        def use(thread: int) -> float:
            rng = np.random.default_rng(thread)
            worst = 0.0
            for _ in range(20):
                rows = rng.integers(0, len(clips.waves), int(rng.integers(1, 20)))
                scores = engine.score(clips.waves[rows])
                worst = max(worst, float(np.abs(scores - clips.logits[rows, 1]).max()))
            return worst

        with ThreadPoolExecutor(8) as pool:
            assert max(pool.map(use, range(8))) <= FP32_ATOL


def test_memory_does_not_grow_over_ten_thousand_calls(plan: Path, clips: Clips) -> None:
    with TrtEngine(plan, contexts=1, max_batch=8) as engine:

        def call(n_calls: int) -> None:
            for index in range(n_calls):
                engine.score(clips.waves[: 3 if index % 50 == 0 else 1])

        call(200)
        with engine._cuda.active() as driver:
            free = driver.memory_info()[0]
            alive = engine._cuda.alive()
            resident = resident_bytes()
            call(10_000)
            assert free - driver.memory_info()[0] <= GROWTH_BYTES
            assert resident_bytes() - resident <= GROWTH_BYTES
            assert engine._cuda.alive() == alive


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_close_gives_the_memory_back_and_ends_every_use(plan: Path, clips: Clips) -> None:
    outer = open_cuda(0)  # keeps the primary context alive, which has memory of its own
    try:
        TrtEngine(plan, max_batch=8).close()  # what TensorRT loads once for the process
        with outer.active() as driver:
            before = driver.memory_info()[0]
        engine = TrtEngine(plan, max_batch=8)
        for _ in range(4):
            engine.score(clips.waves[:8])
        closer = threading.Thread(target=engine.close)
        closer.start()
        closer.join()
        engine.close()
        with outer.active() as driver:
            assert before - driver.memory_info()[0] <= GROWTH_BYTES
        with pytest.raises(ShapeError, match="closed"):
            engine.score(clips.waves[:8])
    finally:
        outer.close()


def test_both_packages_give_the_same_scores(plan: Path, clips: Clips) -> None:
    found = {}
    for package in ("pycuda", "cuda-python"):
        with TrtEngine(plan, cuda=package, max_batch=8) as engine:
            found[package] = engine.score(clips.waves[:20])
            assert package in engine.device
    assert np.array_equal(found["pycuda"], found["cuda-python"])


def test_waves_of_pytorch_are_scored_where_they_are(plan: Path, clips: Clips) -> None:
    torch: Any = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        lacking("this PyTorch sees no GPU")
    with TrtEngine(plan, max_batch=8) as engine:
        for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):
            with torch.cuda.stream(stream):
                for first in range(5):
                    waves = torch.from_numpy(clips.waves[first : first + 8]).cuda()
                    score = torch.full((8,), float("nan"), device="cuda")
                    engine.run_on_device(waves, {"score": score}, stream=stream.cuda_stream)
                    got = score.cpu().numpy()
                    expected = clips.logits[first : first + 8, 1]
                    assert np.abs(got - expected).max() <= FP32_ATOL
            stream.synchronize()


def test_size_of_the_batch_changes_scores_by_rounding_alone(plan: Path, clips: Clips) -> None:
    with TrtEngine(plan, max_batch=64) as engine:
        together = engine.score(clips.waves[:64])
        alone = np.concatenate([engine.score(wave[None]) for wave in clips.waves[:64]])
    assert np.abs(together - alone).max() <= BATCH_ATOL


def test_too_little_memory_is_an_error_that_names_the_batch_and_the_gpu_recovers(
    plan: Path, clips: Clips
) -> None:
    hog = open_cuda(0)
    try:
        with hog.active() as driver:
            free = driver.memory_info()[0]
            hog.allocate(max(free - (256 << 20), 1), "a test")
        with pytest.raises(AasistDeployError, match=r"no room for .* of a batch of|memory"):
            TrtEngine(plan)
    finally:
        hog.close()
    with TrtEngine(plan, max_batch=1) as engine:
        assert np.abs(engine.score(clips.waves[:1]) - clips.logits[:1, 1]).max() <= FP32_ATOL
