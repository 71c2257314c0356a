"""Contracts of models and plans that no export made: what a test does not name is as said here."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.contract import STREAM_SCHEMA, ModelContract, StreamContract
from aasist_deploy.plan_file import PlanContract, write_plan

if TYPE_CHECKING:
    from pathlib import Path

N_SAMPLES: Final = 800  # 50 ms
PLAN: Final = b"a plan"  # bytes that no TensorRT made


def contract_of(**fields: Any) -> ModelContract:
    """Of windows of 800 samples at 16 kHz, with a score alone."""
    n_samples = fields.get("n_samples", N_SAMPLES)
    plain: dict[str, Any] = {
        "architecture": "Tiny",
        "config": {},
        "sample_rate_hz": 16_000,
        "n_samples": n_samples,
        "min_samples": n_samples or N_SAMPLES,
        "outputs": {"score": "ten times the mean, (batch,)"},
        "checkpoint_sha256": "0" * 64,
    }
    return ModelContract(**plain | fields)


def stream_contract_of(layout: StreamContract, **fields: Any) -> ModelContract:
    """Of a file for streams with these windows and frames."""
    plain: dict[str, Any] = {
        "schema": STREAM_SCHEMA,
        "n_samples": layout.window_samples,
        "outputs": {"score": "ten times the mean, (streams,)"},
        "input_name": "samples",
        "stream": layout,
    }
    return contract_of(**plain | fields)


def write_tiny_plan(path: Path, contract: ModelContract, **fields: Any) -> Path:
    """Write a plan that no TensorRT made, and the description beside it."""
    plain: dict[str, Any] = {
        "contract": contract,
        "plan_sha256": sha256(PLAN).hexdigest(),
        "plan_bytes": len(PLAN),
        "onnx_sha256": "1" * 64,
        "runtime": "tensorrt",
        "tensorrt_version": "10.13.3",
        "sm": "9.0",
        "profiles": ((1, 8, 32),),
        "tf32": False,
        "build": {},
    }
    write_plan(PLAN, PlanContract(**plain | fields), path)
    return path
