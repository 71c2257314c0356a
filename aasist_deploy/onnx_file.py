"""The outermost layer of an ONNX file, read and rewritten with the standard library alone.

A model file must be checked before any runtime parses it, and on machines that hold no `onnx`
package. What the check needs is small: the bytes of the graph (their hash is in the contract) and
the key-value metadata. Both are top-level fields of the ModelProto message, so walking that one
level of the protobuf wire format is enough. Inside the graph only one thing is looked for: tensors
whose numbers lie in another file, which a runtime would read from wherever the graph says.

Source: field numbers from onnx.proto (ModelProto: graph 7, metadata_props 14;
StringStringEntryProto: key 1, value 2; those of `_INNER`); wire types from the protobuf encoding
guide.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aasist_deploy.errors import ModelFileError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_FILE_BYTES: Final = 2**31 - 1  # protobuf's own limit for one message
_GRAPH: Final = 7
_METADATA: Final = 14
_LAST_FIELD: Final = 31  # ModelProto's highest is 26; bytes with higher ones are something else
_METADATA_TAG: Final = bytes([_METADATA << 3 | 2])  # 2: bytes with a length, as below
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_TAG: Final = 2**32 - 1  # protobuf drops the bits above, and would see another field than we
# By these letters at byte 4 ONNX Runtime takes a file for its own format, which has no hash here.
_ORT_FORMAT: Final = b"ORTM"

MAX_GRAPH_FIELDS: Final = 1_000_000  # a network of ours has a few ten thousand
MAX_GRAPH_DEPTH: Final = 32  # messages within messages; a node's attribute's tensor is the third

# Message -> field number -> message of the field: the ways from a model to all its tensors.
_INNER: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA: Final = 13  # of TensorProto: where its numbers lie


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxFile:
    """An ONNX file in memory, checked to be one whole ModelProto message.

    Attributes:
        path: Where it was read from.
        content: The bytes of the file; what is checked is what a runtime is given.
        metadata: The key-value pairs of `metadata_props`.
        graph_sha256: Hash of the serialized graph: operators, weights, names, shapes.
    """

    path: Path
    content: bytes
    metadata: dict[str, str]
    graph_sha256: str


def read_onnx_file(path: Path | str) -> OnnxFile:
    """Read an ONNX file and take its metadata and the hash of its graph.

    Raises:
        ModelFileError: there is no such file, it is no ONNX file, or it is cut short.
    """
    path = Path(path)
    try:
        n_bytes = path.stat().st_size
        if n_bytes > MAX_FILE_BYTES:
            raise ModelFileError(f"{path} has {n_bytes} bytes; ONNX allows {MAX_FILE_BYTES}.")
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be read: {error.strerror}.", fix="check the path and its permissions"
        ) from error
    return parse_onnx(content, path)


def parse_onnx(content: bytes, path: Path) -> OnnxFile:
    """Check the bytes of an ONNX file; `path` is used in messages only.

    Raises:
        ModelFileError: the bytes are no ONNX model, or end too early.
    """
    metadata: dict[str, str] = {}
    graph: memoryview | None = None
    n_graphs = 0
    if content[4:8] == _ORT_FORMAT:
        raise ModelFileError(
            f"{path} is in ONNX Runtime's own format, which is not read here.",
            fix="give a file written by: aasist-deploy export CHECKPOINT -o model.onnx",
        )
    view = memoryview(content)
    try:
        for number, value in _model_fields(view):
            if number == _GRAPH and value is not None:
                n_graphs += 1
                graph = value
            elif number == _METADATA and value is not None:
                entry = {n: bytes(v).decode() for n, v in _fields(value) if v is not None}
                metadata[entry.get(1, "")] = entry.get(2, "")
    except (_NotProtobufError, UnicodeDecodeError) as error:
        if graph is None and not metadata and not _starts_like_onnx(content):
            raise ModelFileError(
                f"{path} is not an ONNX model ({len(content)} bytes, {error}).",
                fix="give a file written by: aasist-deploy export CHECKPOINT -o model.onnx",
            ) from error
        raise ModelFileError(
            f"{path} is damaged or cut short: {len(content)} bytes, {error}.",
            fix="copy the file again, or export it again",
        ) from error
    if graph is None:
        raise ModelFileError(
            f"{path} is not an ONNX model: it holds no graph ({len(content)} bytes).",
            fix="give a file written by: aasist-deploy export CHECKPOINT -o model.onnx",
        )
    if n_graphs > 1:  # a runtime would merge them, and the hash would be that of the last
        raise ModelFileError(f"{path} is damaged: it holds {n_graphs} graphs.")
    return OnnxFile(
        path=path, content=content, metadata=metadata, graph_sha256=sha256(graph).hexdigest()
    )


def refuse_external_data(file: OnnxFile) -> None:
    """Refuse a model that is not whole in itself, or whose graph is out of this world.

    Runtimes that are given the bytes of a file look for such tensors in the current folder; the
    hash of the graph says nothing of what lies there.

    Raises:
        ModelFileError: numbers of a tensor lie in another file, or the graph has more fields, or
            more of them within one another, than any network has.
    """
    waiting = [("model", memoryview(file.content))]
    for depth in range(MAX_GRAPH_DEPTH + 1):
        if not waiting:
            return
        if depth == MAX_GRAPH_DEPTH:
            break
        waiting = list(_inner_messages(file, waiting))
    raise ModelFileError(
        f"{file.path} has graphs nested more than {MAX_GRAPH_DEPTH // 3} deep, which no network of "
        f"ours has.",
        fix="export the checkpoint again",
    )


def _inner_messages(
    file: OnnxFile, outer: list[tuple[str, memoryview]]
) -> Iterator[tuple[str, memoryview]]:
    n_fields = 0
    for kind, message in outer:
        inner = _INNER[kind]
        try:
            for number, value in _fields(message):
                n_fields += 1
                if n_fields > MAX_GRAPH_FIELDS:
                    raise ModelFileError(
                        f"{file.path} has more than {MAX_GRAPH_FIELDS} fields in its graph, which "
                        f"no network of ours has.",
                        fix="export the checkpoint again",
                    )
                if kind == "tensor" and number == _EXTERNAL_DATA:
                    raise ModelFileError(
                        f"{file.path} has weights outside of itself, in another file: its hash "
                        f"says nothing of them, and they are not read.",
                        fix="export the checkpoint again; the file it gives is whole in itself",
                    )
                if number in inner and value is not None:
                    yield inner[number], value
        except _NotProtobufError as error:
            raise ModelFileError(
                f"{file.path} is damaged: {error} in its graph.", fix="export it again"
            ) from error


def with_metadata(file: OnnxFile, metadata: Mapping[str, str]) -> bytes:
    """The bytes of the file with other metadata; all else, the graph too, stays byte for byte.

    Args:
        file: The checked file.
        metadata: All key-value pairs that it shall have.

    Raises:
        ModelFileError: the file would be larger than ONNX allows.
    """
    view = memoryview(file.content)
    kept = [view[a:b] for number, a, _, b in _spans(view) if number != _METADATA]
    entries = []
    for key, value in metadata.items():
        texts = (key.encode(), value.encode())
        entry = b"".join(
            bytes([number << 3 | _BYTES]) + _as_varint(len(text)) + text
            for number, text in enumerate(texts, start=1)
        )
        entries.append(_METADATA_TAG + _as_varint(len(entry)) + entry)
    content = b"".join([*kept, *entries])
    if len(content) > MAX_FILE_BYTES:
        raise ModelFileError(
            f"{file.path} with its metadata would have {len(content)} bytes; "
            f"ONNX allows {MAX_FILE_BYTES}."
        )
    return content


def write_onnx_file(path: Path, content: bytes) -> None:
    """Write a file so that the place holds either what it held or the whole new one.

    Raises:
        OutputError: the place cannot be written.
    """
    place = path.resolve()  # a link stays a link
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            if place.exists():
                shutil.copymode(place, temporary)
            temporary.replace(place)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.",
            fix="name a place in an existing folder that you may write to",
        ) from error


class _NotProtobufError(ValueError):
    """The bytes break a rule of the wire format."""


def _starts_like_onnx(content: bytes) -> bool:
    # The first field of every ModelProto in practice: ir_version, a small varint.
    return len(content) > 2 and content[0] == 0x08 and content[1] < 0x40


def _model_fields(view: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    for number, value in _fields(view):
        if number > _LAST_FIELD:
            raise _NotProtobufError(f"unknown field {number}")
        yield number, value


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """Yield (field number, bytes of a length-delimited field or None) of one message."""
    for number, _, start, end in _spans(view):
        yield number, None if start is None else view[start:end]


def _spans(view: memoryview) -> Iterator[tuple[int, int, int | None, int]]:
    """Yield (field number, its first byte, first byte of its bytes or None, end) of each field."""
    position = 0
    while position < len(view):
        first = position
        tag, position = _varint(view, position)
        if tag > _MAX_TAG:
            raise _NotProtobufError(f"a field number of over 29 bits at byte {position - 1}")
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise _NotProtobufError(f"field number 0 at byte {position - 1}")
        if wire_type == _VARINT:
            _, position = _varint(view, position)
            yield number, first, None, position
            continue
        if wire_type == _BYTES:
            length, position = _varint(view, position)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise _NotProtobufError(f"wire type {wire_type} at byte {position - 1}")
        if position + length > len(view):
            missing = position + length - len(view)
            raise _NotProtobufError(f"{missing} bytes are missing in field {number}")
        start, position = position, position + length
        yield number, first, start if wire_type == _BYTES else None, position


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            raise _NotProtobufError("it ends inside a number")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _NotProtobufError(f"a number of over 10 bytes at byte {position - 10}")
