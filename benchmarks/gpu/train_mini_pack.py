"""Put together what `train_mini.sh` needs on a machine that reaches nothing: clips and wheels.

    python -m benchmarks.gpu.train_mini_pack .gpu/train --clips --shared ../shared

Writes OUT and, of the same content, OUT.tar. The clips are the train and dev splits of LA_mini
(ASVspoof 2019 LA, ODC-By 1.0), in the layout of the corpus. There is no eval split among them:
nothing can choose on it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Annotated, Final

import typer

# Of what training imports, and a machine with PyTorch and typer may lack.
WHEELS: Final = (
    "soundfile", "soxr", "cffi", "pycparser", "platformdirs", "tomlkit", "safetensors",
)  # fmt: skip
PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PARTS: Final = (
    "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt",
    "ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.dev.trl.txt",
    "ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.dev.gi.trl.scores.txt",
    "ASVspoof2019_LA_train",
    "ASVspoof2019_LA_dev",
)


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write; kept out of version control.")],
    shared: Annotated[Path, typer.Option(help="Holds data/LA_mini.")] = Path("../shared"),
    clips: Annotated[
        bool, typer.Option("--clips", help="Also OUT/LA; without it they are there otherwise.")
    ] = False,
) -> None:
    """Write OUT/wheels, OUT/LA if asked for, and OUT.tar."""
    corpus = shared / "data" / "LA_mini"
    shutil.rmtree(out, ignore_errors=True)
    for name in PARTS if clips else ():
        source, target = corpus / name, out / "LA" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        files = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]
        for file in files:
            place = target if file == source else target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)  # without the source's read-only mode
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"),
            *("--python-version", "3.12", "--implementation", "cp", *platforms),
            *("-d", str(out / "wheels"), *WHEELS),
        ],
        check=True,
    )
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    with tarfile.open(out.with_name(f"{out.name}.tar"), "w") as tar:
        tar.add(out, arcname=".")
    print(f"{out}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    typer.run(main)
