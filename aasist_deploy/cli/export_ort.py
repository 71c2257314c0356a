"""`aasist-deploy export --to ort`: what was written for small builds of ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aasist_deploy.cli.common import print_json, stderr, stdout
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def check_ort_request(model: Path | None, precision: str, *, stream: bool) -> None:
    """Refuse what is not lowered to `.ort`, before any other work.

    Raises:
        UsageError: a precision other than fp32, or a file for streams.
        ModelFileError: not an exported file.
    """
    from aasist_deploy.export.ort_mobile import check_ort_source

    if precision != "fp32" or stream:
        asked = "--stream" if stream else f"--precision {precision}"
        raise UsageError(
            f"{asked} was asked for; --to ort takes fp32 files for whole waves.",
            fix="leave it out",
        )
    if model is not None:
        check_ort_source(model)


def ort_and_print(
    onnx: Path, output: Path, *, json_: bool, exported: dict[str, Any] | None
) -> None:
    """Write the `.ort` file of an exported one and say what lies where."""
    from aasist_deploy.export.ort_mobile import ort_from_onnx

    with stderr.status("optimising and comparing"):
        written = ort_from_onnx(onnx, output)
    if json_:
        print_json({**(exported or {}), "ort": written.to_dict()})
        return
    stdout.print(
        f"{written.path}: {written.n_bytes / 1e3:.0f} kB, largest difference from {onnx} "
        f"{written.max_difference:.1e}\n"
        f"  {written.description}: its contract and hash\n"
        f"  {written.operators}: the {written.n_operators} operators that a build of ONNX Runtime "
        f"needs, for --include_ops_by_config",
        markup=False,
        soft_wrap=True,
    )
