"""Make waves.npy, (clips, 64_600) int16, from the clips' own files.

    python -m benchmarks.gpu.unpack_clips FOLDER AUDIO

FOLDER holds clips.npz, AUDIO the files it names. Sample / 32768 is the float32 wave, exactly. A
file of integers, because one of the benchmarks runs under a Python that has no decoder.
"""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aasist_deploy.audio import fit_length, read_audio

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unpack_clips(folder: Path, audio: Path) -> Path:
    """Decode every clip, tile or cut it to a window, and check that all are what was prepared."""
    clips = np.load(folder / "clips.npz")
    with ThreadPoolExecutor() as pool:
        waves = list(pool.map(lambda name: read_audio(audio / str(name)).wave, clips["path"]))
    windows = np.stack([to_int16(fit_length(wave)) for wave in waves])
    if hashlib.sha256(windows.tobytes()).hexdigest() != str(clips["sha256"]):
        raise SystemExit(f"the clips in {audio} decode to other samples than when prepared")
    np.save(folder / "waves.npy", windows)
    return folder / "waves.npy"


def to_int16(wave: NDArray[np.float32]) -> NDArray[np.int16]:
    """The integers that a file of 16 bits held."""
    integers: NDArray[Any] = np.rint(wave * 32768).astype(np.int16)
    if not np.array_equal(integers.astype(np.float32) / np.float32(32768), wave):
        raise SystemExit("int16 does not give back the wave exactly")
    return integers


if __name__ == "__main__":
    print(unpack_clips(Path(sys.argv[1]).expanduser(), Path(sys.argv[2]).expanduser()))
