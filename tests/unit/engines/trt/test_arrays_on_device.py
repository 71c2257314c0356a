"""Waves and outputs that lie on the device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.errors import ShapeError
from tests.contracts import N_SAMPLES
from tests.unit.engines.trt.asked import calls, expected

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
