"""The model repository against Triton's own schema, the ONNX file, and a client."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tritonclient", reason="needs Triton's schema, of the package tritonclient")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

from aasist_deploy.contract import ModelContract, read_contract
from aasist_deploy.engines import open_engine
from aasist_deploy.errors import ModelFileError, UsageError
from aasist_deploy.export.triton_bundle import triton_name, write_triton_repository
from aasist_deploy.export.triton_config import TritonOptions, quoted
from aasist_deploy.pipeline import WindowRule, score_files
from aasist_deploy.plan_file import PlanContract, json_path, write_plan
from tests.tiny_models import write_tiny_model
from tests.unit.export.fake_triton import fake_triton, read_config, schema
from tests.unit.export.three_outputs import write_three_outputs

CLIENT = Path(__file__).resolve().parents[3] / "examples" / "triton_client.py"


def checked(folder: Path) -> Any:
    """The config of an ONNX model, compared with the file: names, types, shapes, warm-up."""
    import onnxruntime as ort

    config = read_config(folder / "config.pbtxt")
    assert config.name == folder.name
    session = ort.InferenceSession((folder / "1" / "model.onnx").read_bytes())
    for ours, theirs in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert {one.name for one in ours} == {one.name for one in theirs}
        shapes = {one.name: one.shape for one in theirs}
        types = {one.name: one.type for one in theirs}
        for one in ours:
            assert types[one.name] == "tensor(float)"
            assert one.data_type == schema().DataType.Value("TYPE_FP32")
            # What Triton compares with the file: the reshape where there is one, else dims.
            dims = list(one.reshape.shape if one.HasField("reshape") else one.dims)
            fixed = [size if isinstance(size, int) else -1 for size in shapes[one.name][1:]]
            assert dims == fixed, one.name
            assert one.dims  # Triton refuses none, and has the reshape for this
    (wave,) = config.input
    for warm_up in config.model_warmup:
        assert 1 <= warm_up.batch_size <= config.max_batch_size
        (given,) = warm_up.inputs.items()
        assert given[0] == wave.name
        assert all(want in (-1, got) for want, got in zip(wave.dims, given[1].dims, strict=True))
        assert given[1].zero_data
    assert max(config.dynamic_batching.preferred_batch_size) <= config.max_batch_size
    contract, _ = read_contract(folder / "1" / "model.onnx")
    said = json.loads((folder / "contract.json").read_text())
    assert ModelContract.from_dict(said, folder) == contract
    for one in config.output:
        if one.label_filename:
            labels = (folder / one.label_filename).read_text().split()
            assert tuple(labels) == contract.class_order
            assert list(one.dims) == [len(labels)]
    return config


def test_the_config_fits_the_file_and_triton_s_schema(tmp_path: Path) -> None:
    model = write_three_outputs(tmp_path / "three.onnx")
    (path,) = write_triton_repository(model, tmp_path / "repo", name="small")
    assert path == tmp_path / "repo" / "small" / "config.pbtxt"
    config = checked(path.parent)
    assert (config.backend, config.platform) == ("onnxruntime", "onnxruntime_onnx")
    assert {one.name: list(one.dims) for one in config.output} == {
        "score": [1],
        "logits": [2],
        "embedding": [5],
    }
    assert list(config.input[0].dims) == [800]
    assert [one.batch_size for one in config.model_warmup] == [1, 8]
    batching = config.dynamic_batching
    assert batching.max_queue_delay_microseconds == 5_000
    assert batching.default_queue_policy.max_queue_size == 256
    assert batching.default_queue_policy.default_timeout_microseconds == 30_000_000
    (group,) = config.instance_group
    assert (group.count, schema().ModelInstanceGroup.Kind.Name(group.kind)) == (1, "KIND_CPU")
    files = [one.relative_to(path.parent) for one in path.parent.rglob("*") if one.is_file()]
    assert sorted(map(str, files)) == [
        "1/model.onnx",
        "config.pbtxt",
        "contract.json",
        "labels.txt",
    ]
    assert (path.parent / "1" / "model.onnx").read_bytes() == model.read_bytes()


def test_options_are_in_the_config(tmp_path: Path) -> None:
    options = TritonOptions(
        kind="gpu", instances=3, max_batch=4, max_delay_us=100, max_queue=9, timeout_s=2
    )
    model = write_tiny_model(tmp_path / "tiny.onnx")
    (path,) = write_triton_repository(model, tmp_path / "repo", name="tiny", options=options)
    config = checked(path.parent)
    (group,) = config.instance_group
    assert (group.count, schema().ModelInstanceGroup.Kind.Name(group.kind)) == (3, "KIND_GPU")
    assert config.max_batch_size == 4
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    with pytest.raises(UsageError, match="instances is 0"):
        TritonOptions(instances=0)


def test_a_model_of_variable_length_takes_any(tmp_path: Path) -> None:
    model = write_three_outputs(tmp_path / "three.onnx", n_samples=None)
    (path,) = write_triton_repository(model, tmp_path / "repo", name="variable")
    config = checked(path.parent)
    assert list(config.input[0].dims) == [-1]
    contract, _ = read_contract(model)
    assert list(config.model_warmup[0].inputs["wave"].dims) == [contract.min_samples]


def plan_of(model: Path, path: Path, **changes: Any) -> Path:
    """A plan of the model as far as its description goes."""
    contract, _ = read_contract(model)
    content = b"the bytes of a plan"
    fields: dict[str, Any] = {
        "contract": contract,
        "plan_sha256": sha256(content).hexdigest(),
        "plan_bytes": len(content),
        "onnx_sha256": sha256(model.read_bytes()).hexdigest(),
        "runtime": "tensorrt",
        "tensorrt_version": "10.13.3.9",
        "sm": "9.0",
        "profiles": ((1, 8, 32), (1, 64, 128)),
        "tf32": False,
        "build": {},
        **changes,
    }
    write_plan(content, PlanContract(**fields), path)
    return path


def test_a_plan_is_a_second_model(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    plan = plan_of(model, tmp_path / "tiny.plan")
    repository = tmp_path / "repo"
    first, second = write_triton_repository(model, repository, name="tiny", plan=plan)
    checked(first.parent)
    assert second == repository / "tiny-trt" / "config.pbtxt"
    config = read_config(second)
    assert (config.name, config.backend, config.platform) == (
        "tiny-trt", "tensorrt", "tensorrt_plan",
    )  # fmt: skip
    assert config.max_batch_size == 128
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 64]
    (group,) = config.instance_group
    assert schema().ModelInstanceGroup.Kind.Name(group.kind) == "KIND_GPU"
    assert list(group.profile) == ["0", "1"]
    place = repository / "tiny-trt" / "1"
    assert (place / "model.plan").read_bytes() == plan.read_bytes()
    assert json_path(place / "model.plan").read_bytes() == json_path(plan).read_bytes()
    one = replace(read_contract(model)[0], checkpoint_sha256="1" * 64)
    for changes, words in (
        ({"runtime": "tensorrt_rtx"}, "runs plans of TensorRT"),
        ({"profiles": ((4, 8, 32),)}, "begin at a batch of 4"),
        ({"contract": one}, "its checkpoint is 111111111111, not 000000000000"),
    ):
        other = plan_of(model, tmp_path / "other.plan", **changes)
        with pytest.raises((UsageError, ModelFileError), match=words):
            write_triton_repository(model, tmp_path / "none", name="tiny", plan=other)
        assert not (tmp_path / "none").exists()
    plan.write_bytes(b"the bytes of a plaM")
    with pytest.raises(ModelFileError, match="was altered"):
        write_triton_repository(model, tmp_path / "none", name="tiny", plan=plan)


def test_what_triton_cannot_batch_or_a_cpu_cannot_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aasist_deploy.export import triton_bundle

    model = tmp_path / "three.onnx"
    with pytest.raises(UsageError, match="fixed batch of 4"):
        write_triton_repository(write_three_outputs(model, batch=4), tmp_path / "none", name="x")
    write_three_outputs(model, batch=1)
    (path,) = write_triton_repository(model, tmp_path / "one", name="x")
    assert checked(path.parent).max_batch_size == 1
    contract, file = read_contract(write_three_outputs(model))
    lower = replace(contract, precision="bf16")
    monkeypatch.setattr(triton_bundle, "read_contract", lambda _path: (lower, file))
    with pytest.raises(UsageError, match="computes in bf16"):
        write_triton_repository(
            file.path, tmp_path / "none", name="x", options=TritonOptions(kind="cpu")
        )
    (path,) = write_triton_repository(file.path, tmp_path / "gpu", name="x")
    (group,) = read_config(path).instance_group
    assert schema().ModelInstanceGroup.Kind.Name(group.kind) == "KIND_GPU"
    assert not (tmp_path / "none").exists()


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_name_of_an_input_survives_the_text_format(name: str) -> None:
    from google.protobuf import text_format

    config = text_format.Parse(f"name: {quoted(name)}", schema().ModelConfig())
    assert config.name == name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("aasist", "aasist"),
        ("x/aasist-l.fp16.onnx", "aasist-l.fp16"),
        ("my model(2).pth", "my-model-2"),
        ("../../etc.onnx", "etc"),
    ],
)
def test_models_are_named_after_their_file(model: str, name: str) -> None:
    assert triton_name(model) == name


@pytest.mark.parametrize("model", ["...onnx", "(((.onnx", ""])
def test_a_file_without_a_name_is_refused(model: str) -> None:
    with pytest.raises(UsageError, match="gives no name"):
        triton_name(model)


def run_client(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CLIENT, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_the_client_prints_the_scores_of_score(tmp_path: Path) -> None:
    model = write_three_outputs(tmp_path / "three.onnx", n_samples=16_000)
    write_triton_repository(model, tmp_path / "repo", name="small")
    random = np.random.default_rng(3)
    clips = [tmp_path / "short.wav", tmp_path / "long.flac", tmp_path / "other rate.wav"]
    for clip, (seconds, rate) in zip(clips, [(0.4, 16_000), (5, 16_000), (2, 8_000)], strict=True):
        wave = np.cumsum(random.normal(size=round(seconds * rate)))
        soundfile.write(clip, 0.5 * wave / np.abs(wave).max(), rate)
    with fake_triton(tmp_path / "repo") as (url, models), open_engine(model, "onnx") as engine:
        for options, rule in (
            ([], WindowRule()),
            (["--windows", "all", "--aggregate", "bottom-3", "--batch", "3"],
             WindowRule(n_windows=None, aggregate="bottom-3")),
        ):  # fmt: skip
            result = run_client(tmp_path / "repo" / "small", *clips, "--url", url, *options)
            assert result.returncode == 0, result.stderr
            lines = [line.rpartition("  ") for line in result.stdout.splitlines()]
            for (path, _, score), clip in zip(lines, clips, strict=True):
                assert path == str(clip)
                (row,) = score_files(engine, [clip], rule=rule, batch=3)
                assert float(score) == row.score  # the digits too
        assert models["small"].batches == [1, 1, 1, 1, 3, 3, 3, 3]


def test_the_client_says_what_is_wrong(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    other = write_tiny_model(tmp_path / "other.onnx", n_samples=900)
    write_triton_repository(model, tmp_path / "repo", name="tiny")
    write_triton_repository(other, tmp_path / "mine", name="tiny")
    write_triton_repository(model, tmp_path / "mine", name="absent")
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, np.full(800, 0.1), 16_000)
    with fake_triton(tmp_path / "repo") as (url, _):
        for folder, words in (
            ("tiny", """takes "{'wave': [-1, 800]}", contract.json says wave of [-1, 900]"""),
            ("absent", "answers 404"),
        ):
            result = run_client(tmp_path / "mine" / folder, clip, "--url", url)
            assert result.returncode == {"tiny": 2, "absent": 3}[folder]
            assert words in result.stderr
            assert "Traceback" not in result.stderr
        result = run_client(tmp_path / "repo" / "tiny", tmp_path / "none.wav", "--url", url)
        assert "none.wav does not exist" in result.stderr
    result = run_client(tmp_path / "repo" / "tiny", clip, "--url", url)
    assert "cannot be reached" in result.stderr
