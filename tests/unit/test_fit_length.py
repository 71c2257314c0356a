"""fit_length: cut or tiled from the start, never padded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aasist_deploy.audio import fit_length
from aasist_deploy.errors import ShapeError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

waves = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1, 1, width=32))


@given(waves, st.integers(1, 1_000))
def test_fit_length_repeats_the_wave_from_its_start(
    wave: NDArray[np.float32], n_samples: int
) -> None:
    fitted = fit_length(wave, n_samples)
    assert fitted.shape == (n_samples,)
    assert fitted.dtype == np.float32
    assert fitted.flags.c_contiguous
    np.testing.assert_array_equal(fitted, wave[np.arange(n_samples) % len(wave)])


@given(waves, st.integers(1, 1_000))
def test_fit_length_twice_is_fit_length_once(wave: NDArray[np.float32], n_samples: int) -> None:
    once = fit_length(wave, n_samples)
    np.testing.assert_array_equal(fit_length(once, n_samples), once)


def test_fit_length_of_a_right_wave_is_that_wave() -> None:
    wave = np.ones(100, np.float32)
    assert np.shares_memory(fit_length(wave, len(wave)), wave)
    assert not np.shares_memory(fit_length(wave, len(wave) + 1), wave)


def test_fit_length_makes_strided_and_double_waves_contiguous_float32() -> None:
    wave = np.linspace(-1, 1, 200)
    fitted = fit_length(wave[::2], 100)
    assert fitted.flags.c_contiguous
    np.testing.assert_array_equal(fitted, wave[::2].astype(np.float32))


@pytest.mark.parametrize(
    "wave", [np.zeros(0, np.float32), np.zeros((1, 9), np.float32), np.zeros(9, np.int16)]
)
def test_fit_length_refuses_what_is_no_wave(wave: Any) -> None:
    with pytest.raises(ShapeError, match="A wave h"):
        fit_length(wave)


def test_fit_length_refuses_no_length() -> None:
    with pytest.raises(UsageError, match="n_samples is 0"):
        fit_length(np.ones(100, np.float32), 0)
