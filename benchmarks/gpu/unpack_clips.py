"""Make waves.npy, (clips, 64_600) int16, from waves.flac and clips.npz: `unpack_clips.py FOLDER`.

Sample / 32768 is the float32 wave, exactly. A file of integers, because one of the benchmarks runs
under a Python that has no decoder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.common import N_SAMPLES


def unpack_clips(folder: Path) -> Path:
    """Cut the one long wave into clips and tile those that are short."""
    import soundfile

    samples, _ = soundfile.read(folder / "waves.flac", dtype="int16")
    lengths = np.load(folder / "clips.npz")["n_samples"]
    if int(lengths.sum()) != len(samples):
        raise SystemExit(f"waves.flac holds {len(samples)} samples, clips.npz says {lengths.sum()}")
    clips = np.split(samples, np.cumsum(lengths)[:-1])
    windows = np.stack([np.resize(clip, N_SAMPLES) for clip in clips])  # resize repeats the clip
    np.save(folder / "waves.npy", windows)
    return folder / "waves.npy"


if __name__ == "__main__":
    print(unpack_clips(Path(sys.argv[1]).expanduser()))
