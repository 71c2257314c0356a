"""`aasist-deploy export --to web`: the page, and what is said of it."""

from __future__ import annotations

from pathlib import Path  # typer reads these annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aasist_deploy.cli.common import print_json, stderr, stdout
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from aasist_deploy.export.web_runtime import WebRuntime

OrtWebOption = Annotated[
    Path | None,
    typer.Option(
        help="With --to web: the archive or folder of onnxruntime-web, for machines that cannot "
        "fetch it. Default: from the cache, or by npm.",
    ),
]


def prepare_page(
    model: Path | None, output: Path, ort_web: Path | None, precision: str, *, stream: bool
) -> tuple[Path, WebRuntime]:
    """Refuse what the page does not take and find its runtime, before any other work.

    Args:
        model: An exported file, or None for a checkpoint.
        output: The folder, which is made.
        ort_web: As given with `--ort-web`.
        precision: As given with `--precision`.
        stream: As given with `--stream`.

    Returns:
        Where the model is to be exported to, and the runtime.

    Raises:
        UsageError: a model that the page does not take.
        AasistDeployError: as `obtain_runtime` raises it.
    """
    from aasist_deploy.export.web_bundle import MODEL_NAME, PRECISIONS, check_web_model
    from aasist_deploy.export.web_runtime import obtain_runtime

    if precision not in PRECISIONS:
        raise UsageError(
            f"--precision is {precision}; the page runs {', '.join(PRECISIONS)}.",
            fix="leave --precision out",
        )
    if stream:
        raise UsageError(
            "--stream writes a file that the page does not read; it slides windows over the "
            "microphone with the usual file.",
            fix="leave --stream out",
        )
    if model is not None:
        check_web_model(model)
    with stderr.status("looking for onnxruntime-web") as status:
        runtime = obtain_runtime(
            ort_web, on_fetch=lambda spec: status.update(f"npm fetches {spec} (33 MB)")
        )
    output.mkdir(parents=True, exist_ok=True)
    return output / MODEL_NAME, runtime


def page_and_print(
    model: Path, output: Path, runtime: WebRuntime, *, json_: bool, exported: dict[str, Any] | None
) -> None:
    """Write the page of an exported file and say how to open it."""
    from aasist_deploy.export.web_bundle import MODEL_NAME, PAGE_NAME, write_web_page

    n_bytes = write_web_page(model, output, runtime)
    page = output / PAGE_NAME
    if json_:
        said = {"folder": str(output), "page": str(page), "page_bytes": n_bytes}
        print_json({**(exported or {}), **said, "model": str(output / MODEL_NAME)})
        return
    stdout.print(
        f"{page}: {n_bytes / 1e6:.1f} MB, with the model and {runtime.pinned.spec} inside. Open it "
        f"in a browser, or serve it:\n"
        f"  python3 -m http.server --bind 127.0.0.1 --directory {output}",
        markup=False,
        soft_wrap=True,
    )
