"""Models that mean harm are refused by the program in the words of the package."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("onnx", reason="writes models")

import onnx
from onnx import TensorProto, helper

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import ModelFileError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Program = Callable[..., subprocess.CompletedProcess[str]]


def changed(tiny: Path, path: Path, change: Callable[[Any], None]) -> Path:
    """The small model with another graph, and the hash that fits it."""
    model = onnx.load_model(tiny)
    change(model.graph)
    digest = sha256(model.graph.SerializeToString()).hexdigest()
    entry = next(entry for entry in model.metadata_props if entry.key == "graph_sha256")
    entry.value = digest
    path.write_bytes(model.SerializeToString())
    return path


def gains_outside(graph: Any) -> None:
    """What the small model multiplies with, in a file beside it."""
    gains = next(one for one in graph.initializer if one.name == "gains")
    gains.ClearField("raw_data")
    gains.ClearField("float_data")
    gains.data_location = TensorProto.EXTERNAL
    gains.external_data.add(key="location", value="gains.bin")


def nested(graph: Any) -> None:
    """Branches in branches; what is never computed is parsed all the same."""
    inner = helper.make_graph([], "inner", [], [])
    for _ in range(20):
        node = helper.make_node("If", ["c"], ["w"], then_branch=inner)
        inner = helper.make_graph([node], "g", [], [])
    graph.node.add().CopyFrom(node)


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.array([[-80.0, 80.0]], np.float32).tofile("gains.bin")
    soundfile.write("a.wav", np.full(800, 0.25), 16_000)
    return tmp_path / "a.wav"


def test_the_files_below_are_refused_for_their_changes_alone(
    aasist_score: Program, tiny: Path, clip: Path
) -> None:
    same = changed(tiny, clip.with_name("m.onnx"), lambda _: None)
    done = aasist_score(same, clip)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("change", [gains_outside, nested])
def test_refused_in_the_words_of_the_package(
    change: Callable[[Any], None], aasist_score: Program, tiny: Path, clip: Path
) -> None:
    model = changed(tiny, clip.with_name("m.onnx"), change)
    done = aasist_score(model, clip)
    with pytest.raises(ModelFileError) as raised:
        read_contract(model)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"error: {raised.value}\nfix: {raised.value.fix}\n"
