"""Sliding windows of minutes of real speech, every hop, against each window alone.

    python -m benchmarks.stream_exact -o OUT.json --audio LA_mini/.../flac --checkpoint AASIST.pth \
        --stream aasist.stream.onnx --whole aasist.onnx --backends onnx,openvino,openvino-bf16,torch

Clips are put one after another. Windows alone are scored once, at every frame, by the backend
itself; streams are then run at each hop, with samples pushed in chunks of another size each time,
from one sample to ten seconds. Clips shorter than a window are streams of their own, against the
file's score.

It works in pieces: with `--limit-s` it stops after that time, and the same command goes on where
the report ends. Scores of windows alone are kept in `--scratch` meanwhile.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from aasist_deploy import open_engine
from aasist_deploy.audio import find_audio, fit_length, read_audio
from aasist_deploy.streaming import StreamScorer, WindowScore, open_stream_model
from benchmarks.common import Report

if TYPE_CHECKING:
    from aasist_deploy.engines import Engine
    from aasist_deploy.engines.parts import StreamStep

Samples = NDArray[np.float32]
RANDOM: Final = 0  # chunks of any size from one sample to ten seconds
CHUNKS: Final = (1_600, 160_000, 2_187, RANDOM, 31, 48_000, 64_600, 7, 1)
SAVE_EVERY: Final = 32  # windows alone


class OutOfTimeError(Exception):
    """The piece is over."""


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="Added to where it exists.")],
    audio: Annotated[Path, typer.Option(exists=True, help="Folder of clips.")],
    checkpoint: Annotated[Path, typer.Option(exists=True)],
    stream: Annotated[Path, typer.Option(exists=True, help="Made with export --stream.")],
    whole: Annotated[Path, typer.Option(exists=True, help="Made with export.")],
    scratch: Annotated[Path, typer.Option(help="Folder for scores of windows alone.")],
    backends: str = "onnx,openvino,openvino-bf16,torch",
    hops: Annotated[
        str, typer.Option(help="In frames; or a number of random ones: '5 random'.")
    ] = ",".join(map(str, range(1, 30))),
    seconds: float = 120.0,
    limit_s: float = 1e9,
    threads: int = 2,
) -> None:
    """Measure, print, write one JSON report."""
    end = time.monotonic() + limit_s
    clips = clips_of(audio, round(seconds * 16_000))
    wave = np.concatenate(clips)[: round(seconds * 16_000)]
    report = _report(output)
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        for name in backends.split(","):
            backend, _, precision = name.partition("-")
            options: dict[str, Any] = {"threads": threads}
            if precision:
                options["precision"] = precision
            is_torch = backend == "torch"
            with (
                open_engine(checkpoint if is_torch else whole, backend, **options) as engine,
                open_stream_model(checkpoint if is_torch else stream, backend, **options) as model,
            ):
                facts = {"model": checkpoint.stem, "backend": name}
                kept = scratch / f"{checkpoint.stem}.{name}.{len(wave)}.npy"
                alone = windows_alone(engine, model, wave, kept, end)
                reference = scratch / f"{checkpoint.stem}.onnx.{len(wave)}.npy"
                fp32 = np.load(reference) if precision and reference.is_file() else None
                for hop in hops_of(hops):
                    if _is_there(report, **facts, hop_frames=hop):
                        continue
                    _check_time(end)
                    measure_hop(report, facts, model, wave, hop, alone, fp32)
                if not _is_there(report, **facts, short_clips=True):
                    _check_time(end)
                    measure_short(report, facts, engine, model, clips)
    except OutOfTimeError:
        print("time is over; the same command goes on")
        raise typer.Exit(75) from None


def hops_of(text: str) -> list[int]:
    """Hops in frames, given or drawn."""
    if text.endswith("random"):
        drawn = np.random.default_rng(0).permutation(np.arange(1, 30))[
            : int(text.split(maxsplit=1)[0])
        ]
        return sorted(drawn.tolist())
    return [int(one) for one in text.split(",")]


def windows_alone(
    engine: "Engine", model: "StreamStep", wave: Samples, kept: Path, end: float
) -> Samples:
    """The score of the window at each frame, by a pass of its own; kept as far as it came."""
    frame, window = model.layout.frame_samples, model.layout.window_samples
    starts = range(0, len(wave) - window + 1, frame)
    scores = np.load(kept).tolist() if kept.is_file() else []
    while len(scores) < len(starts):
        _check_time(end)
        for start in starts[len(scores) : len(scores) + SAVE_EVERY]:
            scores.append(float(engine.score(wave[None, start : start + window])[0]))
        np.save(kept, np.array(scores, np.float32))
    return np.array(scores, np.float32)


def measure_hop(
    report: Report,
    facts: dict[str, Any],
    model: "StreamStep",
    wave: Samples,
    hop: int,
    alone: Samples,
    fp32: Samples | None,
) -> None:
    """One stream over all of the speech."""
    chunk = CHUNKS[hop % len(CHUNKS)]
    scorer = StreamScorer(model, hop)
    found: list[WindowScore] = []
    for piece in pieces(wave, chunk, seed=hop):
        found += scorer.push(piece)
    assert scorer.finish() == []
    wanted = alone[::hop]
    if len(found) != len(wanted):
        report.error(f"{facts} hop {hop}", f"{len(found)} windows, not {len(wanted)}")
        return
    scores = np.array([w.score for w in found], np.float32)
    gap = np.abs(scores - wanted)
    row = {
        **facts,
        "seconds": len(wave) / 16_000,
        "hop_frames": hop,
        "chunk": chunk or "random, 1 to 160000",
        "windows": len(scores),
        "max_difference": float(gap.max()),
        "mean_difference": float(gap.mean()),
        "first_window": float(gap[0]),
        "last_window": float(gap[-1]),
        "lowest_score": float(wanted.min()),
        "highest_score": float(wanted.max()),
    }
    if fp32 is not None and len(fp32) == len(alone):
        for key, given in (("stream", scores), ("alone", wanted)):
            row[f"max_of_{key}_from_fp32"] = float(np.abs(given - fp32[::hop]).max())
            row[f"mean_of_{key}_from_fp32"] = float(np.abs(given - fp32[::hop]).mean())
    report.row(**row)


def measure_short(
    report: Report,
    facts: dict[str, Any],
    engine: "Engine",
    model: "StreamStep",
    clips: list[Samples],
) -> None:
    """Every clip shorter than a window as a stream of its own."""
    window = model.layout.window_samples
    short = [clip for clip in clips if len(clip) < window]
    gaps = []
    for number, clip in enumerate(short):
        scorer = StreamScorer(model, 1 + number % 29)
        for piece in pieces(clip, CHUNKS[number % len(CHUNKS)], seed=number):
            assert scorer.push(piece) == []
        (found,) = scorer.finish()
        assert found.end_s == len(clip) / 16_000
        gaps.append(abs(found.score - float(engine.score(fit_length(clip, window)[None])[0])))
    report.row(
        **facts,
        short_clips=True,
        clips=len(short),
        shortest_s=min(map(len, short), default=0) / 16_000,
        max_difference=max(gaps, default=0.0),
    )


def pieces(wave: Samples, chunk: int, seed: int) -> Iterator[Samples]:
    """The wave in chunks of one size, or of random ones."""
    rng = np.random.default_rng(seed)
    start = 0
    while start < len(wave):
        size = chunk or int(np.exp(rng.uniform(0, np.log(160_000))))
        yield wave[start : start + size]
        start += size


def clips_of(folder: Path, n_samples: int) -> list[Samples]:
    """Clips of a folder, as many as make the length."""
    parts: list[Samples] = []
    for path in find_audio([folder]):
        parts.append(read_audio(path).wave)
        if sum(map(len, parts)) >= n_samples:
            return parts
    raise typer.BadParameter(f"{folder} holds less than {n_samples / 16_000} s")


def _report(output: Path) -> Report:
    held = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else None
    report = Report(
        output, ("aasist-deploy", "onnxruntime", "openvino", "torch", "numpy"), chunks=CHUNKS
    )
    commands = [report.content.pop("command")]
    if held is not None:
        report.content["rows"], report.content["errors"] = held["rows"], held["errors"]
        commands = list(dict.fromkeys([*held["commands"], *commands]))
    report.fact("commands", commands)
    return report


def _is_there(report: Report, **facts: object) -> bool:
    return any(facts.items() <= row.items() for row in report.content["rows"])


def _check_time(end: float) -> None:
    if time.monotonic() > end:
        raise OutOfTimeError


if __name__ == "__main__":
    typer.run(main)
