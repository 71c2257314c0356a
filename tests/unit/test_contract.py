from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from aasist_deploy.contract import SCHEMA, ModelContract, read_contract
from aasist_deploy.errors import ModelFileError
from aasist_deploy.onnx_file import parse_onnx

HERE = Path("model.onnx")
CONTRACT = ModelContract(
    architecture="AASIST",
    config={"architecture": "AASIST", "nb_samp": 64_600},
    sample_rate_hz=16_000,
    n_samples=64_600,
    min_samples=64_600,
    outputs={"score": "logit of bona fide, (batch,)"},
    checkpoint_sha256="ab" * 32,
)
SIZES = st.integers(1, 10**6)
NAMES = st.text(min_size=1, max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
CONTRACTS = st.builds(
    ModelContract,
    architecture=st.text(),
    config=st.dictionaries(NAMES, st.none() | NUMBERS | st.lists(SIZES) | st.text()),
    sample_rate_hz=SIZES,
    n_samples=st.none() | SIZES,
    min_samples=SIZES,
    max_samples=st.none() | SIZES,
    outputs=st.dictionaries(NAMES, st.text()).map(lambda d: {**d, "logits": "x"}),
    checkpoint_sha256=st.text(),
    graph_sha256=st.text(),
    class_order=st.lists(NAMES).map(tuple),
    score=st.text(),
    precision=NAMES,
    fp32_nodes=st.lists(NAMES).map(tuple),
    topk=st.dictionaries(NAMES, st.text() | st.dictionaries(NAMES, NUMBERS)),
    batch=st.tuples(SIZES, st.none() | SIZES),
    calibration=st.none()
    | st.fixed_dictionaries({"scale": st.floats(1e-6, 1e6), "offset": NUMBERS}),
    thresholds=st.dictionaries(NAMES, NUMBERS),
    tools=st.dictionaries(NAMES, st.text()),
)


def model_with(metadata: dict[str, str]) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("wave", "score")]
    graph = helper.make_graph(
        [helper.make_node("Abs", ["wave"], ["score"])], "tiny", value[:1], value[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, metadata)
    return model


def with_contract() -> bytes:
    graph_sha256 = parse_onnx(model_with({}).SerializeToString(), HERE).graph_sha256
    contract = replace(CONTRACT, graph_sha256=graph_sha256)
    content: bytes = model_with(contract.to_metadata()).SerializeToString()
    return content


@given(CONTRACTS)
def test_contract_reads_back_as_it_was_written(contract: ModelContract) -> None:
    metadata = contract.to_metadata()
    assert all(isinstance(value, str) for value in metadata.values())
    assert ModelContract.from_metadata(metadata, HERE) == contract


def test_every_field_is_one_entry_of_the_metadata() -> None:
    assert set(CONTRACT.to_metadata()) == {f.name for f in fields(ModelContract)}


def test_entries_of_others_are_ignored() -> None:
    metadata = {**CONTRACT.to_metadata(), "author": "someone"}
    assert ModelContract.from_metadata(metadata, HERE) == CONTRACT


@pytest.mark.parametrize("metadata", [{}, {"author": "someone"}])
def test_model_without_contract_is_refused_with_the_way_to_get_one(
    metadata: dict[str, str],
) -> None:
    with pytest.raises(ModelFileError, match=r"model\.onnx carries no contract") as raised:
        ModelContract.from_metadata(metadata, HERE)
    assert "aasist-deploy export" in str(raised.value.fix)


def test_newer_schema_is_refused_with_both_versions() -> None:
    metadata = {**CONTRACT.to_metadata(), "schema": "aasist-deploy/contract/2"}
    with pytest.raises(ModelFileError, match=r"model\.onnx: .*contract/2.*this version reads.*/1"):
        ModelContract.from_metadata(metadata, HERE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sample_rate_hz", "0"),
        ("sample_rate_hz", "16000.0"),
        ("sample_rate_hz", "true"),
        ("sample_rate_hz", "sixteen"),
        ("n_samples", "0"),
        ("n_samples", "-5"),
        ("n_samples", '"64600"'),
        ("min_samples", "null"),
        ("max_samples", "0"),
        ("batch", "[1]"),
        ("batch", "[0, null]"),
        ("batch", "[1, 0]"),
        ("batch", "7"),
        ("batch", "{}"),
        ("padding", "zeros"),
        ("outputs", "{}"),
        ("outputs", '["score"]'),
        ("outputs", "["),
        ("topk", "[]"),
        ("config", "3"),
        ("config", "[" * 100_000),
        ("fp32_nodes", "1"),
        ("thresholds", "null"),
        ("tools", "[]"),
        ("thresholds", '{"eer": "high"}'),
        ("thresholds", '{"eer": Infinity}'),
        ("calibration", '{"scale": -1.0, "offset": 0.0}'),
        ("calibration", '{"scale": 1.0}'),
        ("calibration", '"none"'),
    ],
)
def test_value_that_no_reader_could_act_on_is_refused(name: str, text: str) -> None:
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        ModelContract.from_metadata({**CONTRACT.to_metadata(), name: text}, HERE)


@pytest.mark.parametrize("name", ["architecture", "outputs", "checkpoint_sha256"])
def test_incomplete_contract_is_refused(name: str) -> None:
    metadata = CONTRACT.to_metadata()
    del metadata[name]
    with pytest.raises(ModelFileError, match=f"cannot be read.*{name}"):
        ModelContract.from_metadata(metadata, HERE)


def test_file_with_contract_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(with_contract())
    contract, file = read_contract(path)
    assert contract.schema == SCHEMA
    assert file.content == with_contract()
    assert replace(contract, graph_sha256="") == CONTRACT


def test_change_of_the_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(with_contract().replace(b"Abs", b"Neg"))
    with pytest.raises(ModelFileError, match="was altered after export"):
        read_contract(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_raises_one_error_or_leaves_the_graph_whole(
    data: st.DataObject, tmp_path: Path
) -> None:
    original = with_contract()
    content = bytearray(original)
    changes = data.draw(st.integers(0, 3))
    for _ in range(changes):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.integers(0, len(content)) if changes == 0 else st.just(len(content)))
    path = tmp_path / "model.onnx"
    path.write_bytes(content[:end])
    with suppress(ModelFileError):
        _, file = read_contract(path)
        assert file.graph_sha256 == parse_onnx(original, HERE).graph_sha256


@given(st.sampled_from(sorted(CONTRACT.to_metadata())), st.text())
def test_any_text_in_a_field_raises_one_error_or_reads(name: str, text: str) -> None:
    with suppress(ModelFileError):
        ModelContract.from_metadata({**CONTRACT.to_metadata(), name: text}, HERE)


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)


@given(st.sampled_from(sorted(CONTRACT.to_metadata())), JSON)
def test_any_json_in_a_field_raises_one_error_or_reads(name: str, value: Any) -> None:
    with suppress(ModelFileError):
        ModelContract.from_metadata({**CONTRACT.to_metadata(), name: json.dumps(value)}, HERE)
