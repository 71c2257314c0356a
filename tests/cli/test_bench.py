from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from aasist_deploy.engines import missing_packages

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "bench.schema.json"
QUICK = ("--rounds", "2", "--threads", "1")


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products of a size that takes no time."""
    from aasist_deploy.bench import measuring

    real = measuring.Settings.__init__

    def small(self: Any, **values: Any) -> None:
        real(self, **{"product_size": 64, **values})

    monkeypatch.setattr(measuring.Settings, "__init__", small)


def check(result: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator(schema).validate(result)
    assert result.keys() == schema["properties"].keys()
    for name in ("rows", "variants", "matrix_products"):
        known = schema["properties"][name]["items"]["properties"]
        assert all(one.keys() == known.keys() for one in result[name])


def test_backends_side_by_side_and_an_earlier_result(
    cli: Callable[..., Any],
    small_onnx: Callable[..., Path],
    clip: Callable[..., Path],
    tmp_path: Path,
) -> None:
    if missing_packages("openvino"):
        pytest.skip("needs the extra openvino")
    model, out = small_onnx(), tmp_path / "today.json"
    clip("calls/a.wav")
    done = cli(
        "bench", model, "--backend", "onnx,openvino", "--batch", "1,2", *QUICK,
        "--compare", f"{model}@onnx", "--end-to-end", tmp_path / "calls", "-o", out, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert json.loads(out.read_text()) == result
    check(result)
    name = model.name
    assert [(row["label"], row["batch"]) for row in result["rows"]] == [
        *((f"{name}@onnx", 1), (f"{name}@onnx", 2)),
        *((f"{name}@openvino", 1), (f"{name}@openvino", 2)),
    ]
    assert result["baseline"] == f"{name}@onnx"
    assert all(row["ratio"]["paired"] for row in result["rows"])
    assert result["rows"][0]["ratio"]["median"] == 1
    assert not any(one["imported_torch"] for one in result["variants"])
    assert [one["n_scored"] for one in result["end_to_end"]["rows"]] == [1, 1]

    again = cli(
        "bench", f"{model}@onnx", model, "--backend", "onnx", "--batch", "1", *QUICK,
        "--compare", out,
    )  # fmt: skip
    assert again.code == 0, again.err
    for said in ("times as fast", "GFLOP/s", "of peak", "MiB", "load s", "Timed:"):
        assert said in again.out


def test_a_checkpoint_is_measured_in_pytorch(
    cli: Callable[..., Any], small_checkpoint: Any
) -> None:
    done = cli("bench", small_checkpoint.path, "--batch", "1", *QUICK, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    check(result)
    (one,) = result["variants"]
    assert one["backend"] == "torch"
    assert one["imported_torch"]
    assert one["operations_per_window"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["m.onnx", "--backend", "nothing"], 2, "There is no backend 'nothing'"),
        (["m.onnx", "--batch", "1,0"], 2, "--batch is '0'"),
        (["m.onnx", "--batch", "x"], 2, "--batch is 'x'"),
        (["m.onnx", "--compare", "gone.json"], 2, "gone.json cannot be read"),
        (["m.onnx", "--compare", "bad.json"], 2, "is no result of bench"),
        (["m.onnx", "--compare", "other.json"], 2, "measured under other conditions: cpu"),
        (["m.onnx", "--end-to-end", "empty"], 2, "empty"),
        (["m.onnx@onnx:bf16"], 2, "asks the backend onnx for bf16"),
        (["m.onnx@onnx", "--precision", "bf16"], 2, "which is not in this run"),
        (["m.onnx@onnx", "--device", "cuda"], 2, "--device cuda is for the backend torch or trt"),
        (["m.onnx@onnx", "--hint", "latency"], 2, "--hint latency is for the backend openvino"),
        (["none.onnx"], 2, "none.onnx"),
        (["m.onnx@torch"], 2, "The backend 'torch' runs checkpoints"),
    ],
)
def test_wrong_usage_is_one_message(
    cli: Callable[..., Any],
    small_onnx: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(small_onnx().read_bytes())
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{}")
    other = {"schema": "aasist-deploy/bench/1", "machine": {"cpu": "Other"}, "threads": 1}
    (tmp_path / "other.json").write_text(json.dumps(other))
    done = cli("bench", *arguments, *QUICK)
    assert done.code == code, done.err
    assert message in done.err
    assert "Traceback" not in done.err


def test_an_output_that_cannot_be_written_does_not_lose_the_result(
    cli: Callable[..., Any], small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    done = cli(
        "bench", f"{small_onnx()}@onnx", "--batch", "1", *QUICK, "-o", tmp_path / "no" / "x.json"
    )
    assert done.code == 2
    assert "cannot be written" in done.err
    check(json.loads(done.out))
