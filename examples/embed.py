"""Score audio files from Python: python examples/embed.py MODEL.onnx FILE..."""

import sys

import numpy as np

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio

with open_engine(sys.argv[1], backend="onnx") as engine:
    waves = np.stack([fit_length(read_audio(path).wave) for path in sys.argv[2:]])  # (B, 64600)
    for path, score in zip(sys.argv[2:], engine.score(waves), strict=True):
        print(f"{score:8.3f}  {path}")
