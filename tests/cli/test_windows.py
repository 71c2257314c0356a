"""Which file `scan` and `stream` take for a hop, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aasist_deploy.cli import windows
from aasist_deploy.cli.engine_options import EngineChoice
from aasist_deploy.cli.windows import ALONE_FROM_HOP_FRAMES, Asked


def asked(**fields: Any) -> Asked:
    plain: dict[str, Any] = {
        "model": "aasist",
        "engine": EngineChoice(backend="onnx"),
        "hop_frames": None,
        "hop_s": None,
        "window_s": None,
        "batch": 8,
        "live": False,
    }
    return Asked(**plain | fields)


@pytest.mark.parametrize(
    ("fields", "shared"),
    [
        ({}, True),
        ({"hop_frames": ALONE_FROM_HOP_FRAMES - 1}, True),
        ({"hop_frames": ALONE_FROM_HOP_FRAMES}, False),
        ({"hop_s": 1.0}, False),
        ({"window_s": 2.0}, False),
        ({"engine": EngineChoice(backend="torch")}, False),
    ],
)
def test_a_named_model_shares_frames_where_that_is_cheaper(
    fields: dict[str, Any], shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "exported", lambda *_, stream: Path(f"stream-{stream}.onnx"))
    monkeypatch.setattr(windows, "model_file", lambda *_: Path("whole.onnx"))
    path, why_not = windows._file_of(asked(**fields))
    assert path == Path("stream-True.onnx" if shared else "whole.onnx")
    if fields.get("hop_frames") == ALONE_FROM_HOP_FRAMES:
        assert why_not is not None
        assert f"no dearer at {ALONE_FROM_HOP_FRAMES} frames" in why_not
    else:
        assert why_not is None
