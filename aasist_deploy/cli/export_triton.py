"""`aasist-deploy export --to triton`: the options of a model repository, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aasist_deploy.cli.common import print_json, stdout
from aasist_deploy.errors import OutputError, UsageError

_PANEL = "Triton, with --to triton"
PlanOption = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        rich_help_panel=_PANEL,
        help="A TensorRT plan of the same model, for a second model in the repository.",
    ),
]
TritonDeviceOption = Annotated[
    Literal["cpu", "gpu"] | None,
    typer.Option(
        "--triton-device",
        rich_help_panel=_PANEL,
        help="Where ONNX Runtime runs in Triton. Default: cpu, and gpu for fp16 and bf16.",
    ),
]
InstancesOption = Annotated[
    int | None,
    typer.Option(
        "--instances",
        min=1,
        rich_help_panel=_PANEL,
        help="Copies of each model, for each GPU or all CPUs. Default: 1.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonRequest:
    """What the command line says of a model repository.

    Attributes:
        plan: --plan.
        device: --triton-device.
        instances: --instances.
    """

    plan: Path | None
    device: Literal["cpu", "gpu"] | None
    instances: int | None

    def check(self, to: str) -> None:
        """Look at the options before any work.

        Raises:
            UsageError: options of Triton with another destination, or a plan that is not there.
        """
        given = {
            "--plan": self.plan,
            "--triton-device": self.device,
            "--instances": self.instances,
        }
        names = [name for name, value in given.items() if value is not None]
        if to != "triton" and names:
            raise UsageError(
                f"{', '.join(names)} belongs to model repositories, and --to {to} was asked for.",
                fix="add --to triton",
            )
        if self.plan is not None and not self.plan.is_file():
            raise UsageError(
                f"There is no plan {self.plan}.",
                fix="build it: aasist-deploy export MODEL --to trt -o MODEL.plan",
            )

    def target(self, model: str, output: Path) -> Path:
        """Where a checkpoint is exported to before it goes into the repository, which is made.

        Raises:
            UsageError: nothing of the model's name can be a name in Triton.
            OutputError: the folder cannot be made.
        """
        from aasist_deploy.export.triton_bundle import triton_name

        triton_name(model)
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{output} cannot be written: {error.strerror}.") from error
        return output / "model.onnx"

    def write_and_print(
        self,
        model: str,
        file: Path,
        output: Path,
        *,
        json_: bool,
        exported: dict[str, Any] | None,
    ) -> None:
        """Write the repository around an exported file and say how to use it.

        Args:
            model: What the user named, after which the model is called.
            file: The .onnx file; one from `target` is moved.
            output: The repository.
            json_: Print one JSON object.
            exported: What the export said, if there was one.
        """
        from aasist_deploy.export.triton_bundle import triton_name, write_triton_repository
        from aasist_deploy.export.triton_config import TritonOptions

        options = TritonOptions(kind=self.device, instances=self.instances or 1)
        configs = write_triton_repository(
            file, output, name=triton_name(model), plan=self.plan, options=options
        )
        if exported is not None:
            file.unlink()
        names = [config.parent.name for config in configs]
        if json_:
            said = {**(exported or {}), "folder": str(output), "models": names}
            if exported is not None:
                said["path"] = str(output / names[0] / "1" / "model.onnx")
            print_json(said)
            return
        lines = "\n".join(f"  {config}" for config in configs)
        stdout.print(
            f"{output}: a model repository for Triton\n{lines}\n"
            f"Serve it: tritonserver --model-repository {output}",
            markup=False,
            soft_wrap=True,
        )
