"""What tests on a GPU need; without it they skip, and with AASIST_REQUIRE_GPU=1 they fail."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aasist_deploy.engines.tensorrt_runtime import load_tensorrt, require_gpu
from aasist_deploy.errors import EnvironmentLacks

if TYPE_CHECKING:
    from typing import NoReturn

    from aasist_deploy.engines.tensorrt_runtime import Gpu, TensorRt


def lacking(reason: str) -> NoReturn:
    """Skip, or fail where a GPU was promised."""
    if os.environ.get("AASIST_REQUIRE_GPU") == "1":
        pytest.fail(f"AASIST_REQUIRE_GPU=1: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    """The first GPU."""
    try:
        return require_gpu(0)
    except EnvironmentLacks as error:
        lacking(str(error))


@pytest.fixture(scope="session")
def tensorrt(gpu: Gpu) -> TensorRt:
    """The installed TensorRT."""
    assert gpu.index == 0
    try:
        return load_tensorrt()
    except EnvironmentLacks as error:
        lacking(str(error))
