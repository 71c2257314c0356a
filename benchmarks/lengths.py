"""What published weights do on lengths that they were not trained on.

    python -m benchmarks.lengths -o benchmarks/results/DATE-lengths.json --root LA_mini AASIST.pth

Every clip of dev and eval at several lengths, through the variable-length export: tiled or cut to
the length, cut only (shorter clips as they are), and cut and then tiled to the window that the
weights were trained on, as short files always are.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.export import ExportOptions, export_onnx
from aasist_deploy.metrics import eer
from aasist_deploy.models import load_checkpoint
from aasist_deploy.trials import load_dataset
from benchmarks.common import Report

if TYPE_CHECKING:
    from collections.abc import Callable

Wave = NDArray[np.float32]
WAYS: Final = ("tiled", "as is", "tiled to a window")
LENGTHS: Final = (8_000, 16_000, 32_000, 64_600, 128_000)


def main(
    checkpoints: list[Path],
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON report.")],
    root: Annotated[Path, typer.Option(exists=True, help="A folder like ASVspoof 2019's LA.")],
    threads: int = 2,
    asked: Annotated[str, typer.Option("--ways", help="Of these.")] = ",".join(WAYS),
    lengths: Annotated[str, typer.Option(help="In samples.")] = ",".join(map(str, LENGTHS)),
) -> None:
    """Measure, print, write one JSON report."""
    waves, bonafide = clips(root)
    report = Report(
        output,
        ("aasist-deploy", "onnxruntime", "numpy"),
        clips=len(waves),
        bonafide=int(bonafide.sum()),
        shorter_than_a_window=sum(len(w) < 64_600 for w in waves),
    )
    with tempfile.TemporaryDirectory() as folder:
        for checkpoint in checkpoints:
            path = checkpoint
            if checkpoint.suffix != ".onnx":  # else exported before, with --samples variable
                path = Path(folder, f"{checkpoint.stem}.onnx")
                export_onnx(load_checkpoint(checkpoint), path, ExportOptions(n_samples=None))
            with open_engine(path, "onnx", threads=threads) as engine:
                least = engine.contract.min_samples

                def cut(wave: Wave, n_samples: int, least: int = least) -> Wave:
                    return fit_length(wave, max(min(n_samples, len(wave)), least))

                every: dict[str, Callable[[Wave, int], Wave]] = {
                    "tiled": fit_length,
                    "as is": cut,
                    "tiled to a window": lambda wave, n_samples: fit_length(wave[:n_samples]),
                }
                ways = {way: every[way] for way in asked.split(",")}
                for n_samples in map(int, lengths.split(",")):
                    for way, fitted in ways.items():
                        given = [fitted(wave, n_samples) for wave in waves]
                        scores = np.array([float(engine.score(w[None])[0]) for w in given])
                        found = eer(scores[bonafide], scores[~bonafide])
                        report.row(
                            model=checkpoint.stem,
                            n_samples=n_samples,
                            way=way,
                            eer=found.eer,
                            threshold=found.threshold,
                            median_bonafide=float(np.median(scores[bonafide])),
                            median_spoof=float(np.median(scores[~bonafide])),
                            shorter=sum(len(w) < n_samples for w in waves),
                        )


def clips(root: Path) -> tuple[list[Wave], NDArray[np.bool_]]:
    """The waves of dev and eval, and which are bona fide."""
    waves, labels = [], []
    for split in ("dev", "eval"):
        for trial in load_dataset("asvspoof2019-la", root, split).trials:
            waves.append(read_audio(trial.path).wave)
            labels.append(trial.label == "bonafide")
    return waves, np.array(labels)


if __name__ == "__main__":
    typer.run(main)
