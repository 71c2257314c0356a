"""Make the demonstration clips again from Debian packages.

    apt-get install espeak-ng flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts
    python examples/demo_clips/make_clips.py

The human recordings come out of two packages that are downloaded (200 MB), unpacked and never
installed. A package of another version than the ones in README.md may speak, and so sound,
differently. Nothing is cut, trimmed or normalised; a source at another rate is resampled to 16 kHz.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import soundfile
import soxr

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE_HZ: Final = 16_000
POCKETSPHINX: Final = "usr/share/pocketsphinx/test/data"
AUSTEN: Final = f"{POCKETSPHINX}/librivox/sense_and_sensibility_01_austen_64kb"
RUSSIAN: Final = "usr/share/festival/voices/russian/msu_ru_nsh_clunits/wav"


class Human(NamedTuple):
    """A recording inside a Debian package."""

    name: str
    speaker: str
    package: str
    path: str


class Synthetic(NamedTuple):
    """A sentence spoken by an engine; `voice` is what that engine calls the voice."""

    engine: str
    voice: str
    attack: str
    speaker: str


HUMANS: Final = (
    Human("human-librivox-0880", "librivox", "pocketsphinx-testdata", f"{AUSTEN}-0880.wav"),
    Human("human-librivox-0890", "librivox", "pocketsphinx-testdata", f"{AUSTEN}-0890.wav"),
    Human("human-librivox-0920", "librivox", "pocketsphinx-testdata", f"{AUSTEN}-0920.wav"),
    Human("human-librivox-0930", "librivox", "pocketsphinx-testdata", f"{AUSTEN}-0930.wav"),
    Human("human-cards-005", "cards", "pocketsphinx-testdata", f"{POCKETSPHINX}/cards/005.wav"),
    Human("human-goforward", "sphinx", "pocketsphinx-testdata", f"{POCKETSPHINX}/goforward.raw"),
    Human("human-numbers", "sphinx", "pocketsphinx-testdata", f"{POCKETSPHINX}/numbers.raw"),
    Human("human-something", "sphinx", "pocketsphinx-testdata", f"{POCKETSPHINX}/something.raw"),
    Human("human-ru-0045", "nsh", "festvox-ru", f"{RUSSIAN}/ru_0045.wav"),
    Human("human-ru-0079", "nsh", "festvox-ru", f"{RUSSIAN}/ru_0079.wav"),
    Human("human-ru-0308", "nsh", "festvox-ru", f"{RUSSIAN}/ru_0308.wav"),
    Human("human-ru-0683", "nsh", "festvox-ru", f"{RUSSIAN}/ru_0683.wav"),
)
VOICES: Final = (
    Synthetic("espeak-ng", "en-us", "espeak-ng", "en-us"),
    Synthetic("flite", "kal16", "flite-kal16", "kal"),
    Synthetic("flite", "awb", "flite-awb", "awb"),
    Synthetic("flite", "rms", "flite-rms", "rms"),
    Synthetic("flite", "slt", "flite-slt", "slt"),
    Synthetic("festival", "kal_diphone", "festival-kal", "kal"),
    Synthetic("festival", "ked_diphone", "festival-ked", "ked"),
    Synthetic("festival", "cmu_us_slt_arctic_hts", "festival-slt-hts", "slt"),
)
# Two for each voice, in the order of VOICES; written for this folder.
SENTENCES: Final = (
    "The kettle is on the stove, and the tea is in the blue tin.",
    "Please leave the parcel behind the green gate.",
    "The last train to the harbour leaves at half past nine.",
    "My sister painted the kitchen door yellow in the spring.",
    "We walked along the river until the rain began.",
    "There are seven apples left in the wooden bowl.",
    "The library closes early on the first Monday of the month.",
    "He folded the map and put it back in his coat.",
    "Turn left at the bakery and follow the old stone wall.",
    "The garden looks better after two days of sunshine.",
    "She keeps a small notebook for the names of birds.",
    "Our neighbours are mending the roof before the winter.",
    "The bus was late, so we shared a taxi to the museum.",
    "Could you read the second page a little more slowly?",
    "A light wind moved the curtains in the empty room.",
    "They planted three rows of beans along the southern fence.",
)


def unpack(package: str, folder: Path) -> Path:
    """Download a Debian package and unpack it without installing it."""
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
    (archive,) = folder.glob(f"{package}_*.deb")
    root = folder / package
    subprocess.run(["dpkg", "-x", str(archive), str(root)], check=True)
    return root


def synthesise(voice: Synthetic, sentence: str, wav: Path) -> None:
    """Let an engine speak `sentence` into the file `wav`."""
    spoken = None
    if voice.engine == "espeak-ng":
        command = ["espeak-ng", "-v", voice.voice, "-w", str(wav), sentence]
    elif voice.engine == "flite":
        command = ["flite", "-voice", voice.voice, "-t", sentence, "-o", str(wav)]
    else:
        command = ["text2wave", "-eval", f"(voice_{voice.voice})", "-o", str(wav)]
        spoken = sentence
    subprocess.run(command, input=spoken, text=True, check=True)


def read(path: Path) -> NDArray[np.int16]:
    """Read a file, or the headerless 16 kHz little-endian samples of a .raw, as 16 kHz int16."""
    if path.suffix == ".raw":
        return np.fromfile(path, dtype="<i2").astype(np.int16)
    wave, rate_hz = soundfile.read(path, dtype="int16")
    if wave.ndim != 1:
        raise SystemExit(f"{path} has {wave.shape[1]} channels; one was expected")
    if rate_hz == SAMPLE_RATE_HZ:
        return np.asarray(wave, dtype=np.int16)
    resampled = soxr.resample(wave.astype(np.float64), rate_hz, SAMPLE_RATE_HZ, quality="VHQ")
    return np.asarray(np.clip(np.rint(resampled), -32_768, 32_767), dtype=np.int16)


def main() -> None:
    """Write every clip and manifest.csv."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to fill")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str, str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        roots = {package: unpack(package, folder) for package in {h.package for h in HUMANS}}
        waves = {h.name: read(roots[h.package] / h.path) for h in HUMANS}
        rows += [(f"{h.name}.flac", "bonafide", "-", h.speaker) for h in HUMANS]
        for index, sentence in enumerate(SENTENCES):
            voice, turn = VOICES[index // 2], index % 2 + 1
            wav = folder / "spoken.wav"
            synthesise(voice, sentence, wav)
            clip = f"{voice.attack}-{turn}"
            waves[clip] = read(wav)
            rows.append((f"{clip}.flac", "spoof", voice.attack, voice.speaker))
    for clip, wave in waves.items():
        soundfile.write(out / f"{clip}.flac", wave, SAMPLE_RATE_HZ, subtype="PCM_16")
    with (out / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "label", "attack", "speaker"))
        writer.writerows(rows)


if __name__ == "__main__":
    main()
