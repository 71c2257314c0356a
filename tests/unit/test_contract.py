from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from aasist_deploy.contract import SCHEMA, ModelContract, read_contract
from aasist_deploy.errors import ModelFileError
from aasist_deploy.onnx_file import parse_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path("model.onnx")
DOCS = Path(__file__).resolve().parents[2] / "docs"
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
# One line of text: no control character, no separator of lines, no half of a character.
CHARACTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
LINES = st.text(CHARACTERS)
NAMES = st.text(CHARACTERS, min_size=1, max_size=8)
TEXTS = st.text()
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
CONTRACTS = st.builds(
    ModelContract,
    architecture=LINES,
    config=st.dictionaries(TEXTS, st.none() | NUMBERS | st.lists(SIZES) | TEXTS),
    sample_rate_hz=SIZES,
    n_samples=st.none() | SIZES,
    min_samples=SIZES,
    max_samples=st.none() | SIZES,
    outputs=st.dictionaries(NAMES, LINES).map(lambda d: {**d, "logits": "x"}),
    checkpoint_sha256=LINES,
    graph_sha256=LINES,
    class_order=st.lists(NAMES).map(tuple),
    score=LINES,
    precision=NAMES,
    fp32_nodes=st.lists(NAMES).map(tuple),
    topk=st.dictionaries(TEXTS, TEXTS | st.dictionaries(TEXTS, NUMBERS)),
    batch=st.tuples(SIZES, st.none() | SIZES),
    calibration=st.none()
    | st.fixed_dictionaries({"scale": st.floats(1e-6, 1e6), "offset": NUMBERS}),
    thresholds=st.dictionaries(NAMES, NUMBERS),
    tools=st.dictionaries(NAMES, LINES),
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
        ("config", '{"a": NaN}'),
        ("config", '{"a": 1, "a": 2}'),
        ("config", '{"a": 1e999}'),
        ("thresholds", '{"eer": 0.5, "eer": -9.5}'),
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


NO_LINES = ["\n", "\r", "\x00", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]
HALF = "\ud800"  # half a character, which JSON can hold
TEXT_FIELDS = ("architecture", "checkpoint_sha256", "input_name", "precision", "score")
LIST_FIELDS = ("class_order", "fp32_nodes")
MAPPINGS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "name in outputs": lambda text: {"outputs": {"score": "x", text: "y"}},
    "name in thresholds": lambda text: {"thresholds": {text: 0.5}},
    "name in tools": lambda text: {"tools": {text: "1.0"}},
    "outputs['score']": lambda text: {"outputs": {"score": text}},
    "tools['torch']": lambda text: {"tools": {"torch": text}},
}
# Each text that people and programs take for one line.
PLACES = (*TEXT_FIELDS, *LIST_FIELDS, *MAPPINGS)


def put(place: str, text: Any) -> dict[str, Any]:
    """Fields of a contract with the text in its place."""
    if place in MAPPINGS:
        return MAPPINGS[place](text)
    return {place: text if place in TEXT_FIELDS else ["a", text]}


@pytest.mark.parametrize("place", PLACES)
def test_a_text_of_more_than_one_line_is_refused_when_read_and_when_made(place: str) -> None:
    plain = json.loads(json.dumps(CONTRACT.to_dict()))
    for one in [*NO_LINES, HALF]:
        changes = put(place, f"AASIST{one}# evil")
        with pytest.raises(ModelFileError) as raised:
            replace(CONTRACT, **changes)
        assert f"The contract's {place} is 'AASIST" in str(raised.value)
        assert f"the character U+{ord(one):04X}; it must be one line" in str(raised.value)
        assert str(raised.value).isprintable()
        with pytest.raises(ModelFileError, match=r"model\.onnx: The contract's .*one line of text"):
            ModelContract.from_dict({**plain, **changes}, HERE)
        metadata = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in changes.items()
        }
        with pytest.raises(ModelFileError, match=r"model\.onnx: The contract's .*one line of text"):
            ModelContract.from_metadata({**CONTRACT.to_metadata(), **metadata}, HERE)


@pytest.mark.parametrize("place", PLACES)
def test_the_schema_of_the_document_draws_the_same_line(place: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs the group dev")
    schema = json.loads((DOCS / "schemas" / "contract.schema.json").read_text())
    valid = jsonschema.Draft202012Validator(schema).is_valid
    plain = {**json.loads(json.dumps(CONTRACT.to_dict())), "graph_sha256": "ab" * 32}
    assert valid(plain)
    free = place not in ("score", "checkpoint_sha256")  # of a fixed form anyhow
    for one in [*NO_LINES, HALF]:
        assert not valid({**plain, **put(place, f"a{one}b")})
        assert not valid({**plain, **put(place, f"a{one}")})
    assert valid({**plain, **put(place, "AASIST größer \u200f")}) == free


@pytest.mark.parametrize("place", PLACES)
def test_a_line_may_hold_letters_of_any_script(place: str) -> None:
    for text in ("AASIST größer", "\u4e2d\u6587", "a\u200fb", "\U0001f50a", "<b>|`'\"", " "):
        replace(CONTRACT, **put(place, text))


@pytest.mark.parametrize("place", [one for one in PLACES if not one.startswith("name in")])
def test_what_is_no_text_is_refused(place: str) -> None:
    for value in (3, None, ["a"], {"b": 1.5}):
        with pytest.raises(ModelFileError, match="it must be a text"):
            replace(CONTRACT, **put(place, value))


def test_texts_of_the_configuration_may_have_lines() -> None:
    """A network of one's own may take them; they are shown as JSON, never as they are."""
    contract = replace(CONTRACT, config={"prompt": "two\nlines\x1b"})
    assert ModelContract.from_metadata(contract.to_metadata(), HERE) == contract


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
