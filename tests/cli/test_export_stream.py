"""What `export --stream` says and refuses; tests/unit/engines/test_parts.py has the files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.contract import STREAM_SCHEMA, ModelContract, StreamContract

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.models import Checkpoint

CONTRACT = ModelContract(
    schema=STREAM_SCHEMA,
    architecture="AASIST",
    config={},
    sample_rate_hz=16_000,
    n_samples=64_600,
    min_samples=64_600,
    outputs={"score": "logit of bona fide, (batch,)"},
    checkpoint_sha256="0" * 64,
    input_name="samples",
    stream=StreamContract(
        window_samples=64_600,
        frame_samples=2_187,
        lead_samples=1_010,
        max_frames=64,
        n_frames=29,
        shared_frames=27,
        state_size=143_305,
    ),
)


@pytest.mark.parametrize("json_", [False, True])
def test_windows_and_difference_are_told(
    json_: bool,
    cli: Any,
    small_checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aasist_deploy.export import stream_export

    asked: list[Any] = []

    def export(_checkpoint: object, path: Path, options: object) -> Any:
        asked.append(options)
        path.touch()
        return stream_export.StreamExportResult(path, CONTRACT, 560, 2e-6)

    monkeypatch.setattr(stream_export, "export_stream", export)
    path = tmp_path / "x.onnx"
    more = ["--json"] if json_ else []
    result = cli("export", small_checkpoint.path, "--stream", "--topk", "rank", "-o", path, *more)
    assert result.code == 0, result.err
    assert asked[0].topk == "rank"
    if json_:
        said = json.loads(result.out)
        assert said["contract"]["stream"]["frame_samples"] == 2_187
        assert said["max_difference"] == 2e-6
    else:
        assert "windows of 64600 samples at multiples of 2187" in result.out
        assert "largest difference from windows alone 2.0e-06" in result.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("aasist.onnx", "-o", "x.onnx"), "exported already"),
        (("aasist", "--to", "trt", "-o", "x.plan"), "--stream writes an .onnx file"),
        (("SMALL", "--samples", "variable", "-o", "x.onnx"), "windows of one length"),
        (("SMALL", "--batch", "4", "-o", "x.onnx"), "a batch of 4"),
        (("SMALL", "--samples", "7000", "-o", "x.onnx"), "nothing that windows could share"),
    ],
)
def test_what_has_no_file_for_streams_is_refused(
    arguments: tuple[str, ...],
    reason: str,
    cli: Any,
    small_checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(small_checkpoint.path) if word == "SMALL" else word for word in arguments]
    result = cli("export", "--stream", *given)
    assert result.code in (2, 3)
    assert reason in " ".join(result.err.split())
    assert list(tmp_path.iterdir()) == []
