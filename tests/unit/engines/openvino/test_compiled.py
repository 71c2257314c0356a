"""Compiled models that are kept on disk."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from aasist_deploy import open_engine
from aasist_deploy.contract import read_contract
from aasist_deploy.engines import openvino_cache
from aasist_deploy.errors import OutputError
from aasist_deploy.onnx_file import parse_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# Found, not imported: only `import_openvino` imports it without its telemetry.
if find_spec("openvino") is None:
    pytest.skip("needs OpenVINO", allow_module_level=True)


def test_compiled_model_is_kept_used_again_and_gives_the_same(
    small_onnx: Callable[..., Path], engine: Any, waves: NDArray[np.float32], tmp_path: Path
) -> None:
    expected = engine.score(waves)
    blobs: list[tuple[Path, int]] = []
    for _ in range(2):
        with open_engine(small_onnx(), "openvino", threads=2, cache_dir=tmp_path / "c") as kept:
            assert np.array_equal(kept.score(waves), expected)
        blobs.append(next((b, b.stat().st_mtime_ns) for b in (tmp_path / "c").rglob("*.blob")))
    assert blobs[0] == blobs[1]
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_changed_file_settings_openvino_or_cpu_never_get_an_old_compiled_model(
    small_onnx: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    content, settings = small_onnx().read_bytes(), {"arithmetic": "fp32", "threads": 2}
    folders = [
        openvino_cache.cache_folder(tmp_path, content, settings),
        openvino_cache.cache_folder(tmp_path, content + b" ", settings),
        openvino_cache.cache_folder(tmp_path, content, {**settings, "arithmetic": "bf16"}),
    ]
    monkeypatch.setattr(openvino_cache, "cpu_flags", lambda: frozenset({"avx2"}))
    folders.append(openvino_cache.cache_folder(tmp_path, content, settings))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    folders.append(openvino_cache.cache_folder(tmp_path, content, settings))
    other = SimpleNamespace(__version__="9.9")
    monkeypatch.setattr(openvino_cache, "import_openvino", lambda: other)
    folders.append(openvino_cache.cache_folder(tmp_path, content, settings))
    assert len(set(folders)) == len(folders)
    assert openvino_cache.cache_folder(tmp_path, content, settings) == folders[-1]


def test_file_that_changed_in_place_is_scored_as_it_is_now(
    small_onnx: Callable[..., Path], waves: NDArray[np.float32], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    options: Any = {"cache_dir": tmp_path / "c", "threads": 2}
    scores = []
    for factor in (1.0, 2.0):
        model = onnx.load(small_onnx())
        for held in model.graph.initializer:
            if held.name.startswith("out_layer") or "out" in held.name:
                values = onnx.numpy_helper.to_array(held) * np.float32(factor)
                held.CopyFrom(onnx.numpy_helper.from_array(values, held.name))
        contract, _ = read_contract(small_onnx())
        graph = parse_onnx(model.SerializeToString(), path).graph_sha256
        onnx.helper.set_model_props(model, replace(contract, graph_sha256=graph).to_metadata())
        onnx.save(model, path)
        with open_engine(path, "openvino", **options) as cached:
            scores.append(cached.score(waves))
        with open_engine(path, "openvino", threads=2) as anew:
            assert np.array_equal(scores[-1], anew.score(waves))
    assert np.abs(scores[0] - scores[1]).max() > 0.01  # the two files do differ


def test_folder_that_others_may_write_to_is_no_place_for_compiled_models(
    small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(OutputError, match=r"run as code.*others may write to it") as raised:
        open_engine(small_onnx(), "openvino", cache_dir=tmp_path / "open")
    assert "chmod 700" in str(raised.value.fix)
    assert list((tmp_path / "open").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be kept"):
        open_engine(small_onnx(), "openvino", cache_dir=tmp_path / "file")
