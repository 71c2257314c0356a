"""Prepare what the GPU benchmarks read: clips, references, models, Python packages, in archives.

    python -m benchmarks.gpu.prepare .gpu --shared ../shared

Writes OUT/bench, and OUT/bench.tar.xz and OUT/audio.tar, which `loads.py` cuts into loads. The
clips are ASVspoof 2019 LA utterances (ODC-By 1.0), with the logits that the published code gives.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import onnx
import onnxruntime
import typer
from onnx import numpy_helper

from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.contract import read_contract
from aasist_deploy.export import ExportOptions, export_onnx
from aasist_deploy.export.precision import lower_precision
from aasist_deploy.export.precision.search import given_islands, group_of
from aasist_deploy.models import load_checkpoint
from aasist_deploy.onnx_file import parse_onnx
from aasist_deploy.trials import Trial, load_dataset
from benchmarks.common import MODELS
from benchmarks.gpu import tie_cases
from benchmarks.gpu.unpack_clips import to_int16, unpack_clips
from benchmarks.published_structure import as_published, plain_onnx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WHEELS: Final = ("soundfile", "soxr", "cffi", "pycparser", "platformdirs")
PYCUDA_NEEDS: Final = ("mako", "pytools", "siphash24")
PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
FORMS: Final = ("topk", "rank")
# Layers that the search of the export moved to fp32 before the gate held on the 412 clips, emulated
# on a CPU: docs/precision.md.
GATED: Final = {"AASIST": ("front_end",), "AASIST-L": ("front_end", "GAT_layer_S")}
IR_OF_OPSET_17: Final = 8
REDUCTIONS_CHANGED_IN_18: Final = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write; kept out of version control.")],
    shared: Annotated[Path, typer.Option(help="Holds data/LA_mini, golden and models.")] = Path(
        "../shared"
    ),
    wheels: Annotated[bool, typer.Option(help="Also download the wheels.")] = True,
) -> None:
    """Write the archives and check every part of them."""
    folder, corpus = out / "bench", shared / "data" / "LA_mini"
    folder.mkdir(parents=True, exist_ok=True)
    trials = [
        trial
        for split in ("train", "dev", "eval")
        for trial in load_dataset("asvspoof2019-la", corpus, split).trials
    ]
    write_clips(trials, corpus, shared / "golden", folder)
    waves = np.load(unpack_clips(folder, corpus))[:3].astype(np.float32) / 32768
    (folder / "waves.npy").unlink()  # made again where it is needed
    (folder / "models").mkdir(exist_ok=True)
    for name in MODELS:
        copy = folder / "models" / f"{name}.pth"
        shutil.copyfile(shared / "models" / "clovaai" / f"{name}.pth", copy)
        write_graphs(folder, name, waves)
    write_ties(folder)
    if wheels:
        unpack_wheels(folder / "site", shared / "gpu" / "wheels")
    pack(folder, out / "bench.tar.xz")
    pack(corpus.parent, out / "audio.tar", corpus.name)  # FLAC files do not get smaller


def write_clips(trials: list[Trial], corpus: Path, golden: Path, folder: Path) -> None:
    """Write clips.npz: which files, what they decode to, and their published logits."""
    references = {name: np.load(golden / f"{name}.LA_mini.npz") for name in MODELS}
    rows = {name: {u: i for i, u in enumerate(f["utt"])} for name, f in references.items()}
    windows = np.stack([to_int16(fit_length(read_audio(trial.path).wave)) for trial in trials])
    logits = {
        f"logits.{name}": f["logits"][[rows[name][t.utterance] for t in trials]]
        for name, f in references.items()
    }
    np.savez_compressed(
        folder / "clips.npz",
        utterance=np.array([t.utterance for t in trials]),
        path=np.array([t.path.resolve().relative_to(corpus.resolve()).as_posix() for t in trials]),
        bonafide=np.array([t.label == "bonafide" for t in trials]),
        sha256=hashlib.sha256(windows.tobytes()).hexdigest(),
        **logits,
    )
    print(f"{len(trials)} clips")


def write_graphs(out: Path, name: str, waves: NDArray[np.float32]) -> None:
    """Our exports in both forms and precisions, each also at opset 17, and the plain export."""
    checkpoint = load_checkpoint(out / "models" / f"{name}.pth")
    plain = plain_onnx(as_published(checkpoint.model), out / "onnx" / f"{name}.plain.onnx")
    logits = {plain: logits_of(plain, waves)}
    for form in FORMS:
        path = out / "onnx" / f"{name}.{form}.onnx"
        made = export_onnx(checkpoint, path, ExportOptions(topk=form))
        print(f"{path.name}: {made.n_nodes} nodes, {made.max_difference:.1e} from eager")
        logits |= {p: logits_of(p, waves) for p in (path, write_opset_17(path))}
        write_opset_17(write_fp16(path, "fp16"))
        write_fp16(path, "fp16-gated", GATED[name])
    for path, found in logits.items():
        difference = float(np.abs(found - logits[plain]).max())
        print(f"{path.relative_to(out)}: {difference:.1e} from the plain export")
        if not difference < 1e-4:
            raise SystemExit(f"{path} gives other logits")


def write_fp16(path: Path, suffix: str, layers: Sequence[str] = ()) -> Path:
    """The same graph in fp16 with the islands of the rules, and these layers; its contract says so.

    Whether its scores hold is what the GPU is asked.
    """
    contract, _ = read_contract(path)
    model = onnx.load(path)
    extra = [node.name for node in model.graph.node if group_of(node.name) in layers]
    islands = given_islands(model, "fp16", extra)
    lowered = lower_precision(model, "fp16", islands)
    target = path.with_suffix(f".{suffix}.onnx")
    graph = parse_onnx(lowered.SerializeToString(), target).graph_sha256
    about = replace(contract, precision="fp16", fp32_nodes=tuple(islands), graph_sha256=graph)
    onnx.helper.set_model_props(lowered, about.to_metadata())
    onnx.save(lowered, target)
    read_contract(target)
    return target


def write_opset_17(path: Path) -> Path:
    """The same graph for TensorRT 8.5; its contract, whose hash would not fit, lies beside it."""
    older = path.parent.parent / "onnx17" / path.name
    older.parent.mkdir(exist_ok=True)
    contract, _ = read_contract(path)
    model = at_opset_17(onnx.load(path))
    del model.metadata_props[:]
    onnx.save(model, older)
    text = json.dumps(contract.to_dict())
    older.with_suffix(".contract.json").write_text(text, encoding="utf-8")
    return older


def write_ties(out: Path) -> None:
    """Graph pooling alone, for scores that tie, for TensorRT of today and for 8.5."""
    (out / "ties17").mkdir(exist_ok=True)
    for path in tie_cases.write_cases(out / "ties18"):
        onnx.save(at_opset_17(onnx.load(path)), out / "ties17" / path.name)


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


def unpack_wheels(site: Path, built: Path) -> None:
    """What aasist_deploy imports and the GPU machine lacks, for its Python 3.12.

    pycuda exists as source alone; the wheel built from it is in the folder `built`.
    """
    shutil.rmtree(site, ignore_errors=True)
    folder = site.with_name("wheels")
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"),
            *("--python-version", "3.12", "--implementation", "cp", *platforms),
            *("-d", str(folder), *WHEELS, *PYCUDA_NEEDS),
        ],
        check=True,
    )
    for wheel in [*folder.glob("*.whl"), *built.glob("pycuda-*-cp312-*.whl")]:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    shutil.rmtree(folder)


def pack(folder: Path, target: Path, *members: str) -> None:
    """An archive of what a folder holds: compressed when the name says so."""
    flags = "--sort=name --mtime=@0 --owner=0 --group=0 --mode=u+w"
    names = " ".join(members) or "."
    compress = "| xz -T1 --lzma2=preset=9,dict=64MiB" if target.suffix == ".xz" else ""
    command = f"set -o pipefail; tar {flags} -C '{folder}' -cf - {names} {compress} > '{target}'"
    subprocess.run(["bash", "-c", command], check=True)
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    typer.run(main)
