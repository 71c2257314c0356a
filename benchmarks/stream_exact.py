"""Sliding windows of real speech, every hop from 1 to 29 frames, against each window alone.

    python -m benchmarks.stream_exact -o OUT.json --audio LA_mini/.../flac --checkpoint AASIST.pth \
        --stream aasist.stream.onnx --whole aasist.onnx --backends onnx,openvino,torch

Clips are put one after another. Windows alone are scored once, at every frame, by the backend
itself; streams are then run at each hop, with samples pushed in chunks of another size each time.
"""

from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray

from aasist_deploy import open_engine
from aasist_deploy.audio import find_audio, read_audio
from aasist_deploy.streaming import StreamScorer, open_stream_model
from benchmarks.common import Report

CHUNKS: Final = (1_600, 160_000, 2_187, 31, 48_000, 64_600, 7)


def main(
    output: Annotated[Path, typer.Option("-o", "--output")],
    audio: Annotated[Path, typer.Option(exists=True)],
    checkpoint: Annotated[Path, typer.Option(exists=True)],
    stream: Annotated[Path, typer.Option(exists=True)],
    whole: Annotated[Path, typer.Option(exists=True)],
    backends: str = "onnx,openvino,openvino-bf16,torch",
    seconds: float = 30.0,
    threads: int = 2,
) -> None:
    """Measure, print, write one JSON report."""
    wave = speech(audio, round(seconds * 16_000))
    report = Report(
        output,
        ("aasist-deploy", "onnxruntime", "openvino", "torch", "numpy"),
        model=checkpoint.stem,
        seconds=len(wave) / 16_000,
        chunks=CHUNKS,
    )
    for name in backends.split(","):
        backend, _, precision = name.partition("-")
        options = {"threads": threads, **({"precision": precision} if precision else {})}
        path = checkpoint if backend == "torch" else whole
        with open_stream_model(
            checkpoint if backend == "torch" else stream, backend, **options
        ) as model:
            frame, window = model.layout.frame_samples, model.layout.window_samples
            with open_engine(path, backend, **options) as engine:
                starts = range(0, len(wave) - window + 1, frame)
                alone = np.concatenate([engine.score(wave[None, s : s + window]) for s in starts])
            for hop in range(1, 30):
                chunk = CHUNKS[hop % len(CHUNKS)]
                scorer = StreamScorer(model, hop)
                found = []
                for start in range(0, len(wave), chunk):
                    found += scorer.push(wave[start : start + chunk])
                wanted = alone[::hop]
                scores = np.array([w.score for w in found])
                if len(scores) != len(wanted):
                    report.error(f"{name} hop {hop}", f"{len(scores)} windows, not {len(wanted)}")
                    continue
                gap = np.abs(scores - wanted)
                report.row(
                    backend=name,
                    hop_frames=hop,
                    chunk=chunk,
                    windows=len(scores),
                    max_difference=float(gap.max()),
                    mean_difference=float(gap.mean()),
                    first_window=float(gap[0]),
                    last_window=float(gap[-1]),
                    lowest_score=float(wanted.min()),
                    highest_score=float(wanted.max()),
                )


def speech(folder: Path, n_samples: int) -> NDArray[np.float32]:
    """Clips of a folder one after another, cut to a length."""
    parts: list[NDArray[np.float32]] = []
    for path in find_audio([folder]):
        parts.append(read_audio(path).wave)
        if sum(map(len, parts)) >= n_samples:
            break
    return np.concatenate(parts)[:n_samples]


if __name__ == "__main__":
    typer.run(main)
