"""ONNX Runtime with input and outputs bound to buffers on the device.

A plain `session.run` lets the runtime allocate on the device for every call, and copies back every
output it was asked for through memory of its own. Bound buffers are allocated once for each batch
size and used again; a call is one copy in, one run, one copy out. ONNX Runtime's Python API offers
page-locked host memory for plug-in providers alone, so the copies start and end in the caller's own
memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Sets of buffers that wait for the next call: a few threads with a full and a last, smaller batch.
KEPT_SETS: Final = 8


@dataclass(frozen=True, slots=True)
class _Buffers:
    """One batch size's memory on the device, used by one call at a time."""

    binding: Any
    wave: Any


class BoundSession:
    """Runs a session through buffers that stay on the device.

    Thread-safety: several threads may call `run` at once; each takes buffers of its own.

    Args:
        ort: The module onnxruntime.
        session: A session whose provider computes on `device`.
        input_name: Name of the (B, N) float32 input.
        outputs: Names of the outputs to fetch; others are not copied.
        device: ONNX Runtime's word for where the buffers lie: "cuda", or "cpu" for tests.
        device_id: Which GPU.
    """

    def __init__(
        self,
        ort: Any,  # noqa: ANN401  # onnxruntime has no types
        session: Any,  # noqa: ANN401
        *,
        input_name: str,
        outputs: Sequence[str],
        device: str,
        device_id: int,
    ) -> None:
        self._ort, self._session = ort, session
        self._input_name, self._outputs = input_name, list(outputs)
        self._device, self._device_id = device, device_id
        self._lock = threading.Lock()
        self._waiting: OrderedDict[tuple[int, ...], list[_Buffers]] = OrderedDict()

    def run(self, waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """(B, N) float32 waves -> outputs by name, fresh arrays with first axis B."""
        buffers = self._take(waves)
        self._session.run_with_iobinding(buffers.binding)
        buffers.binding.synchronize_outputs()
        # Copies, also where the buffers lie in host memory and `numpy()` would be a view.
        results = [np.array(value.numpy()) for value in buffers.binding.get_outputs()]
        self._give_back(waves.shape, buffers)
        return dict(zip(self._outputs, results, strict=True))

    @property
    def n_kept(self) -> int:
        """Sets of buffers that wait for the next call."""
        with self._lock:
            return sum(len(sets) for sets in self._waiting.values())

    def close(self) -> None:
        """Free the buffers and let the session go."""
        with self._lock:
            self._waiting.clear()
        self._session = None

    def _take(self, waves: NDArray[np.float32]) -> _Buffers:
        """Buffers of this shape that hold the waves: used ones where there are some."""
        with self._lock:
            sets = self._waiting.get(waves.shape)
            buffers = sets.pop() if sets else None
        if buffers is None:
            return self._new(waves)
        buffers.wave.update_inplace(waves)
        return buffers

    def _give_back(self, shape: tuple[int, ...], buffers: _Buffers) -> None:
        """Keep the buffers for the next call of this shape; the shape unused longest gives way."""
        with self._lock:
            self._waiting.setdefault(shape, []).append(buffers)
            self._waiting.move_to_end(shape)
            if sum(len(sets) for sets in self._waiting.values()) > KEPT_SETS:
                oldest = next(iter(self._waiting))
                self._waiting[oldest].pop()
                if not self._waiting[oldest]:
                    del self._waiting[oldest]

    def _new(self, waves: NDArray[np.float32]) -> _Buffers:
        # A value on the CPU is a view of its array: it must not be the caller's.
        own = waves.copy() if self._device == "cpu" else waves
        wave = self._ort.OrtValue.ortvalue_from_numpy(own, self._device, self._device_id)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input_name, wave)
        for name in self._outputs:
            binding.bind_output(name, self._device, self._device_id)
        return _Buffers(binding, wave)
