"""`aasist-deploy parity`: is this model the same as that one, on real audio."""

from dataclasses import replace
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from aasist_deploy.audio import N_SAMPLES, find_audio, fit_length, read_audio
from aasist_deploy.cli.common import JsonOption, print_json, progress_bar, stderr, stdout
from aasist_deploy.cli.engine_options import (
    OWNERS,
    BackendOption,
    CodeOption,
    DeviceOption,
    EngineChoice,
    HintOption,
    Opening,
    PrecisionOption,
    ProviderOption,
    ThreadsOption,
)
from aasist_deploy.cli.options import number_or
from aasist_deploy.engines import Engine, open_engine
from aasist_deploy.errors import CheckFailed, UsageError
from aasist_deploy.parity import (
    DEFAULT_BATCH,
    DEFAULT_LENGTHS,
    ParityLimits,
    ParityReport,
    compare,
)
from aasist_deploy.resolve import backend_of, model_file

_SHARED_OPTIONS: Final = ("provider", "device", "code")  # of whichever model's backend has them


def parity(
    model: Annotated[str, typer.Argument(help="Exported .onnx file, checkpoint, or name.")],
    reference: Annotated[
        str, typer.Option(help="What it should equal: a checkpoint, another model file, or a name.")
    ],
    audio: Annotated[
        list[str], typer.Option(help="Folder or file of audio to compare on; may be repeated.")
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Compare on the first so many clips.")
    ] = None,
    max_difference: Annotated[
        float, typer.Option(help="Largest difference of a score that counts as equal.")
    ] = ParityLimits().difference,
    max_flips: Annotated[
        int, typer.Option(min=0, help="How many decisions may differ.")
    ] = ParityLimits().flips,
    threshold: Annotated[float, typer.Option(help="Decision threshold on the score.")] = 0.0,
    batch: Annotated[
        int, typer.Option(min=2, help="Batch to compare with one by one.")
    ] = DEFAULT_BATCH,
    lengths: Annotated[
        str | None,
        typer.Option(help="Window lengths to compare at, e.g. 16000,48000; variable length only."),
    ] = None,
    backend: BackendOption = None,
    reference_backend: Annotated[
        str | None, typer.Option(help="What runs the reference. Default: as for --backend.")
    ] = None,
    precision: PrecisionOption = None,
    hint: HintOption = None,
    threads: ThreadsOption = None,
    provider: ProviderOption = "cpu",
    device: DeviceOption = "cpu",
    code: CodeOption = None,
    json_: JsonOption = False,
) -> None:
    """Compare a model with its checkpoint, or two models; exit code 1 when they differ.

    --backend, --precision and --hint are for MODEL alone; the reference runs exactly.

    \b
    Example:
      aasist-deploy parity aasist.onnx --reference AASIST.pth --audio clips/
      aasist-deploy parity m.onnx --precision bf16 --reference m.onnx --audio clips/
    """  # noqa: D301  # \b keeps the lines of the example
    path = model_file(model, backend or "onnx")
    reference_path = model_file(reference, reference_backend or "torch")
    asked = EngineChoice(
        backend=backend,
        threads=threads,
        precision=precision,
        hint=hint,
        provider=provider,
        device=device,
        code=code,
    )
    way = _way(path, asked)
    other_way = _way(
        reference_path, replace(asked.without("precision", "hint"), backend=reference_backend)
    )
    _refuse_unused(asked, {way.backend, other_way.backend})
    if other_way.backend == "torch":
        other_way.options["any_length"] = True
    with (
        open_engine(path, backend, **way.options) as engine,
        open_engine(reference_path, reference_backend, **other_way.options) as other,
    ):
        stderr.print(
            f"backend: {way.says(engine.device)}; of the reference: {other_way.says(other.device)}",
            style="dim",
            markup=False,
        )
        windows = _windows(audio, engine, other, limit)
        with progress_bar("comparing", len(windows)) as progress:
            (task,) = progress.task_ids
            report = compare(
                engine,
                other,
                windows,
                limits=ParityLimits(difference=max_difference, flips=max_flips),
                threshold=threshold,
                batch=batch,
                lengths=_lengths(lengths, engine, other),
                on_clip=lambda: progress.advance(task),
            )
    if json_:
        print_json(
            {
                "model": str(path),
                "backend": {"name": way.backend, "device": engine.device},
                "reference": str(reference_path),
                "reference_backend": {"name": other_way.backend, "device": other.device},
                **report.to_dict(),
            }
        )
    else:
        stdout.print(_rendered(report, path.name, reference_path.name))
    if not report.holds:
        raise CheckFailed(
            f"{path.name} is not the same as {reference_path.name}: {'; '.join(report.breaches)}.",
            fix="export again with this version, or accept more with --max-difference",
        )


def _way(path: Path, asked: EngineChoice) -> Opening:
    """How one of the two models is opened; what belongs to the other's backend is left out."""
    name = backend_of(path, asked.backend, asked.telling())
    others = [option for option in _SHARED_OPTIONS if name not in OWNERS[option].backends]
    return asked.without(*others).opening(path)


def _refuse_unused(asked: EngineChoice, names: set[str]) -> None:
    """Refuse an option that neither model's backend has."""
    for option, value in asked.given().items():
        owner = OWNERS[option]
        if not names & set(owner.backends):
            raise UsageError(
                f"--{option} {value} belongs to {owner.whose}; these models run on "
                f"{' and '.join(sorted(names))}.",
                fix=f"leave --{option} out, or choose with --backend and --reference-backend",
            )


def _windows(
    audio: list[str], engine: Engine, other: Engine, limit: int | None
) -> NDArray[np.float32]:
    contract = engine.contract
    n_samples = contract.n_samples or other.contract.n_samples or N_SAMPLES
    waves = []
    for path in find_audio(audio):
        decoded = read_audio(path, sample_rate_hz=contract.sample_rate_hz, max_samples=n_samples)
        waves.append(fit_length(decoded.wave, n_samples))
        if limit is not None and len(waves) == limit:
            break
    if not waves:
        raise UsageError("There is no audio to compare on.", fix="--audio FOLDER with audio files")
    return np.stack(waves)


def _lengths(text: str | None, engine: Engine, other: Engine) -> list[int]:
    if text is not None:
        numbers = [number_or(part.strip(), "", "--lengths") for part in text.split(",")]
        return [number for number in numbers if number is not None]
    if engine.contract.n_samples is not None:
        return []
    if other.contract.n_samples is not None:
        stderr.print("the reference has a fixed length; other lengths are not compared")
        return []
    shortest = max(engine.contract.min_samples, other.contract.min_samples)
    return [shortest, *(n for n in DEFAULT_LENGTHS if n > shortest)]


def _rendered(report: ParityReport, model: str, reference: str) -> Table:
    title = Text(f"{model} against {reference}")  # no markup in file names
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_row("clips", str(report.n_clips))
    table.add_row("largest difference of a score", f"{report.max_difference:.2e}")
    table.add_row("mean difference", f"{report.mean_difference:.2e}")
    if report.rank_correlation is not None:
        table.add_row("rank correlation (Spearman)", f"{report.rank_correlation:.6f}")
    table.add_row(f"decisions flipped at {report.threshold:g}", str(report.flips))
    table.add_row("batch 1 against batches", f"{report.batch_difference:.2e}")
    for n_samples, difference in report.length_differences.items():
        table.add_row(f"largest difference at {n_samples} samples", f"{difference:.2e}")
    for name, agreement in (report.topk_agreement or {}).items():
        table.add_row(f"same nodes kept by {name}", f"{agreement:.2%}")
    if (equal := report.equal_scores) is not None:
        table.add_row("equal scores at the pooling boundary", f"{equal.n_clips} clips")
        table.add_row(
            "their difference with nodes of their own",
            f"{equal.max_difference:.2e}, {equal.flips} decisions flipped",
        )
        table.caption = Text(
            "Clips with equal scores at the pooling boundary: compared with the nodes the file kept"
        )
        table.caption_justify = "left"
    table.add_row("parity", "holds" if report.holds else "does not hold")
    return table
