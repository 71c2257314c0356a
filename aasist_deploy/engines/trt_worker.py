"""What one thread at a time runs a plan with: contexts, buffers, streams and CUDA graphs.

Two slots of buffers, each with a stream of its own, take turns, so that waves are copied in and
results copied out while the other slot's waves are computed. Computing itself is one after the
other, because all contexts of a worker keep their inner values in the same device memory: an event
says when it is free.

    slot 0   copy in 0 | compute 0 | copy out 0, copy in 2 |           | compute 2
    slot 1             | copy in 1 |            compute 1             | copy out 1

A CUDA graph holds the addresses and the batch of its capture, and stays valid as long as the
context that it was captured from is not touched. So each graph has a context of its own.

Source: TensorRT's developer guide, "CUDA Graphs" (one context for each captured graph, sharing
device memory).
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from aasist_deploy.engines.base import Waves
    from aasist_deploy.engines.cuda_memory import CudaContext
    from aasist_deploy.engines.trt_plan import LoadedPlan, PlanContext

log = logging.getLogger(__name__)

# Each graph has a context, whose host memory is megabytes: enough for two slots at eight sizes.
MAX_GRAPHS: Final = 16
_REMEMBERED: Final = 4 * MAX_GRAPHS  # sizes seen once, that a second use makes a graph of
_FLOAT32_BYTES: Final = 4

Key = tuple[int, tuple[tuple[str, int], ...]]


@dataclass(frozen=True, slots=True)
class Slot:
    """Buffers for one batch on its way, and the stream that it takes.

    Attributes:
        stream: Copies and work of this slot, in order.
        finished: Recorded when the results are in host memory.
        waves: (max_batch, samples) float32 in pinned memory.
        results: Output name -> (max_batch, ...) in pinned memory.
        addresses: Input and output name -> device address.
    """

    stream: int
    finished: int
    waves: NDArray[np.float32]
    results: dict[str, NDArray[Any]]
    addresses: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Graph:
    handle: int
    context: PlanContext


class Worker:
    """Runs batches of one plan; the CUDA context must be current in every call.

    Used by one thread at a time. What it makes in `cuda` is freed by closing that.

    Args:
        plan: What to run.
        cuda: Where memory and streams are made.
        max_batch: Most waves in one batch; a profile must hold them.
        graphs: Replay CUDA graphs for batches that were seen before.

    Raises:
        EnvironmentLacks: the GPU has no room, or TensorRT gives no context.
    """

    def __init__(
        self, plan: LoadedPlan, cuda: CudaContext, max_batch: int, *, graphs: bool = True
    ) -> None:
        self._plan, self._cuda, self._max_batch = plan, cuda, max_batch
        self._use_graphs = graphs
        self._contexts: dict[int, PlanContext] = {}
        self._graphs: OrderedDict[Key, _Graph] = OrderedDict()
        self._seen: OrderedDict[Key, None] = OrderedDict()
        profiles = plan.profiles_up_to(max_batch)
        size = plan.activation_bytes(profiles)
        what = f"the inner values of a batch of {max(plan.profiles[i][2] for i in profiles)}"
        self._memory = (cuda.allocate(max(size, 1), what), size)
        self._computed = cuda.event()  # the activation memory is free again
        self._given = cuda.event()  # what a caller's stream has queued so far
        self._slots = tuple(self._new_slot() for _ in range(2))
        try:
            self._context_for(plan.batch_for(max_batch))  # what cannot work fails now
        except BaseException:
            self.close()
            raise

    def run(self, waves: Waves, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """Run any number of waves, in pieces of at most `max_batch`.

        Args:
            waves: (B, samples) float32.
            names: The outputs wanted.

        Returns:
            Output name -> (B, ...), a fresh array.

        Raises:
            EnvironmentLacks: TensorRT or the driver failed.
        """
        results = {
            name: np.empty((len(waves), *(out := self._plan.outputs[name]).shape), out.dtype)
            for name in names
        }
        on_the_way: deque[tuple[Slot, slice]] = deque()
        try:
            for index, start in enumerate(range(0, len(waves), self._max_batch)):
                if len(on_the_way) == len(self._slots):
                    self._take(*on_the_way.popleft(), results)
                slot = self._slots[index % len(self._slots)]
                rows = slice(start, min(start + self._max_batch, len(waves)))
                self._give(slot, waves[rows], names)
                on_the_way.append((slot, rows))
            while on_the_way:
                self._take(*on_the_way.popleft(), results)
        except BaseException:
            self._settle()
            raise
        return results

    def run_on_device(self, batch: int, addresses: dict[str, int], stream: int) -> None:
        """Queue a batch whose waves are on the device; what is queued on `stream` later waits.

        Args:
            batch: How many waves there are; a profile must hold just them.
            addresses: Input and output name -> the caller's device address. Outputs that are
                missing go to buffers of ours.
            stream: The caller's stream; 0 is the default stream.
        """
        slot, driver = self._slots[0], self._cuda.driver
        driver.record(self._given, stream)
        driver.wait(slot.stream, self._given)
        self._compute(batch, {**slot.addresses, **addresses}, slot.stream)
        driver.wait(stream, self._computed)

    def close(self) -> None:
        """Wait for what is queued and let go of TensorRT's contexts; memory is freed by `cuda`."""
        self._settle()
        for graph in self._graphs.values():
            graph.context.close()
        for context in self._contexts.values():
            context.close()
        self._graphs.clear()
        self._contexts.clear()

    def _give(self, slot: Slot, waves: Waves, names: tuple[str, ...]) -> None:
        """Queue everything for one piece, and return before it is done."""
        driver, n_waves = self._cuda.driver, len(waves)
        batch = self._plan.batch_for(n_waves)
        slot.waves[:n_waves] = waves
        slot.waves[n_waves:batch] = waves[-1]  # a profile's smallest batch; dropped again
        driver.copy_in(slot.addresses[self._plan.input_name], slot.waves[:batch], slot.stream)
        self._compute(batch, slot.addresses, slot.stream)
        for name in names:
            driver.copy_out(slot.results[name][:n_waves], slot.addresses[name], slot.stream)
        driver.record(slot.finished, slot.stream)

    def _take(self, slot: Slot, rows: slice, results: dict[str, NDArray[Any]]) -> None:
        """Wait for a piece and copy its results out of the slot's buffers."""
        self._cuda.driver.synchronize_event(slot.finished)
        for name, result in results.items():
            result[rows] = slot.results[name][: rows.stop - rows.start]

    def _compute(self, batch: int, addresses: dict[str, int], stream: int) -> None:
        """Queue the plan on a stream, after whatever used the activation memory last."""
        driver = self._cuda.driver
        driver.wait(stream, self._computed)
        key = (batch, tuple(sorted(addresses.items())))
        if (graph := self._graphs.get(key)) is not None:
            self._graphs.move_to_end(key)
            driver.launch(graph.handle, stream)
        elif self._use_graphs and key in self._seen:
            del self._seen[key]
            self._compute_and_capture(key, addresses, stream)
        else:
            self._context_for(batch).execute(batch, addresses, stream)
            self._seen[key] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        driver.record(self._computed, stream)

    def _compute_and_capture(self, key: Key, addresses: dict[str, int], stream: int) -> None:
        """Run a batch in a context of its own, then record the same work as a graph.

        A context does the work that a new shape needs when it first runs it; that must not be part
        of the graph. The run counts: its results are those of this call.
        """
        batch = key[0]
        if len(self._graphs) >= MAX_GRAPHS:
            self._cuda.driver.synchronize_event(self._computed)  # none of them is running
            _, oldest = self._graphs.popitem(last=False)
            self._cuda.free(oldest.handle)
            oldest.context.close()
        context: PlanContext | None = None
        try:
            context = self._new_context(batch, stream)
            context.execute(batch, addresses, stream)
        except EnvironmentLacks as error:
            self._without_graphs(error)
            if context is not None:
                self._cuda.driver.synchronize_stream(stream)
                context.close()
            self._context_for(batch).execute(batch, addresses, stream)
            return
        running = context

        def work() -> None:
            running.execute(batch, addresses, stream)

        try:
            handle = self._cuda.capture(stream, work)
        except EnvironmentLacks as error:  # the results of the run above are good
            self._without_graphs(error)
            self._cuda.driver.synchronize_stream(stream)
            context.close()
            return
        self._graphs[key] = _Graph(handle, context)

    def _without_graphs(self, error: EnvironmentLacks) -> None:
        self._use_graphs = False
        log.warning(
            "No CUDA graph can be made of %s; it runs without, which takes longer for small "
            "batches: %s",
            self._plan.path,
            error,
        )

    def _context_for(self, batch: int) -> PlanContext:
        """The context that runs batches of this size outside graphs."""
        for profile in self._profiles_of(batch):
            if profile in self._contexts:
                return self._contexts[profile]
        context = self._new_context(batch, self._slots[0].stream)
        self._contexts[context.profile] = context
        return context

    def _profiles_of(self, batch: int) -> Iterator[int]:
        """Profiles that suit a batch equally well."""
        profiles = self._plan.profiles
        holding = [i for i, (low, _, high) in enumerate(profiles) if low <= batch <= high]
        nearest = min(abs(profiles[i][1] - batch) for i in holding)
        return (i for i in holding if abs(profiles[i][1] - batch) == nearest)

    def _new_context(self, batch: int, stream: int) -> PlanContext:
        context = self._plan.new_context(batch, self._memory, stream)
        self._cuda.driver.synchronize_stream(stream)  # its profile is set
        return context

    def _new_slot(self) -> Slot:
        cuda, plan = self._cuda, self._plan
        batch = plan.batch_for(self._max_batch)
        of_batch = f"of a batch of {batch}"
        waves = cuda.pin(batch * plan.n_samples * _FLOAT32_BYTES, f"the waves {of_batch}")
        addresses = {plan.input_name: cuda.allocate(waves.nbytes, f"the waves {of_batch}")}
        results: dict[str, NDArray[Any]] = {}
        for name, output in plan.outputs.items():
            what = f"the output {name} {of_batch}"
            host = cuda.pin(batch * output.row_bytes, what)
            results[name] = host.view(output.dtype).reshape(batch, *output.shape)
            addresses[name] = cuda.allocate(host.nbytes, what)
        shaped = waves.view(np.float32).reshape(batch, plan.n_samples)
        return Slot(cuda.stream(), cuda.event(), shaped, results, addresses)

    def _settle(self) -> None:
        """Wait until nothing of this worker is running; errors of that were or will be raised."""
        for slot in self._slots:
            try:
                self._cuda.driver.synchronize_stream(slot.stream)
            except EnvironmentLacks as error:
                log.debug("A stream ended with an error: %s", error)
