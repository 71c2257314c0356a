"""The wheel in clean environments: no torch is there, and none is asked for."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio

if TYPE_CHECKING:
    from collections.abc import Callable

DEMO_CLIPS = Path(__file__).resolve().parents[2] / "examples" / "demo_clips"
TRAINING_PACKAGES = "torch onnx onnxscript safetensors"
N_CLIPS = 28
# The same file and version of ONNX Runtime in another environment; rounding may differ by threads.
SAME_FILE_ATOL = 1e-4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare(clean_environment: Callable[[str], Any]) -> Any:
    """Only the wheel and its own dependencies."""
    return clean_environment("")


@pytest.fixture(scope="module")
def with_onnx(clean_environment: Callable[[str], Any]) -> Any:
    """What a machine that scores has: the wheel with the extra onnx."""
    return clean_environment("onnx")


@pytest.fixture(scope="module")
def with_openvino(clean_environment: Callable[[str], Any]) -> Any:
    """A machine that scores with OpenVINO alone."""
    return clean_environment("openvino")


def test_the_blocker_notices_an_import(with_onnx: Any) -> None:
    done = with_onnx.run("python", "-c", "import torch", block="torch")
    assert "torch is blocked by this test" in done.stderr
    assert with_onnx.blocked_attempts == ["torch"]


def test_help_and_import_need_no_runtime(bare: Any) -> None:
    heavy = f"{TRAINING_PACKAGES} onnxruntime matplotlib pyarrow av"
    done = bare.run("aasist-deploy", "--help", block=heavy)
    assert (done.returncode, done.stderr, bare.blocked_attempts) == (0, "", [])
    assert "export" in done.stdout
    done = bare.run("python", "-c", "import aasist_deploy as a; print(a.__file__)", block=heavy)
    assert (done.returncode, done.stderr, bare.blocked_attempts) == (0, "", [])
    assert Path(done.stdout.strip()).is_relative_to(bare.folder)


def test_without_a_runtime_the_error_names_the_extra(
    bare: Any, small_onnx: Callable[..., Path]
) -> None:
    done = bare.run("aasist-deploy", "score", small_onnx(), DEMO_CLIPS / "human-numbers.flac")
    assert done.returncode == 3
    assert "pip install 'aasist-deploy[onnx]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_torch_export_names_the_extras(bare: Any) -> None:
    done = bare.run("aasist-deploy", "export", "any.pth", "-o", "any.onnx")
    assert done.returncode == 3
    assert "pip install 'aasist-deploy[export,onnx]'" in done.stderr


def test_score_never_asks_for_torch(with_onnx: Any, small_onnx: Callable[..., Path]) -> None:
    model, rows_file = small_onnx(), with_onnx.away / "scores.csv"
    done = with_onnx.run(
        "aasist-deploy", "score", model, DEMO_CLIPS, "-o", rows_file, block=TRAINING_PACKAGES
    )
    assert done.returncode == 0, done.stderr
    assert with_onnx.blocked_attempts == []
    assert "the only one installed of openvino, onnx" in done.stderr
    with rows_file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == N_CLIPS
    with open_engine(model, "onnx") as engine:
        n_samples = engine.contract.n_samples
        assert n_samples is not None
        waves = [fit_length(read_audio(row["path"]).wave, n_samples) for row in rows]
        expected = engine.score(np.stack(waves))
    np.testing.assert_allclose([float(r["score"]) for r in rows], expected, atol=SAME_FILE_ATOL)


def test_openvino_alone_scores_and_reports_to_nobody(
    with_openvino: Any, small_onnx: Callable[..., Path]
) -> None:
    model, rows_file = small_onnx(), with_openvino.away / "scores.csv"
    done = with_openvino.run(
        "aasist-deploy", "score", model, DEMO_CLIPS, "-o", rows_file, block=TRAINING_PACKAGES
    )
    assert done.returncode == 0, done.stderr
    assert with_openvino.blocked_attempts == []
    assert "backend: openvino (CPU, fp32, " in done.stderr
    assert "the only one installed of openvino, onnx" in done.stderr
    with rows_file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == N_CLIPS
    with open_engine(model, "onnx") as engine:
        n_samples = engine.contract.n_samples
        assert n_samples is not None
        waves = [fit_length(read_audio(row["path"]).wave, n_samples) for row in rows]
        expected = engine.score(np.stack(waves))
    np.testing.assert_allclose([float(r["score"]) for r in rows], expected, atol=SAME_FILE_ATOL)
    assert with_openvino.run("python", "-c", "import onnxruntime").returncode == 1  # not here
    # OpenVINO's telemetry would leave its identifier in the home.
    assert not (with_openvino.away / "intel").exists()


def test_eval_never_asks_for_torch(with_onnx: Any, small_onnx: Callable[..., Path]) -> None:
    out = with_onnx.away / "results"
    done = with_onnx.run(
        "aasist-deploy", "eval", small_onnx(), "--dataset", "manifest", "--root", DEMO_CLIPS,
        "--out", out, block=TRAINING_PACKAGES,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert with_onnx.blocked_attempts == []
    lines = [line.split() for line in (out / "scores.txt").read_text().splitlines()]
    assert len(lines) == N_CLIPS
    assert {len(line) for line in lines} == {4}
    report = json.loads((out / "report.json").read_text())
    assert (report["n_bonafide"], report["n_spoof"]) == (12, 16)
    assert "torch" not in report["environment"]
    assert "<svg" in (out / "report.html").read_text()


def test_metrics_need_no_runtime_at_all(bare: Any, tmp_path: Path) -> None:
    scores = tmp_path / "scores.txt"
    scores.write_text("a - bonafide 2\nb - bonafide 1\nc A01 spoof 0\nd A01 spoof 1.5\n")
    done = bare.run("aasist-deploy", "metrics", scores, "--json", block="torch onnxruntime")
    assert done.returncode == 0, done.stderr
    assert bare.blocked_attempts == []
    assert json.loads(done.stdout)["eer_percent"] == pytest.approx(50.0)
