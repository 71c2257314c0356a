"""`aasist-deploy bench`: how fast models are here, beside one another and the hardware."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path  # typer reads these annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aasist_deploy.audio import find_audio
from aasist_deploy.bench import (
    Settings,
    Spec,
    Variant,
    check_same_machine,
    combinations,
    machine,
    measure,
    n_steps,
    parse_spec,
    read_earlier,
    results_of,
)
from aasist_deploy.cli.bench_tables import print_results
from aasist_deploy.cli.common import JsonOption, print_json, progress_bar, stderr
from aasist_deploy.cli.engine_options import (
    OWNERS,
    CodeOption,
    DeviceOption,
    EngineChoice,
    HintOption,
    ProviderOption,
    ThreadsOption,
)
from aasist_deploy.cli.options import (
    names_of,
    number_or,
)
from aasist_deploy.engines import BACKENDS
from aasist_deploy.engines.base import usable_cores
from aasist_deploy.errors import OutputError, UsageError
from aasist_deploy.resolve import backend_of, model_file

if TYPE_CHECKING:
    from collections.abc import Sequence


def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL[@BACKEND[:PRECISION]]...",
            help="Exported file, checkpoint or name; one that names its backend runs on it alone.",
        ),
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help=f"BACKEND[:PRECISION] for the models that name none: {' or '.join(BACKENDS)}. May "
            "be repeated, or several with commas; every model runs on every one. Default: by the "
            "file."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precisions of the backend openvino, separated by commas: fp32,bf16. Without "
            "--backend, openvino is meant."
        ),
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1,8",
    threads: ThreadsOption = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often each variant has its turn.")
    ] = Settings().rounds,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Baseline: MODEL[@BACKEND[:PRECISION]], which is measured too, or the JSON of an "
            "earlier run on this machine."
        ),
    ] = None,
    end_to_end: Annotated[
        str | None,
        typer.Option(help="Also time decoding and scoring the audio in this folder."),
    ] = None,
    hint: HintOption = None,
    provider: ProviderOption = "cpu",
    device: DeviceOption = "cpu",
    code: CodeOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file for the result.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Time models on backends side by side, and measure what the machine can do in the same run.

    \b
    Examples:
      aasist-deploy bench aasist.onnx --backend onnx,openvino --batch 1,8,32
      aasist-deploy bench m.onnx@openvino:bf16 m.int8.onnx --compare m.onnx@onnx
      aasist-deploy bench aasist.onnx --end-to-end calls/ -o today.json
      aasist-deploy bench aasist.onnx --compare today.json
    """  # noqa: D301  # \b keeps the lines of the example
    earlier = read_earlier(Path(compare)) if compare and compare.endswith(".json") else None
    baseline = parse_spec(compare) if compare and earlier is None else None
    backends = [name for text in backend or () for name in names_of(text)]
    specs = combinations(models, backends, names_of(precision or ""))
    if baseline is not None and baseline not in specs:
        specs.insert(0, baseline)
    settings = Settings(
        batches=_batches(batch),
        threads=threads or usable_cores(),
        rounds=rounds,
        files=() if end_to_end is None else tuple(find_audio([end_to_end])),
    )
    if end_to_end is not None and not settings.files:
        raise UsageError(f"There is no audio in {end_to_end}.", fix="--end-to-end FOLDER")
    here = machine()
    if earlier is not None:
        check_same_machine(earlier, here, settings.threads)
    asked = EngineChoice(
        threads=settings.threads, hint=hint, provider=provider, device=device, code=code
    )
    variants = _variants(specs, settings, asked)
    label = None if baseline is None else variants[specs.index(baseline)].label
    variants = list({one.label: one for one in variants}.values())  # a default, and named, is one
    _check_earlier(earlier, variants, settings)
    with progress_bar("starting", n_steps(len(variants), settings)) as progress:
        (task,) = progress.task_ids
        run = measure(
            variants,
            settings,
            on_step=lambda step: progress.update(task, advance=1, description=step),
        )
    results = results_of(
        run,
        settings,
        machine=here,
        command=shlex.join(["aasist-deploy", *sys.argv[1:]]),
        baseline=label,
        earlier=earlier,
    )
    if output is not None:
        _write(output, results)
    if json_:
        print_json(results)
    else:
        print_results(results)
    for one in run.variants:
        if one.error is not None:
            stderr.print(f"error: {one.variant.label}: {one.error}", style="red", markup=False)
    if any(one.error is not None for one in run.variants) or run.interrupted:
        raise typer.Exit(1)


def _batches(text: str) -> tuple[int, ...]:
    sizes = [number_or(part, "", "--batch") for part in names_of(text)]
    if not sizes:
        raise UsageError("--batch is empty.", fix="for example --batch 1,8")
    return tuple(size for size in sizes if size is not None)


def _variants(specs: "Sequence[Spec]", settings: Settings, asked: EngineChoice) -> list[Variant]:
    """Files, backends and options; a label has the model as typed where file names are the same.

    Raises:
        UsageError: an option concerns no backend of this run.
    """
    found: list[Variant] = []
    for spec in specs:
        path = model_file(spec.model, spec.backend)
        name = backend_of(path, spec.backend, asked.telling())
        options = asked.only_of(name).options_of(name)
        options["max_batch"] = max(settings.batches)  # a batch is run as it is, not in pieces
        if spec.precision is not None:
            options["precision"] = spec.precision
        full = replace(spec, backend=name)
        found.append(
            Variant(
                label=full.label,
                path=path,
                backend=name,
                precision=spec.precision,
                options=options,
            )
        )
    used = {one.backend for one in found}
    for option, value in asked.given().items():
        owners = OWNERS[option].backends
        if not used & set(owners):
            raise UsageError(
                f"--{option} {value} is for the backend {' or '.join(owners)}; this run has "
                f"{', '.join(sorted(used))}."
            )
    labels = [one.label for one in found]
    return [
        one
        if labels.count(one.label) == 1
        else replace(one, label=spec.model + one.label[len(Path(spec.model).name) :])
        for one, spec in zip(found, specs, strict=True)
    ]


def _check_earlier(
    earlier: dict[str, Any] | None, variants: "Sequence[Variant]", settings: Settings
) -> None:
    if earlier is None:
        return
    known = {(row["label"], row["batch"]) for row in earlier["rows"]}
    asked = {(one.label, batch) for one in variants for batch in settings.batches}
    if not known & asked:
        listed = ", ".join(f"{label} at batch {batch}" for label, batch in sorted(known))
        raise UsageError(
            f"The baseline has none of what is measured now; it has {listed}.",
            fix="measure the same models, backends and batch sizes",
        )


def _write(path: Path, results: dict[str, Any]) -> None:
    text = json.dumps(results, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        sys.stdout.write(text)  # what was measured is not lost
        raise OutputError(
            f"{path} cannot be written: {error.strerror}; the result is on stdout.",
            fix="choose another place with -o",
        ) from error
