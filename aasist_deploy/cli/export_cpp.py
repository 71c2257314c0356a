"""`aasist-deploy export --to cpp`: the folder, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aasist_deploy.cli.common import print_json, stdout
from aasist_deploy.errors import UsageError
from aasist_deploy.export.cpp_bundle import MODEL_NAME, write_cpp_bundle

if TYPE_CHECKING:
    from pathlib import Path


def bundle_target(output: Path, precision: str) -> Path:
    """Where the model of the folder is exported to; the folder is made.

    Raises:
        UsageError: a model that the C++ library does not take.
    """
    if precision != "fp32":
        raise UsageError(
            f"--precision is {precision}; the C++ library computes in fp32 on CPUs.",
            fix="leave --precision out",
        )
    output.mkdir(parents=True, exist_ok=True)
    return output / MODEL_NAME


def bundle_and_print(
    model: Path, output: Path, *, json_: bool, exported: dict[str, Any] | None
) -> None:
    """Write the folder around an exported file and say how to build it."""
    program = write_cpp_bundle(model, output)
    if json_:
        print_json({**(exported or {}), "folder": str(output), "model": str(output / MODEL_NAME)})
        return
    stdout.print(
        f"{output}: a C and C++ project. Build and try it:\n"
        f"  cd {output} && cmake -B build && cmake --build build\n"
        f"  {program.usage}",
        markup=False,
        soft_wrap=True,
    )
