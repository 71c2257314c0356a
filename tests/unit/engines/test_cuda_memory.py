"""The tests of device memory on a GPU, here on a fake driver library (fake_libcuda.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from aasist_deploy.engines import cuda_memory
from aasist_deploy.engines.cuda_memory import open_cuda
from aasist_deploy.errors import EnvironmentLacks, UsageError

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
TESTS = REPOSITORY / "tests" / "gpu" / "test_cuda_memory.py"
FREE_MIB = 96  # the largest test holds 2 x 16 MiB of it


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the fake libcuda.so.1, and the functions that pycuda alone asks for."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler for the fake libcuda.so.1")
    folder = tmp_path_factory.mktemp("libcuda")
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1"]
    command += ["-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([*command, str(HERE / "fake_libcuda.c"), "-ldl", "-lpthread"], check=True)
    return folder


def test_what_is_proved_on_a_gpu_holds_for_cuda_python_on_a_fake_driver(fake_library: Path) -> None:
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        pytest.skip("needs cuda-python (cuda-bindings)")
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(fake_library),
        "FAKE_CUDA_MEMORY_MIB": str(FREE_MIB),
        "AASIST_REQUIRE_GPU": "1",
        "AASIST_CUDA_PACKAGES": "cuda-python",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_unknown_package_is_refused() -> None:
    with pytest.raises(UsageError, match="known are: pycuda, cuda-python"):
        open_cuda(0, "cupy")


def test_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_memory, "find_spec", lambda _name: None)
    with pytest.raises(EnvironmentLacks, match="package pycuda or cuda-python, which is not inst"):
        open_cuda()
    with pytest.raises(EnvironmentLacks, match="the package pycuda, which is not installed"):
        open_cuda(0, "pycuda")


def test_machine_without_a_driver_is_an_error_in_one_sentence() -> None:
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        pytest.skip("needs cuda-python (cuda-bindings)")
    from aasist_deploy.engines.tensorrt_runtime import probe_gpus

    try:
        probe_gpus()
    except EnvironmentLacks:
        with pytest.raises(EnvironmentLacks, match=r"finds no NVIDIA driver|cuInit failed"):
            open_cuda(0, "cuda-python")
    else:
        pytest.skip("this machine has a GPU")
