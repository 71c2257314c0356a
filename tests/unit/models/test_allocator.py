from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import aasist_deploy

ALLOCATOR = Path(aasist_deploy.__file__).parent / "models" / "allocator.py"

# In a process of its own: the setting is for good.
ROUNDS = """
import ctypes, json, resource, runpy, sys
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
SIZE = 64 * 2**20

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        place = libc.malloc(SIZE)
        ctypes.memset(place, 1, SIZE)
        libc.free(place)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
said = runpy.run_path(sys.argv[1])["keep_freed_memory"]()
faults()  # memory that is used again has to be there first
print(json.dumps([before, said, faults()]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_memory_that_was_freed_is_used_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ROUNDS, str(ALLOCATOR)], capture_output=True, text=True, check=True
    )
    before, said, after = json.loads(done.stdout)
    if not said:
        pytest.skip("the C library has no mallopt")
    assert after < before / 20
