from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aasist_deploy.contract import ModelContract
from aasist_deploy.errors import ModelFileError, OutputError
from aasist_deploy.plan_file import (
    PlanContract,
    json_path,
    read_plan,
    rebuild_command,
    write_plan,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONTENT = b"the bytes of a plan" * 100
PLAN = PlanContract(
    contract=ModelContract(
        architecture="AASIST",
        config={"architecture": "AASIST", "filts": [70, [1, 32]]},
        sample_rate_hz=16_000,
        n_samples=64_600,
        min_samples=64_600,
        outputs={"score": "logit of bona fide, (batch,)"},
        checkpoint_sha256="ab" * 32,
        graph_sha256="ef" * 32,
        precision="fp16",
        fp32_nodes=("pool_S/Gemm",),
        calibration={"scale": 1.5, "offset": -0.25},
        thresholds={"eer": 0.5},
    ),
    plan_sha256=sha256(CONTENT).hexdigest(),
    plan_bytes=len(CONTENT),
    onnx_sha256="cd" * 32,
    runtime="tensorrt",
    tensorrt_version="10.13.3.9",
    cuda_version="13.0",
    gpu_name="NVIDIA H200",
    sm="9.0",
    profiles=((1, 8, 32), (1, 128, 512)),
    tf32=True,
    build={"optimization_level": 4, "workspace_mib": 512, "version_compatible": True},
)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "model.plan"
    write_plan(CONTENT, PLAN, path)
    return path


def change_json(plan: Path, **values: Any) -> None:
    beside = json_path(plan)
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **values}))


def test_plan_and_description_come_back(plan: Path) -> None:
    assert read_plan(plan) == (PLAN, CONTENT)
    assert json_path(plan).name == "model.plan.json"


def test_nothing_else_is_left_in_the_folder(plan: Path) -> None:
    assert sorted(p.name for p in plan.parent.iterdir()) == ["model.plan", "model.plan.json"]


def test_keys_that_are_not_known_are_left_out(plan: Path) -> None:
    change_json(plan, somebody="else")
    assert read_plan(plan)[0] == PLAN


def test_truncated_plan_is_refused_with_both_sizes(plan: Path) -> None:
    plan.write_bytes(CONTENT[:-7])
    with pytest.raises(ModelFileError, match=f"{len(CONTENT) - 7} bytes.*says {len(CONTENT)}"):
        read_plan(plan)


def test_altered_plan_is_refused_with_both_hashes(plan: Path) -> None:
    plan.write_bytes(CONTENT[:-1] + b"X")
    with pytest.raises(ModelFileError, match=f"was altered.*says {PLAN.plan_sha256[:12]}"):
        read_plan(plan)


def test_plan_without_its_description_is_refused(plan: Path) -> None:
    json_path(plan).unlink()
    with pytest.raises(ModelFileError, match=r"has no model\.plan\.json beside it") as caught:
        read_plan(plan)
    assert "--to trt" in str(caught.value.fix)


def test_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_plan(tmp_path / "no.plan")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('"build": {"a": NaN}', "NaN is no number of JSON"),
        ('"sm": "9.0", "sm": "8.9"', "it has the name 'sm' twice"),
        ('"x": ' + "9" * 5_000, "it has a number of 5000 digits"),
        ('"x": ' + "[" * 100_000, "it is nested too deeply"),
    ],
)
def test_description_that_readers_take_differently_is_refused(
    plan: Path, more: str, message: str
) -> None:
    json_path(plan).write_text("{" + more + "}")
    with pytest.raises(ModelFileError, match=f"is not JSON: {message}"):
        read_plan(plan)


@pytest.mark.parametrize("text", ["{", "[1]", "null", '"text"', "\xff", "{}"])
def test_description_that_is_none_is_refused(plan: Path, text: str) -> None:
    json_path(plan).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelFileError):
        read_plan(plan)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema": "aasist-deploy/plan/9"}, "'aasist-deploy/plan/9'; this version reads"),
        ({"runtime": "tvm"}, "runtime is 'tvm'"),
        ({"profiles": []}, "no optimization profile"),
        ({"profiles": [[8, 1, 32]]}, "smallest, optimal and largest"),
        ({"profiles": [[1, 8]]}, "three whole numbers"),
        ({"profiles": [[True, 8, 32]]}, "three whole numbers"),
        ({"profiles": 3}, "cannot be read"),
        ({"plan_sha256": 5}, "plan_sha256 is 5"),
        ({"sm": ""}, "sm is ''"),
        ({"plan_bytes": "many"}, "plan_bytes is 'many'"),
        ({"tf32": 1}, "tf32 1"),
        ({"build": []}, "build is no mapping"),
        ({"gpu_name": "H100\n# evil"}, r"gpu_name is 'H100\\n# evil'; it must be one line"),
        ({"gpu_name": 3}, "gpu_name is 3; it must be one line of text"),
        ({"tensorrt_version": "10\x1b[2J"}, "it must be one line of text"),
        ({"contract": {}}, "cannot be read"),
        ({"contract": None}, "cannot be read"),
    ],
)
def test_description_with_wrong_values_is_refused(
    plan: Path, values: dict[str, Any], message: str
) -> None:
    change_json(plan, **values)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_plan(plan)
    assert "model.plan.json" in str(caught.value)


@pytest.mark.parametrize("name", ["contract", "plan_sha256", "onnx_sha256", "sm", "profiles"])
def test_description_without_a_field_is_refused(plan: Path, name: str) -> None:
    values = json.loads(json_path(plan).read_text())
    del values[name]
    json_path(plan).write_text(json.dumps(values))
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_plan(plan)


def test_description_of_other_bytes_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="was altered"):
        write_plan(b"x" * len(CONTENT), PLAN, tmp_path / "model.plan")
    assert not list(tmp_path.iterdir())


def test_old_pair_stays_when_the_new_one_cannot_be_completed(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aasist_deploy.plan_file.os.fsync", full)
    new = replace(PLAN, plan_sha256=sha256(b"new").hexdigest(), plan_bytes=3)
    with pytest.raises(OutputError, match="No space left"):
        write_plan(b"new", new, plan)
    assert read_plan(plan) == (PLAN, CONTENT)
    assert len(list(plan.parent.iterdir())) == 2


def test_plan_beside_the_description_of_another_is_never_taken(plan: Path) -> None:
    other = PLAN.to_dict() | {"plan_sha256": sha256(b"other").hexdigest(), "plan_bytes": 5}
    json_path(plan).write_text(json.dumps(other))  # a writer was stopped between its two files
    with pytest.raises(ModelFileError, match="cut short or not the plan it was"):
        read_plan(plan)


def test_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_plan(CONTENT, PLAN, tmp_path / "no" / "model.plan")


def test_rebuild_command_has_the_options_of_the_plan() -> None:
    assert rebuild_command(PLAN) == (
        "aasist-deploy export model.onnx --to trt -o model.plan --profile 1,8,32 "
        "--profile 1,128,512 --tf32 --builder-level 4 --workspace-mib 512 --version-compatible"
    )
    plain = replace(PLAN, profiles=((1, 8, 32),), tf32=False, build={})
    assert rebuild_command(plain) == "aasist-deploy export model.onnx --to trt -o model.plan"


def test_what_it_was_built_for_is_said_with_and_without_a_gpu() -> None:
    assert PLAN.built_for() == "TensorRT 10.13.3.9 for NVIDIA H200 (sm 9.0)"
    elsewhere = replace(PLAN, runtime="tensorrt_rtx", gpu_name=None, sm="8.6 12.0")
    assert elsewhere.built_for() == "TensorRT-RTX 10.13.3.9 for sm 8.6 12.0"
    assert elsewhere.sms == ("8.6", "12.0")
    assert PLAN.max_batch == 512


def test_a_plan_is_read_without_tensorrt_torch_and_onnx() -> None:
    code = (
        "import sys, aasist_deploy.plan_file as p\n"
        "assert not {'tensorrt', 'tensorrt_rtx', 'torch', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_description_is_what_its_schema_and_the_document_say(plan: Path) -> None:
    schema = json.loads((DOCS / "schemas" / "plan.schema.json").read_text())
    contract = json.loads((DOCS / "schemas" / "contract.schema.json").read_text())
    said = json.loads(json_path(plan).read_text())
    jsonschema.validate(said, schema)
    jsonschema.validate(said["contract"], contract)
    assert said.keys() == schema["properties"].keys()
    text = (DOCS / "contract.md").read_text().partition("## Plans")[2]
    assert said.keys() <= set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    for sm in ("9.0", "8.0 8.6 12.0", "8.0+"):
        jsonschema.validate({**said, "sm": sm}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**said, "sm": "sm90"}, schema)
