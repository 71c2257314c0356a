"""Packages that only some verbs need, and the extras of aasist-deploy that install them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from aasist_deploy.errors import EnvironmentLacks

# ONNX Runtime is no part of the extra `export`: it comes with `onnx` or `onnx-gpu`, never both.
EXPORT_PACKAGES: Final = ("torch", "onnx", "onnxscript", "onnxruntime")
TRAIN_PACKAGES: Final = ("torch", "safetensors", "tomlkit")  # and tensorboardX for its event files
SERVE_PACKAGES: Final = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def missing_for_export() -> list[str]:
    """Import names that exporting needs and this environment lacks."""
    return [name for name in EXPORT_PACKAGES if find_spec(name) is None]


def export_install_command(missing: list[str]) -> str:
    """The command that installs what is missing; it leaves an installed ONNX Runtime alone."""
    extras = "export,onnx" if "onnxruntime" in missing else "export"
    return f"pip install 'aasist-deploy[{extras}]'"


def require_export_packages(why: str) -> None:
    """Check that a checkpoint can be exported here.

    Args:
        why: Who needs it, the beginning of a sentence: "Exporting needs".

    Raises:
        EnvironmentLacks: a package is missing.
    """
    if missing := missing_for_export():
        raise EnvironmentLacks(
            f"{why} the package {', '.join(missing)}, which is not installed.",
            fix=export_install_command(missing),
        )


def require_train_packages(why: str) -> None:
    """Check that a network can be trained here.

    Args:
        why: Who needs it, the beginning of a sentence: "Training needs".

    Raises:
        EnvironmentLacks: a package is missing.
    """
    if missing := [name for name in TRAIN_PACKAGES if find_spec(name) is None]:
        raise EnvironmentLacks(
            f"{why} the package {', '.join(missing)}, which is not installed.",
            fix="pip install 'aasist-deploy[train]'",
        )


def require_serve_packages() -> None:
    """Check that a server can run here.

    Raises:
        EnvironmentLacks: a package is missing.
    """
    if missing := [name for name in SERVE_PACKAGES if find_spec(name) is None]:
        raise EnvironmentLacks(
            f"Serving needs the package {', '.join(missing)}, which is not installed.",
            fix="pip install 'aasist-deploy[serve]'",
        )
