"""The web page's own readers of audio and models, given damaged files by a script engine."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import soundfile

from aasist_deploy.export.web_bundle import _SOURCES
from aasist_deploy.onnx_file import parse_onnx, with_metadata
from tests.unit.test_contract import HALF, NO_LINES, PLACES, put

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[3]
CLIP = next((REPOSITORY / "examples" / "demo_clips").rglob("*.flac"))
MODELS = [
    REPOSITORY / "cpp" / "tests" / "data" / f"{name}.onnx" for name in ("tiny", "tiny-variable")
]
READERS = ("wav.js", "decode.js", "resample.js", "model_file.js")
FUZZER = Path(__file__).with_name("fuzz_readers.js")
WAVS = (
    ("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"), ("WAV", "ALAW"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"),
)  # fmt: skip
# More of them: AASIST_FUZZ_SECONDS=600 pytest tests/unit/export/test_web_readers.py
SECONDS = float(os.environ.get("AASIST_FUZZ_SECONDS", "0"))
EXAMPLES = 300


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def sound(kind: str, subtype: str, channels: int = 1, rate_hz: int = 16_000) -> str:
    """A piece of the speech of a demonstration clip, as a file."""
    samples, _ = soundfile.read(CLIP, frames=150 * channels, start=8_000)
    stream = io.BytesIO()
    soundfile.write(stream, samples.reshape(-1, channels), rate_hz, subtype, format=kind)
    return text_of(stream.getvalue())


@pytest.fixture(scope="module")
def run() -> Callable[[str], Any]:
    """Run a script whose value is a promise of JSON, in Node.js."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("needs Node.js (apt-get install nodejs)")

    def run(source: str) -> Any:
        done = subprocess.run(
            [program, "--max-old-space-size=512", "-"],
            input=f"{source}.then((value) => console.log(JSON.stringify(value)))",
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def fuzz(run: Callable[[str], Any]) -> Callable[..., Any]:
    """Run the fuzzer with the page's readers; what is not given is none."""
    given: dict[str, Any] = {
        "sources": "\n".join((_SOURCES / name).read_text(encoding="utf-8") for name in READERS),
        "wavs": [], "others": [], "models": [], "parts": [], "kept": [],
        "seed": 20261127, "examples": 0, "seconds": 60,
    }  # fmt: skip
    source = FUZZER.read_text(encoding="utf-8")
    return lambda **more: run(f"{source}\nfuzzReaders({json.dumps({**given, **more})})")


def test_any_damage_gives_a_result_or_an_error_of_the_page(fuzz: Callable[..., Any]) -> None:
    parts = []
    for path in MODELS:
        content = path.read_bytes()
        n_bytes = (content[3] & 0x7F) | content[4] << 7  # of the graph, the second field
        graph = content[5 : 5 + n_bytes]
        assert sha256(graph).hexdigest() == parse_onnx(content, path).graph_sha256
        metadata = parse_onnx(content, path).metadata
        parts.append({"metadata": metadata, "graph": text_of(graph)})
    found = fuzz(
        wavs=[sound(*kind) for kind in WAVS] + [sound("WAV", "PCM_16", 2, 44_100)],
        others=[sound("FLAC", "PCM_16"), sound("OGG", "VORBIS"), sound("MP3", "MPEG_LAYER_III")],
        models=[text_of(path.read_bytes()) for path in MODELS],
        parts=parts,
        examples=10**9 if SECONDS else EXAMPLES,
        seconds=SECONDS or 60,
    )
    sys.stdout.write(f"{found['counts']}\n")
    assert found["finds"] == []
    assert found["whole"]["audio"]["refusals"] == found["whole"]["model"]["refusals"] == 0
    for kind in ("audio", "model"):  # neither all taken nor all refused at the door
        assert min(found["counts"][kind].values()) > EXAMPLES // 20


CUT = "…"
MODEL_FINDS: dict[str, tuple[dict[str, str], str]] = {
    "outputs that are no mapping": ({"outputs": "true"}, "says outputs is true;"),
    "score as a prototype": (
        {"outputs": '{"__proto__": {"score": 1}}'},
        'outputs["__proto__"] is {',
    ),
    "no thresholds": ({"thresholds": "null"}, "says thresholds is null;"),
    "a value of many letters": ({"min_samples": json.dumps("x" * 50_000)}, f"xx{CUT}; this page"),
    "another schema, of many letters": ({"schema": "x" * 50_000}, f"xx{CUT}; this page"),
    "too deep to be shown": ({"batch": "[" * 20_000 + "]" * 20_000}, "batch is nested too deeply;"),
    "a count beyond whole numbers": ({"min_samples": "9007199254740993"}, "min_samples is 9007"),
    "a window of terabytes": ({"n_samples": "1000000000000"}, "takes 1000000000000 samples at"),
    "a batch of gigabytes": ({"batch": "[1000000, null]"}, "takes 800000000 samples at once"),
    "a rate of 1 Hz": ({"sample_rate_hz": "1"}, "says sample_rate_hz is 1;"),
    "metadata of another program": ({"author": "me", "": "no JSON", "__proto__": "{}"}, "result"),
}


def test_what_fuzzing_found_in_models_is_mended(fuzz: Callable[..., Any]) -> None:
    file = parse_onnx(MODELS[0].read_bytes(), MODELS[0])
    files = [with_metadata(file, {**file.metadata, **new}) for new, _ in MODEL_FINDS.values()]
    said = [text for _, text in MODEL_FINDS.values()]
    for entry, text in (
        (b"\x08\x05", "result"),  # a number where a name is expected
        (b"\x0a\x01\xff", "its metadata is no UTF-8"),
    ):
        files.append(file.content + bytes([14 << 3 | 2, len(entry)]) + entry)
        said.append(text)
    files.append(bytes([6 << 3 | 2, 6]) + b"..ORTM" + file.content)
    said.append("is no ONNX file")
    files.append(file.content + bytes([0xF2, 0x80, 0x80, 0x80, 0x10, 0]))  # 14, and bit 32
    said.append("is damaged")
    found = fuzz(kept=[{"kind": "model", "file": text_of(content)} for content in files])
    assert found["finds"] == []
    for outcome, text in zip(found["kept"], said, strict=True):
        assert text in outcome


def test_texts_of_more_than_one_line_are_refused_as_in_python(fuzz: Callable[..., Any]) -> None:
    file = parse_onnx(MODELS[0].read_bytes(), MODELS[0])
    kept, said = [], []
    for place in PLACES:
        for one in [*NO_LINES, HALF, "\u00a0", "\u2027", "\u202a", "\U0001f50a", " "]:
            for name, value in put(place, f"a{one}b").items():
                if isinstance(value, str) and one == HALF:
                    continue  # metadata is UTF-8, which has none
                text = value if isinstance(value, str) else json.dumps(value)
                content = with_metadata(file, {**file.metadata, name: text})
                kept.append({"kind": "model", "file": text_of(content)})
                refused = one in (*NO_LINES, HALF)
                where = place.replace("'", '"')
                said.append(f"says {where} is " if refused else "result")
    found = fuzz(kept=kept)
    assert found["finds"] == []
    for outcome, text in zip(found["kept"], said, strict=True):
        if text == "result":  # of class_order the page knows one alone
            assert outcome == "result" or "says class_order is" in outcome
            assert "one line" not in outcome
        else:
            assert text in outcome
            assert "must be one line of text" in outcome


@pytest.mark.parametrize("rate_hz", [1_535_999, 47_999, 1_001])
def test_a_rate_in_a_header_costs_no_more_than_the_samples_are_worth(
    rate_hz: int, fuzz: Callable[..., Any]
) -> None:
    """Of 1,535,999 Hz the resampler's table once had 37 million numbers, for 150 samples."""
    found = fuzz(kept=[{"kind": "audio", "file": sound("WAV", "PCM_16", 1, rate_hz)}])
    assert found["finds"] == []
    assert found["kept"] == ["result"]
