"""aasist-deploy: deploy AASIST speech anti-spoofing models and trust the score on every backend.

Embedding takes three lines::

    from aasist_deploy import open_engine

    with open_engine("model.onnx", backend="onnx") as engine:
        scores = engine.score(waves)  # (B, N) float32 at 16 kHz -> (B,) float32

Importing this package loads nothing; numpy is imported when one of its names is first used, torch
and onnxruntime when an engine of that backend is opened.
"""

# Python imports this file before `__main__`, which sees to Ctrl-C before it imports anything: so
# nothing is imported here, not even what has the constant of this name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from aasist_deploy.contract import ModelContract
    from aasist_deploy.engines import Engine, open_engine
    from aasist_deploy.errors import AasistDeployError
else:
    _HOMES = {
        "AasistDeployError": "errors",
        "Engine": "engines",
        "ModelContract": "contract",
        "open_engine": "engines",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


del TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["AasistDeployError", "Engine", "ModelContract", "__version__", "open_engine"]
