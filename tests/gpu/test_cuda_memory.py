"""Device memory, streams, events and graphs on a GPU, through both packages; needs no TensorRT.

`tests/unit/engines/test_cuda_memory.py` runs this file on a fake driver library too.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.engines.cuda_memory import CudaContext, CudaError, CudaMemoryLacks, open_cuda
from aasist_deploy.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aasist_deploy.engines.tensorrt_runtime import Gpu

pytestmark = pytest.mark.gpu

MIB = 1 << 20
PACKAGES = os.environ.get("AASIST_CUDA_PACKAGES", "pycuda cuda-python").split()


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest, gpu: Gpu) -> str:
    assert gpu.index == 0
    name: str = request.param
    try:
        open_cuda(0, name).close()
    except EnvironmentLacks as error:
        if "not installed" in str(error) and os.environ.get("AASIST_REQUIRE_GPU") != "1":
            pytest.skip(str(error))
        raise
    return name


@pytest.fixture
def cuda(package: str) -> Iterator[CudaContext]:
    context = open_cuda(0, package)
    yield context
    context.close()


def pinned(cuda: CudaContext, n: int) -> Any:
    return cuda.pin(4 * n, "a test").view(np.float32)


def test_package_that_was_asked_for_is_the_one_that_works(package: str, cuda: CudaContext) -> None:
    assert cuda.driver.name.startswith(package)


@pytest.mark.parametrize("n", [1, 64_600, 3 * MIB])
def test_what_is_copied_to_the_device_comes_back(n: int, cuda: CudaContext) -> None:
    values = np.random.default_rng(n).normal(size=n).astype(np.float32)
    with cuda.active() as driver:
        given, back = pinned(cuda, n), pinned(cuda, n)
        given[:], back[:] = values, 0
        address, stream = cuda.allocate(4 * n, "a test"), cuda.stream()
        assert address % 256 == 0
        driver.copy_in(address, given, stream)
        driver.copy_out(back, address, stream)
        driver.synchronize_stream(stream)
        assert np.array_equal(back, values)


def test_part_of_a_buffer_is_copied_alone(cuda: CudaContext) -> None:
    with cuda.active() as driver:
        given, back = pinned(cuda, 1000), pinned(cuda, 1000)
        given[:], back[:] = np.arange(1000), -1
        address, stream = cuda.allocate(4000, "a test"), cuda.stream()
        driver.copy_in(address, given.reshape(10, 100)[:4], stream)
        driver.copy_out(back.reshape(10, 100)[:3], address, stream)
        driver.synchronize_stream(stream)
        assert np.array_equal(back[:300], given[:300])
        assert (back[300:] == -1).all()


def test_stream_that_waits_for_an_event_sees_what_came_before_it(cuda: CudaContext) -> None:
    n = 4 * MIB
    with cuda.active() as driver:
        given, back = pinned(cuda, n), pinned(cuda, n)
        address = cuda.allocate(4 * n, "a test")
        first, second, event, done = cuda.stream(), cuda.stream(), cuda.event(), cuda.event()
        for value in range(20):
            given[:] = value
            driver.copy_in(address, given, first)
            driver.record(event, first)
            driver.wait(second, event)
            driver.copy_out(back, address, second)
            driver.record(done, second)
            driver.synchronize_event(done)
            assert (back == value).all()


def test_event_that_was_never_recorded_is_not_waited_for(cuda: CudaContext) -> None:
    with cuda.active() as driver:
        stream, event = cuda.stream(), cuda.event()
        driver.wait(stream, event)
        driver.synchronize_event(event)
        driver.synchronize_stream(stream)


def test_events_measure_time(cuda: CudaContext) -> None:
    with cuda.active() as driver:
        given = pinned(cuda, 4 * MIB)
        address, stream = cuda.allocate(given.nbytes, "a test"), cuda.stream()
        start, end = cuda.event(timing=True), cuda.event(timing=True)
        driver.record(start, stream)
        for _ in range(10):
            driver.copy_in(address, given, stream)
        driver.record(end, stream)
        driver.synchronize_event(end)
        assert 0 < driver.elapsed_ms(start, end) < 10_000


def test_graph_of_copies_is_replayed_with_what_the_buffers_hold_then(cuda: CudaContext) -> None:
    with cuda.active() as driver:
        given, back = pinned(cuda, 1000), pinned(cuda, 1000)
        given[:], back[:] = 1, 0
        address, stream, other = cuda.allocate(4000, "a test"), cuda.stream(), cuda.stream()

        def work() -> None:
            driver.copy_in(address, given, stream)
            driver.copy_out(back, address, stream)

        graph = cuda.capture(stream, work)
        driver.synchronize_stream(stream)
        assert (back == 0).all()  # captured, not run
        for value, launched_on in ((2, stream), (3, other), (4, stream)):
            given[:] = value
            driver.launch(graph, launched_on)
            driver.synchronize_stream(launched_on)
            assert (back == value).all()
        cuda.free(graph)
        assert cuda.alive()["graphs"] == 0


def test_capture_that_fails_leaves_the_stream_usable(cuda: CudaContext) -> None:
    def broken() -> None:
        raise KeyError("in a capture")

    with cuda.active() as driver:
        given = pinned(cuda, 10)
        address, stream = cuda.allocate(40, "a test"), cuda.stream()
        with pytest.raises(KeyError, match="in a capture"):
            cuda.capture(stream, broken)
        driver.copy_in(address, given, stream)
        driver.synchronize_stream(stream)
        assert cuda.alive()["graphs"] == 0


def test_memory_is_back_when_it_is_freed_and_when_the_context_closes(package: str) -> None:
    size = 16 * MIB
    outer = open_cuda(0, package)  # keeps the primary context alive, which has memory of its own
    try:
        with outer.active() as driver:
            before = driver.memory_info()[0]
        inner = open_cuda(0, package)
        with inner.active() as driver:
            kept, freed = (inner.allocate(size, "a test") for _ in range(2))
            inner.stream(), inner.event(), inner.pin(100, "a test")
            assert before - driver.memory_info()[0] >= 2 * size
            inner.free(freed)
            assert inner.alive()["device allocations"] == 1
            assert kept != freed
        inner.close()
        inner.close()
        assert set(inner.alive().values()) == {0}
        with outer.active() as driver:
            assert before - driver.memory_info()[0] < size
    finally:
        outer.close()


def test_too_much_memory_is_refused_with_what_is_free(cuda: CudaContext) -> None:
    with cuda.active() as driver:
        total = driver.memory_info()[1]
        with pytest.raises(CudaMemoryLacks, match=r"no room for a test: [\d,]+ MiB are needed, "):
            cuda.allocate(2 * total, "a test")
        cuda.free(cuda.allocate(MIB, "after it"))


def test_call_with_a_handle_that_is_none_is_an_error(cuda: CudaContext) -> None:
    with (
        cuda.active() as driver,
        pytest.raises(CudaError, match=r"cuEventRecord failed: CUDA_ERROR_"),
    ):
        driver.record(0, cuda.stream())


def test_call_outside_the_context_is_an_error(cuda: CudaContext) -> None:
    found: list[Exception] = []

    def call() -> None:
        try:
            cuda.driver.create_event()
        except CudaError as error:
            found.append(error)

    thread = threading.Thread(target=call)  # no thread before it made a context current here
    thread.start()
    thread.join()
    assert len(found) == 1


def test_eight_threads_use_one_context_and_another_closes_it(package: str) -> None:
    cuda = open_cuda(0, package)
    wrong: list[int] = []

    def use(thread: int) -> None:
        with cuda.active() as driver:
            given, back = pinned(cuda, 5000), pinned(cuda, 5000)
            address, stream, event = cuda.allocate(20_000, "a test"), cuda.stream(), cuda.event()
            for call in range(50):
                given[:] = 1000 * thread + call
                driver.copy_in(address, given, stream)
                driver.copy_out(back, address, stream)
                driver.record(event, stream)
                driver.synchronize_event(event)
                wrong.extend([call] * int(not np.array_equal(given, back)))

    threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cuda.alive()["streams"] == 8
    closer = threading.Thread(target=cuda.close)
    closer.start()
    closer.join()
    assert set(cuda.alive().values()) == {0}


def test_nothing_grows_over_ten_thousand_copies(cuda: CudaContext) -> None:
    with cuda.active() as driver:
        given = pinned(cuda, 1000)
        address, stream, event = cuda.allocate(4000, "a test"), cuda.stream(), cuda.event()
        before = driver.memory_info()[0], cuda.alive()
        for _ in range(10_000):
            driver.copy_in(address, given, stream)
            driver.record(event, stream)
            driver.synchronize_event(event)
        assert (driver.memory_info()[0], cuda.alive()) == before
