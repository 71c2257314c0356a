"""aasist-deploy: deploy AASIST speech anti-spoofing models and trust the score on every backend.

Embedding takes three lines::

    from aasist_deploy import open_engine

    with open_engine("model.onnx", backend="onnx") as engine:
        scores = engine.score(waves)  # (B, N) float32 at 16 kHz -> (B,) float32

Importing this package loads numpy and nothing heavier; torch and onnxruntime are imported when an
engine of that backend is opened.
"""

from aasist_deploy.contract import ModelContract
from aasist_deploy.engines import Engine, open_engine
from aasist_deploy.errors import AasistDeployError

__version__ = "0.1.0"

__all__ = ["AasistDeployError", "Engine", "ModelContract", "__version__", "open_engine"]
