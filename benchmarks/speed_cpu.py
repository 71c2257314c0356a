"""The table of the README: speed on a CPU beside what each variant does to the scores.

    python -m benchmarks.speed_cpu prepare --work DIR [--checkpoint-dir DIR]
    python -m benchmarks.speed_cpu scores --work DIR --root LA --golden DIR
    python -m benchmarks.speed_cpu speed --work DIR -o benchmarks/results/DATE-cpu.json
    python -m benchmarks.speed_cpu table benchmarks/results/DATE-cpu.json

`speed` is `aasist_deploy.bench` with two baselines that the verb cannot open: the published
structure in eager PyTorch, and a plain export of that. `scores` does not depend on what else the
machine does, `speed` does. `prepare` makes the files, but for int8: put MODEL.int8.onnx of
`aasist-deploy export --precision int8` into DIR.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer

from aasist_deploy.audio import N_SAMPLES, fit_length, read_audio
from aasist_deploy.bench import Settings, Variant, machine, measure, results_of
from aasist_deploy.bench.ratios import paired_ratio
from aasist_deploy.bench.variants import OPEN_ENGINE
from aasist_deploy.cli.common import progress_bar
from aasist_deploy.engines import open_engine
from aasist_deploy.engines.base import usable_cores
from aasist_deploy.errors import AasistDeployError
from aasist_deploy.metrics import asv_error_rates, eer, min_tdcf_2019
from aasist_deploy.metrics.rank_correlation import spearman
from aasist_deploy.scores import read_asv_scores
from aasist_deploy.trials import load_dataset
from benchmarks import baselines
from benchmarks.common import MODELS, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

app = typer.Typer(no_args_is_help=True, help=__doc__.splitlines()[0])
WorkOption = Annotated[Path, typer.Option("--work", help="Folder of the model files.")]
ModelsOption = Annotated[str, typer.Option(help="With commas.")]

ALL_MODELS: Final = ",".join(MODELS)
SCORES: Final = "scores.json"
ASV_SCORES: Final = "ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.{split}.gi.trl.scores.txt"
# Name in the table -> suffix of the file, opener, backend, precision asked of the backend.
EAGER, PLAIN = "eager PyTorch, published structure", "plain export, ONNX Runtime"
VARIANTS: Final[dict[str, tuple[str, str, str, str | None]]] = {
    EAGER: (".pth", "benchmarks.baselines:open_published", "torch", None),
    PLAIN: (".plain.onnx", "benchmarks.baselines:open_plain", "onnx", None),
    "ours, ONNX Runtime": (".onnx", OPEN_ENGINE, "onnx", None),
    "ours, OpenVINO fp32": (".onnx", OPEN_ENGINE, "openvino", "fp32"),
    "ours, OpenVINO bf16": (".onnx", OPEN_ENGINE, "openvino", "bf16"),
    "ours, OpenVINO int8": (".int8.onnx", OPEN_ENGINE, "openvino", "int8"),
    "ours, OpenVINO int8 + bf16": (".int8.onnx", OPEN_ENGINE, "openvino", "int8+bf16"),
    "ours, ONNX Runtime int8": (".int8.onnx", OPEN_ENGINE, "onnx", None),
}


@app.command()
def prepare(
    work: WorkOption,
    checkpoint_dir: Annotated[
        Path | None,
        typer.Option(exists=True, help="Holds MODEL.pth, and MODEL.conf; pulled if not given."),
    ] = None,
    models: ModelsOption = ALL_MODELS,
) -> None:
    """Export what is compared."""
    from aasist_deploy.export import export_onnx
    from aasist_deploy.models import load_checkpoint
    from aasist_deploy.published import pull
    from benchmarks.published_structure import plain_onnx, published_or_trained

    work.mkdir(parents=True, exist_ok=True)
    for name in models.split(","):
        path = checkpoint_dir / f"{name}.pth" if checkpoint_dir else pull(name.lower())
        for source in (path, path.with_suffix(".conf")):
            if source.is_file():
                (work / f"{name}{source.suffix}").write_bytes(source.read_bytes())
        checkpoint = load_checkpoint(path)
        export_onnx(checkpoint, work / f"{name}.onnx")
        plain_onnx(published_or_trained(checkpoint.model), work / f"{name}.plain.onnx")


@app.command()
def scores(
    work: WorkOption,
    root: Annotated[Path, typer.Option(exists=True, help="Folder of ASVspoof 2019 LA.")],
    golden: Annotated[
        Path, typer.Option(exists=True, help="Holds MODEL.LA_mini.npz, logits of published code.")
    ],
    models: ModelsOption = ALL_MODELS,
    splits: str = "dev,eval",
    only: Annotated[str | None, typer.Option(help="This variant alone.")] = None,
) -> None:
    """Score all clips with every variant, and compare with the published code's logits.

    Stopped and called again, it goes on with the variants that are missing.
    """
    held = work / SCORES
    earlier = json.loads(held.read_text())["rows"] if held.is_file() else []
    report = Report(
        held, ("aasist-deploy", "torch", "onnxruntime", "openvino", "numpy"), splits=splits
    )
    for row in earlier:  # what was scored before is kept, where the file is still the same
        if sha256(work / row["file"]) == row["sha256"]:
            report.row(**row)
    done = {(row["model"], row["variant"]) for row in report.content["rows"]}
    trials = [t for s in splits.split(",") for t in load_dataset("asvspoof2019-la", root, s).trials]
    waves = [fit_length(read_audio(t.path, max_samples=N_SAMPLES).wave) for t in trials]
    bona_fide = np.array([t.label == "bonafide" for t in trials])
    split_of = np.array([s for s in splits.split(",") for _ in _trials(root, s)])
    for model in models.split(","):
        known = np.load(golden / f"{model}.LA_mini.npz")
        order = {str(utterance): i for i, utterance in enumerate(known["utt"])}
        reference = known["logits"][[order[t.utterance] for t in trials], 1].astype(np.float64)
        for variant in _variants(work, model, usable_cores(), 1):
            if only not in (None, variant.label) or (model, variant.label) in done:
                continue
            if variant.label == EAGER:  # the reference itself
                found = reference
            else:
                found = _scored(variant, waves, f"{model}, {variant.label}")
            report.row(
                model=model,
                variant=variant.label,
                file=variant.path.name,
                sha256=sha256(variant.path),
                clips=len(found),
                **_changes(found, reference, bona_fide, split_of, root),
            )


@app.command()
def speed(
    work: WorkOption,
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON report.")],
    models: ModelsOption = ALL_MODELS,
    batches: str = "1,8",
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    threads: Annotated[int | None, typer.Option(help="By default all usable cores.")] = None,
) -> None:
    """Time every variant, model by model, each model in one interleaved run."""
    settings = Settings(
        batches=tuple(int(b) for b in batches.split(",")),
        threads=threads or usable_cores(),
        rounds=rounds,
    )
    report = Report(
        output,
        ("aasist-deploy", "torch", "onnx", "onnxruntime", "openvino", "numpy"),
        threads=settings.threads,
    )
    held = work / SCORES
    report.content["scores"] = json.loads(held.read_text())["rows"] if held.is_file() else []
    for model in models.split(","):
        variants = _variants(work, model, settings.threads, max(settings.batches))
        here = machine()
        with progress_bar(f"{model}: starting", None) as progress:
            (task,) = progress.task_ids
            run = measure(
                variants,
                settings,
                on_step=lambda step: progress.update(task, description=f"{model}: {step}"),  # noqa: B023
            )
        results = results_of(run, settings, machine=here, command="", baseline=EAGER)
        _add_ratio_to_plain(results)
        report.content["rows"].append({"model": model, "bench": results})
        report.save()
    typer.echo(_table(json.loads(output.read_text())))


@app.command()
def table(report: Annotated[Path, typer.Argument(exists=True)]) -> None:
    """Print the table of the README from a report of `speed`."""
    typer.echo(_table(json.loads(report.read_text())))


def sha256(path: Path) -> str:
    """Of a file, or nothing where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _variants(work: Path, model: str, threads: int, max_batch: int) -> list[Variant]:
    """The variants whose files are there."""
    found = []
    for label, (suffix, opener, backend, precision) in VARIANTS.items():
        path = work / f"{model}{suffix}"
        if not path.is_file():
            continue
        options: dict[str, Any] = {"threads": threads, "max_batch": max_batch}
        if precision is not None:
            options["precision"] = precision
        if suffix == ".int8.onnx" and backend == "onnx" and not _opens(path, backend, options):
            continue
        found.append(
            Variant(
                label=label,
                path=path,
                backend=backend,
                precision=precision,
                options=options,
                opener=opener,
            )
        )
    return found


def _opens(path: Path, backend: str, options: dict[str, Any]) -> bool:
    """Whether this backend takes the file; said when it does not."""
    try:
        open_engine(path, backend, **options).close()
    except AasistDeployError as error:
        typer.echo(f"left out: {path.name} on {backend}: {error}", err=True)
        return False
    return True


def _scored(variant: Variant, waves: list[NDArray[np.float32]], title: str) -> NDArray[np.float64]:
    if variant.opener == OPEN_ENGINE:
        engine = open_engine(variant.path, variant.backend, **variant.options)
    else:
        function = getattr(baselines, variant.opener.split(":")[1])
        engine = function(variant.path, backend=variant.backend, **variant.options)
    with engine, progress_bar(title, len(waves)) as progress:
        found = []
        for wave in waves:
            found.append(engine.score(wave[None])[0])
            progress.advance(progress.task_ids[0])
    return np.array(found, np.float64)


def _trials(root: Path, split: str) -> Iterator[Any]:
    yield from load_dataset("asvspoof2019-la", root, split).trials


def _changes(
    found: NDArray[np.float64],
    reference: NDArray[np.float64],
    bona_fide: NDArray[np.bool_],
    split_of: NDArray[np.str_],
    root: Path,
) -> dict[str, Any]:
    """Largest difference of a score over all clips, and by split EER, min t-DCF and flips."""
    result: dict[str, Any] = {
        "max_difference": float(np.abs(found - reference).max()),
        "mean_difference": float(np.abs(found - reference).mean()),
        "rank_correlation": spearman(found, reference),
    }
    for split in dict.fromkeys(split_of.tolist()):
        here = split_of == split
        truth = bona_fide[here]
        ours, theirs = found[here], reference[here]
        published = eer(theirs[truth], theirs[~truth])
        result[split] = {
            "eer_percent": 100 * eer(ours[truth], ours[~truth]).eer,
            "eer_percent_of_published": 100 * published.eer,
            "min_tdcf": _min_tdcf(ours, truth, root, split),
            "min_tdcf_of_published": _min_tdcf(theirs, truth, root, split),
            "flips": int(((ours >= published.threshold) != (theirs >= published.threshold)).sum()),
            "clips": int(here.sum()),
        }
    return result


def _min_tdcf(
    values: NDArray[np.float64], bona_fide: NDArray[np.bool_], root: Path, split: str
) -> float | None:
    """In the form of 2019, with the ASV scores of the split where the folder has them."""
    path = root / ASV_SCORES.format(split=split)
    if not path.is_file():
        return None
    rates = asv_error_rates(read_asv_scores(path))
    return float(min_tdcf_2019(values[bona_fide], values[~bona_fide], rates).value)


def _add_ratio_to_plain(results: dict[str, Any]) -> None:
    """Give each row its ratio to the plain export, round by round."""
    plain = {r["batch"]: r["rounds_s"] for r in results["rows"] if r["label"] == PLAIN}
    for row in results["rows"]:
        ratio = paired_ratio(plain[row["batch"]], row["rounds_s"])
        row["ratio_to_plain"] = {"median": ratio.median, "low": ratio.low, "high": ratio.high}


def _table(report: dict[str, Any]) -> str:
    """Markdown: a table for each model."""
    lines = []
    drift = {(row["model"], row["variant"]): row for row in report["scores"]}
    for part in report["rows"]:
        rows = {(row["label"], row["batch"]): row for row in part["bench"]["rows"]}
        batches = sorted({batch for _, batch in rows})
        heads = [part["model"]]
        heads += [f"batch {b}: ms (times as fast as eager, as plain)" for b in batches]
        heads += ["of matrix product", "EER % dev, eval", "largest score difference"]
        lines += ["", f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
        for label in VARIANTS:
            if (label, batches[0]) not in rows:
                continue
            cells = [label]
            for batch in batches:
                row = rows[label, batch]
                times = f"{row['ratio']['median']:.2f}, {row['ratio_to_plain']['median']:.2f}"
                cells.append(f"{row['median_ms']:.0f} ({times})")
            fraction = rows[label, batches[0]]["fraction_of_matrix_product"]
            cells.append("-" if fraction is None else f"{100 * fraction:.0f} %")
            known = drift.get((part["model"], label))
            rates = [known[s]["eer_percent"] for s in ("dev", "eval")] if known else []
            cells.append(", ".join(f"{rate:.2f}" for rate in rates) or "-")
            cells.append(f"{known['max_difference']:.1e}" if known else "-")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    app()
