"""Prepare the folder that the GPU benchmarks read: clips, references, models, wheels.

    PYTHONPATH=. python benchmarks/gpu/prepare.py .gpu/bench --shared ../shared

The clips are ASVspoof 2019 LA utterances (ODC-By 1.0) with the logits that the published code
gives for them. They travel as one lossless FLAC file of the first 64,600 samples of each;
`unpack_clips.py` makes the tiled windows from it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import onnx
import onnxruntime
import soundfile
import typer
from onnx import numpy_helper

from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.export import ExportOptions, export_onnx
from aasist_deploy.models import load_checkpoint
from aasist_deploy.trials import Trial, load_dataset
from benchmarks.common import MODELS, N_SAMPLES
from benchmarks.gpu.unpack_clips import unpack_clips
from benchmarks.published_structure import as_published, plain_onnx

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHEELS: Final = ("soundfile", "soxr", "cffi", "pycparser", "platformdirs")
PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
FORMS: Final = ("topk", "rank")
IR_OF_OPSET_17: Final = 8
REDUCTIONS_CHANGED_IN_18: Final = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write; kept out of version control.")],
    shared: Annotated[Path, typer.Option(help="Holds data/LA_mini, golden and models.")] = Path(
        "../shared"
    ),
    wheels: Annotated[bool, typer.Option(help="Also download the wheels.")] = True,
) -> None:
    """Write OUT and check every part of it."""
    out.mkdir(parents=True, exist_ok=True)
    trials = [
        trial
        for split in ("train", "dev", "eval")
        for trial in load_dataset("asvspoof2019-la", shared / "data" / "LA_mini", split).trials
    ]
    write_clips(trials, shared / "golden", out)
    (out / "models").mkdir(exist_ok=True)
    waves = np.load(out / "waves.npy")[:3].astype(np.float32) / 32768
    for name in MODELS:
        shutil.copyfile(
            shared / "models" / "clovaai" / f"{name}.pth", out / "models" / f"{name}.pth"
        )
        (out / "models" / f"{name}.pth").chmod(0o644)
        write_graphs(out, name, waves)
    (out / "waves.npy").unlink()  # made again where it is needed
    if wheels:
        download_wheels(out / "wheels")
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {len(trials)} clips, {size / 2**20:.1f} MiB")


def write_clips(trials: list[Trial], golden: Path, out: Path) -> None:
    """Write waves.flac and clips.npz, and check that unpacking gives back every window exactly."""
    references = {name: np.load(golden / f"{name}.LA_mini.npz") for name in MODELS}
    rows = {name: {u: i for i, u in enumerate(f["utt"])} for name, f in references.items()}
    waves = [read_audio(trial.path).wave[:N_SAMPLES] for trial in trials]
    pcm = [np.rint(wave * 32768).astype(np.int16) for wave in waves]
    soundfile.write(
        out / "waves.flac", np.concatenate(pcm), 16_000, subtype="PCM_16", compression_level=1.0
    )
    logits = {
        f"logits.{name}": f["logits"][[rows[name][t.utterance] for t in trials]]
        for name, f in references.items()
    }
    np.savez_compressed(
        out / "clips.npz",
        utterance=np.array([t.utterance for t in trials]),
        bonafide=np.array([t.label == "bonafide" for t in trials]),
        n_samples=np.array([len(w) for w in pcm]),
        **logits,
    )
    windows = np.load(unpack_clips(out))
    for wave, window in zip(waves, windows, strict=True):
        if not np.array_equal(fit_length(wave), window.astype(np.float32) / np.float32(32768)):
            raise SystemExit("int16 does not give back the waves exactly")


def write_graphs(out: Path, name: str, waves: NDArray[np.float32]) -> None:
    """Our two exports, each also at opset 17, and the plain export of the published structure."""
    checkpoint = load_checkpoint(out / "models" / f"{name}.pth")
    plain = plain_onnx(as_published(checkpoint.model), out / "onnx" / f"{name}.plain.onnx")
    logits = {plain: logits_of(plain, waves)}
    for form in FORMS:
        path = out / "onnx" / f"{name}.{form}.onnx"
        made = export_onnx(checkpoint, path, ExportOptions(topk=form))
        older = out / "onnx17" / path.name
        older.parent.mkdir(exist_ok=True)
        onnx.save(at_opset_17(onnx.load(path)), older)
        logits |= {p: logits_of(p, waves) for p in (path, older)}
        print(f"{path.name}: {made.n_nodes} nodes, {made.max_difference:.1e} from eager")
    for path, found in logits.items():
        difference = float(np.abs(found - logits[plain]).max())
        print(f"{path.relative_to(out)}: {difference:.1e} from the plain export")
        if not difference < 1e-4:
            raise SystemExit(f"{path} gives other logits")


def at_opset_17(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph for readers of opset 17: there, reductions take their axes as an attribute.

    `onnx.version_converter` refuses it (`noop_with_empty_axes`), and nothing else in these graphs
    changed between the two.
    """
    constants = {i.name: i for i in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in REDUCTIONS_CHANGED_IN_18:
            continue
        keep = [a for a in node.attribute if a.name != "noop_with_empty_axes"]
        axes: Any = numpy_helper.to_array(constants[node.input[1]])
        del node.attribute[:], node.input[1:]
        node.attribute.extend([*keep, onnx.helper.make_attribute("axes", axes.tolist())])
    model.opset_import[0].version = 17
    model.ir_version = IR_OF_OPSET_17
    onnx.checker.check_model(model, full_check=True)
    return model


def logits_of(path: Path, waves: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits through ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(["logits"], {"wave": waves})[0]
    return found


def download_wheels(folder: Path) -> None:
    """Wheels for Python 3.12 of what aasist_deploy imports and the GPU machine lacks."""
    shutil.rmtree(folder, ignore_errors=True)
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"),
            *("--python-version", "3.12", "--implementation", "cp", *platforms),
            *("-d", str(folder), *WHEELS),
        ],
        check=True,
    )


if __name__ == "__main__":
    typer.run(main)
