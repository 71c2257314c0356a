"""The .ort file gives the .onnx file's scores, says what it is, and lists what it needs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from aasist_deploy.contract import ModelContract, read_contract, write_contract
from aasist_deploy.errors import CheckFailed, EnvironmentLacks, ModelFileError, UsageError
from aasist_deploy.export import ort_mobile
from aasist_deploy.export.ort_mobile import ort_from_onnx
from tests.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).resolve().parents[3] / "docs"
ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


def run(path: Path, wave: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    outputs: list[np.ndarray] = session.run(names, {"wave": wave})
    return outputs


@pytest.mark.slow
def test_a_real_network_keeps_its_scores_contract_and_operators(
    small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    written = ort_from_onnx(small_onnx(), tmp_path / "new" / "small.ort")
    wave = np.random.default_rng(3).normal(0, 0.1, (2, 16_000)).astype(np.float32)
    before, after = run(small_onnx(), wave), run(written.path, wave)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, atol=ort_mobile.MAX_DIFFERENCE)
    assert np.ptp(before[0]) > 0
    contract, file = read_contract(small_onnx())
    described = json.loads(written.description.read_text())
    assert described["schema"] == "aasist-deploy/ort/1"
    assert ModelContract.from_dict(described["contract"], written.description) == contract
    content = written.path.read_bytes()
    assert described["ort_sha256"] == hashlib.sha256(content).hexdigest()
    assert described["ort_bytes"] == written.n_bytes == len(content)
    assert described["onnx_sha256"] == hashlib.sha256(file.content).hexdigest()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    kept = session.get_modelmeta().custom_metadata_map
    assert ModelContract.from_metadata(kept, written.path) == contract
    operators = written.operators.read_text()
    for name in ("Conv{", "Elu", "TopK{", "MaxPool{"):
        assert name in operators
    assert 15 < written.n_operators < 40
    assert sorted(p.name for p in written.path.parent.iterdir()) == [
        "small.ort", "small.ort.json", "small.ort.operators.config"
    ]  # fmt: skip


def test_description_is_as_documented(model: Path, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="checks a schema")
    schema = json.loads((DOCS / "schemas" / "ort.schema.json").read_text())
    written = ort_from_onnx(model, tmp_path / "x.ort")
    described = json.loads(written.description.read_text())
    jsonschema.validate(described, schema)
    assert set(described) == set(schema["properties"])


def test_a_file_that_differs_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_mobile, "_largest_difference", lambda *_: float("nan"))
    with pytest.raises(CheckFailed, match="differ from those of"):
        ort_from_onnx(model, tmp_path / "out" / "x.ort")
    assert not (tmp_path / "out").exists()


def test_a_difference_is_seen(model: Path) -> None:
    contract, file = read_contract(model)
    other = file.content.replace(np.float32(10).tobytes(), np.float32(11).tobytes())
    assert other != file.content
    assert ort_mobile._largest_difference(file.content, other, contract) > ort_mobile.MAX_DIFFERENCE


def test_lower_precision_and_other_files_are_refused(model: Path, tmp_path: Path) -> None:
    contract, file = read_contract(model)
    int8 = tmp_path / "int8.onnx"
    write_contract(dataclasses.replace(contract, precision="int8"), file, int8)
    with pytest.raises(UsageError, match="computes in int8"):
        ort_from_onnx(int8, tmp_path / "x.ort")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelFileError, match="not an ONNX model"):
        ort_from_onnx(tmp_path / "text.onnx", tmp_path / "x.ort")


def test_what_the_tool_says_is_in_the_message(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_mobile, "_LIST_OPERATORS", "raise ImportError('no flatbuffers')")
    with pytest.raises(EnvironmentLacks, match="ImportError: no flatbuffers"):
        ort_from_onnx(model, tmp_path / "x.ort")
    assert not (tmp_path / "x.ort").exists()


@pytest.mark.parametrize(
    ("line", "n"),
    [
        ("ai.onnx;6;Elu,Selu", 2),
        ('ai.onnx;11;Conv{"inputs": {"0": ["float"], "1": ["x"]}},TopK', 2),
    ],
)
def test_commas_of_types_are_no_operators(line: str, n: int) -> None:
    assert ort_mobile._count(line) == n
