"""How fast files become windows: files a second and core, by decoder and by way of running it.

    python -m benchmarks.decode_speed --audio DIR -o REPORT.json

Ways of one file: `read_audio` of this package, soundfile alone (the whole file, or as much as a
window needs), PyAV alone, and miniaudio where it is installed. Their time is CPU time of one
process, so that other work on the machine disturbs little. Whether their samples are those of
`read_audio` is in the report. The same of the files as 16-bit WAV. Ways of many files: threads and
processes of the pipeline, with an engine that does nothing, in wall-clock time: the largest number
of windows a second that the pipeline can hand to an engine on this machine. Beside it the CPU time
of this process for a window: with decoding in processes that is what cannot be spread over cores.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import soundfile

from aasist_deploy.audio import read_audio
from aasist_deploy.contract import ModelContract
from aasist_deploy.engines.base import BaseEngine
from aasist_deploy.pipeline import InThreads, score_files
from aasist_deploy.pipeline.isolated import InProcesses
from benchmarks.common import N_SAMPLES, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aasist_deploy.pipeline import Decoders


class _Nothing(BaseEngine):
    """An engine that takes no time."""

    backend = "nothing"

    def __init__(self) -> None:
        contract = ModelContract(
            architecture="None",
            config={},
            sample_rate_hz=16_000,
            n_samples=N_SAMPLES,
            min_samples=N_SAMPLES,
            outputs={"score": "the first sample"},
            checkpoint_sha256="0" * 64,
        )
        super().__init__(contract, "nothing", max_batch=64)

    def _run(self, waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return {"score": waves[:, 0].copy()}

    def _close(self) -> None:
        pass


def ours(path: Path) -> NDArray[np.float32]:
    """The reader of this package."""
    return read_audio(path, max_samples=N_SAMPLES + 1).wave


def soundfile_start(path: Path) -> NDArray[np.float32]:
    """libsndfile, no more than a window."""
    return np.asarray(soundfile.read(path, frames=N_SAMPLES + 1, dtype="float32")[0])


def soundfile_whole(path: Path) -> NDArray[np.float32]:
    """libsndfile, all of the file."""
    return np.asarray(soundfile.read(path, dtype="float32")[0])


def pyav_start(path: Path) -> NDArray[np.float32]:
    """FFmpeg, no more than a window."""
    parts, n = [], 0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            parts.append(frame.to_ndarray()[0])
            n += frame.samples
            if n > N_SAMPLES:
                break
    wave = np.concatenate(parts)[: N_SAMPLES + 1]
    if wave.dtype == np.int16:
        return (wave / 32_768).astype(np.float32)
    return wave.astype(np.float32)


def miniaudio_whole(path: Path) -> NDArray[np.float32]:
    """dr_flac, all of the file."""
    miniaudio = importlib.import_module("miniaudio")
    decoded = miniaudio.flac_read_file_s16(str(path))
    wave = np.frombuffer(decoded.samples, np.int16)
    return (wave / np.float32(32_768)).astype(np.float32)


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--audio", type=Path, required=True, help="folder of FLAC, 16 kHz, mono")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="", help="what else ran on the machine")
    options = parser.parse_args()
    files = sorted(options.audio.rglob("*.flac"))
    packages = ("soundfile", "av", "miniaudio", "numpy", "soxr")
    report = Report(options.output, packages, n_files=len(files), note=options.note)
    readers: dict[str, Callable[[Path], NDArray[np.float32]]] = {
        "read_audio, as much as a window needs": ours,
        "soundfile, as much as a window needs": soundfile_start,
        "soundfile, whole file": soundfile_whole,
        "PyAV, as much as a window needs": pyav_start,
    }
    if importlib.util.find_spec("miniaudio"):
        readers["miniaudio, whole file"] = miniaudio_whole
    expected = [ours(path) for path in files]
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(options.rounds):  # in turn, so that a disturbance hits all
        for name, read in readers.items():
            start = time.process_time()
            for path in files:
                read(path)
            seconds[name].append(time.process_time() - start)
    for name, read in readers.items():
        same = all(
            np.array_equal(read(path)[: len(wave)], wave)
            for path, wave in zip(files, expected, strict=True)
        )
        rate = len(files) / float(np.median(seconds[name]))
        report.row(reader=name, files_per_second_and_core=round(rate, 1), same_samples=same)
    with tempfile.TemporaryDirectory() as folder:
        wavs = [Path(folder, f"{path.stem}.wav") for path in files]
        for path, wav in zip(files, wavs, strict=True):
            samples, rate = soundfile.read(path, dtype="int16")
            soundfile.write(wav, samples, rate)
        ours_s = []
        for _ in range(options.rounds):
            start = time.process_time()
            for wav in wavs:
                ours(wav)
            ours_s.append(time.process_time() - start)
        same = all(
            np.array_equal(ours(wav), wave) for wav, wave in zip(wavs, expected, strict=True)
        )
        rate = len(files) / float(np.median(ours_s))
        report.row(
            reader="read_audio, as much as a window needs, of WAV",
            files_per_second_and_core=round(rate, 1),
            same_samples=same,
        )
    ways: dict[str, Callable[[], Decoders]] = {
        "1 thread": InThreads,
        "2 threads": InThreads,
        "1 process": lambda: InProcesses(1),
        "2 processes": lambda: InProcesses(2),
    }
    many = files * max(1, 200 // len(files))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, make in ways.items():
            times[name].append(_pipeline_s(make(), int(name[0]), many))
    for name, pairs in times.items():
        wall, cpu = np.median(np.array(pairs), axis=0).tolist()
        report.row(
            pipeline=name,
            windows_per_second=round(len(many) / wall, 1),
            cpu_ms_per_window=round(1e3 * cpu / len(many), 3),
        )
    report.row(start_of_a_process_s=round(float(np.median([_start_s(files[0]) for _ in "123"])), 3))


def _pipeline_s(decoders: Decoders, workers: int, files: list[Path]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of this process."""
    with _Nothing() as engine:
        try:  # the first file waits for the processes to start
            list(score_files(engine, files[:8], decoders=decoders, decode_workers=workers))
            start, cpu = time.perf_counter(), time.process_time()
            for _ in score_files(engine, files, decoders=decoders, decode_workers=workers):
                pass
            return time.perf_counter() - start, time.process_time() - cpu
        finally:
            decoders.close()


def _start_s(file: Path) -> float:
    start = time.perf_counter()
    decoders = InProcesses(1)
    with _Nothing() as engine:
        list(score_files(engine, [file], decoders=decoders, decode_workers=1))
    took = time.perf_counter() - start
    decoders.close()
    return took


_Raw: Any = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
