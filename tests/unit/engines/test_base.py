from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aasist_deploy
from aasist_deploy import AasistDeployError, open_engine
from aasist_deploy.engines import BACKENDS
from aasist_deploy.errors import EnvironmentLacks, ShapeError, UsageError


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("waves", "message"),
    [
        (zeros(800), r"shape \(batch, 800\); these have \(800,\)"),
        (zeros(1, 1, 800), r"these have \(1, 1, 800\)"),
        (zeros(2, 799), "takes waves of 800 samples; these have 799"),
        (zeros(2, 801), "takes waves of 800 samples; these have 801"),
        (zeros(0, 800), "The batch is empty"),
        (np.zeros((1, 800)), "float32 array; these are float64"),
        (np.zeros((1, 800), np.int16), "float32 array; these are int16"),
        ([[0.0] * 800], "float32 array; these are list"),
        (None, "float32 array; these are NoneType"),
        (np.ma.zeros((1, 800), np.float32), "float32 array"),
        (np.full((1, 800), np.nan, np.float32), "hold 800 samples that are NaN"),
        (np.where(np.arange(800) == 3, np.float32(np.inf), zeros(1, 800)), "hold 1 samples"),
    ],
)
def test_waves_that_do_not_fit_are_refused_with_both_values(
    waves: Any, message: str, fake_engine: Any
) -> None:
    engine = fake_engine()
    for method in (engine.score, engine.run):
        with pytest.raises(ShapeError, match=message):
            method(waves)
    assert engine.batches == []


def test_length_of_a_variable_model_is_bounded_on_both_sides(fake_engine: Any) -> None:
    engine = fake_engine(n_samples=None, min_samples=400, max_samples=1_000)
    assert engine.score(zeros(1, 400)).shape == engine.score(zeros(1, 1_000)).shape == (1,)
    with pytest.raises(ShapeError, match="400 or more samples; these have 399"):
        engine.score(zeros(1, 399))
    with pytest.raises(ShapeError, match="400 to 1000 samples; these have 1001"):
        engine.score(zeros(1, 1_001))


def test_large_batch_is_run_in_pieces(fake_engine: Any) -> None:
    engine = fake_engine()
    engine.max_batch = 4
    waves = np.arange(11, dtype=np.float32)[:, None].repeat(800, axis=1)
    assert engine.score(waves).tolist() == [10.0 * i for i in range(11)]
    assert engine.batches == [4, 4, 3]


@pytest.mark.parametrize("n_waves", [1, 2, 3, 4, 7])
def test_fixed_batch_is_filled_up_and_the_filling_dropped(n_waves: int, fake_engine: Any) -> None:
    engine = fake_engine(batch=(3, 3))
    waves = np.arange(n_waves, dtype=np.float32)[:, None].repeat(800, axis=1)
    assert engine.score(waves).tolist() == [10.0 * i for i in range(n_waves)]
    assert set(engine.batches) == {3}


def test_waves_of_any_memory_layout_score_the_same(fake_engine: Any) -> None:
    waves = np.random.default_rng(0).uniform(-1, 1, (800, 6)).astype(np.float32)
    strided = waves.T[::2]
    assert not strided.flags.c_contiguous
    expected = fake_engine().score(np.ascontiguousarray(strided))
    assert np.array_equal(fake_engine().score(strided), expected)


def test_close_is_idempotent_and_ends_every_use(fake_engine: Any) -> None:
    engine = fake_engine()
    engine.close()
    engine.close()
    assert engine.batches == [-1]
    with pytest.raises(ShapeError, match="closed"):
        engine.score(zeros(1, 800))


def test_context_manager_closes_also_after_an_error(fake_engine: Any) -> None:
    engine = fake_engine()

    def broken() -> None:
        with engine as entered:
            assert entered is engine
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert engine.batches == [-1]


@pytest.mark.parametrize("backend", ["tpu", "", "ONNX"])
def test_unknown_backend_is_refused_with_the_known_ones(backend: str) -> None:
    with pytest.raises(UsageError, match="known are: openvino, onnx, torch"):
        open_engine("model.onnx", backend)


def test_suffix_that_no_backend_opens_is_refused() -> None:
    with pytest.raises(UsageError, match=r"suffix is '\.bin'"):
        open_engine("model.bin")


@pytest.mark.parametrize(("path", "backend"), [("model.pth", "onnx"), ("model.onnx", "torch")])
def test_file_of_another_backend_is_refused(path: str, backend: str) -> None:
    with pytest.raises(UsageError, match=f"The backend '{backend}' runs.*does not open {path}"):
        open_engine(path, backend)


@pytest.mark.parametrize(
    ("path", "backend"), [("m.onnx", "onnx"), ("m.onnx", "openvino"), ("m.pth", "torch")]
)
def test_unknown_option_is_named(path: str, backend: str) -> None:
    with pytest.raises(UsageError, match=f"'{backend}' does not know an option: 'turbo'"):
        open_engine(path, backend, turbo=True)


@pytest.mark.parametrize(
    ("path", "backend"), [("m.onnx", "onnx"), ("m.onnx", "openvino"), ("m.pth", "torch")]
)
def test_missing_package_names_the_extra(
    path: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aasist_deploy.engines.find_spec", lambda _name: None)
    with pytest.raises(EnvironmentLacks, match="not installed") as raised:
        open_engine(path, backend)
    assert raised.value.fix == f"pip install 'aasist-deploy[{BACKENDS[backend].extra}]'"
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("path", ["none.onnx", "none.pth"])
def test_missing_file_is_one_error_of_ours(path: str) -> None:
    with pytest.raises(AasistDeployError, match=f"{path} cannot be read"):
        open_engine(path)


def test_public_names_are_what_the_package_exports() -> None:
    for name in aasist_deploy.__all__:
        assert getattr(aasist_deploy, name) is not None
    assert {"open_engine", "Engine", "ModelContract", "AasistDeployError"} <= set(
        aasist_deploy.__all__
    )
