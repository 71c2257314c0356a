from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from aasist_deploy.errors import ModelFileError
from aasist_deploy.onnx_file import OnnxFile, parse_onnx, read_onnx_file

HERE = Path("model.onnx")


def tiny_model(metadata: dict[str, str] | None = None) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "tiny", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, metadata or {})
    return model


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def parse(content: bytes) -> OnnxFile:
    return parse_onnx(content, HERE)


@given(st.dictionaries(st.text(), st.text(), max_size=8))
def test_metadata_and_graph_hash_are_those_that_onnx_wrote(metadata: dict[str, str]) -> None:
    model = tiny_model(metadata)
    file = parse(model.SerializeToString())
    assert file.metadata == metadata
    graph = field(7, model.graph.SerializeToString())
    assert graph in file.content
    assert file.graph_sha256 == sha256(model.graph.SerializeToString()).hexdigest()


def test_every_truncation_is_refused_or_keeps_a_whole_graph() -> None:
    model = tiny_model({"schema": "x" * 200})
    content = model.SerializeToString()
    whole = parse(content).graph_sha256
    for end in range(len(content)):
        try:
            cut = parse(content[:end])
        except ModelFileError:
            continue
        # The cut fell between two fields after the graph: what is there is whole.
        assert cut.graph_sha256 == whole
        assert cut.metadata == {}


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_one_error_or_parse(content: bytes) -> None:
    with suppress(ModelFileError):
        parse(content)


@given(st.data())
def test_changed_bytes_raise_one_error_or_parse(data: st.DataObject) -> None:
    content = bytearray(tiny_model({"schema": "s", "batch": "[1, null]"}).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ModelFileError):
        parse(bytes(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it holds no graph"),
        (b"a text file, not a model\n", "is not an ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not an ONNX model"),
        (b"\x08\x0a" + b"\xff" * 20, "over 10 bytes"),  # a number without end
        (b"\x08\x0a" + varint(7 << 3 | 2) + varint(2**63), "bytes are missing in field 7"),
        (b"\x08\x0a\x3a", "ends inside a number"),
        (b"\x08\x0a" + field(14, b"\x0a\x01\xff"), "damaged or cut short"),  # a key that is no text
        (b"\x08\x0a" + field(14, b"\x0a\x09ab"), "damaged or cut short"),
        (b"\x08\x0a" + field(200, b"ab") + field(7, b""), "unknown field 200"),
    ],
)
def test_what_is_no_model_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as raised:
        parse(content)
    assert raised.value.fix is not None


def test_second_graph_is_refused_because_a_runtime_would_merge_it() -> None:
    content = tiny_model().SerializeToString()
    with pytest.raises(ModelFileError, match="holds 2 graphs"):
        parse(content + field(7, tiny_model().graph.SerializeToString()))


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_place_that_cannot_be_read_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "none.onnx"
    with pytest.raises(ModelFileError, match="cannot be read") as raised:
        read_onnx_file(path)
    assert str(path) in str(raised.value)


def test_file_over_the_limit_of_protobuf_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # sparse
    with pytest.raises(ModelFileError, match="ONNX allows 2147483647"):
        read_onnx_file(path)
