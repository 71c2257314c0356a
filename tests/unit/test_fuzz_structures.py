"""Files whose check sums and lengths are right and whose content is not.

A changed byte mostly ends at the first check: of a tar header, of a zip's member, of a length. Here
the parts inside are changed and the checks made right again, as someone who means harm would.
"""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="checkpoints need it")
pytest.importorskip("fastapi", reason="needs the extra serve")

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from aasist_deploy.errors import CheckpointError, ModelFileError
from aasist_deploy.inputs._archives import audio_inside
from aasist_deploy.models import load_checkpoint
from aasist_deploy.onnx_file import parse_onnx, refuse_external_data, with_metadata
from aasist_deploy.serving import Limits
from aasist_deploy.serving.uploads import Admission, Budget, RefusedError, read_uploads
from tests.fuzzing import n_examples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aasist_deploy.models import Checkpoint

FUZZ = settings(
    suppress_health_check=list(HealthCheck), deadline=10_000, max_examples=n_examples(40)
)
BLOCK = 512  # of tar
WORDS = (
    b"\0", b"\xff", b"\x80" + bytes(7) + b"\1", b"7777777", b"-1", b" ", b"\n", b"=", b"../", b"/",
    b"99999999999999999999", b"nan", b"1e999", b"NaN", b"[" * 2_000, b"{}", b"null", b'"', b";",
)  # fmt: skip
PAX_KEYS = (
    "path", "size", "mtime", "uid", "linkpath", "hdrcharset", "GNU.sparse.map", "GNU.sparse.size",
    "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.numblocks", "GNU.sparse.realsize",
    "GNU.sparse.offset", "GNU.sparse.numbytes", "GNU.sparse.name",
)  # fmt: skip
PAX_VALUES = (
    "", "0", "1", "-1", "600", "1.0", "nan", "1e999", "0,600", "0,1,2", "a,b", "9" * 30, "BINARY",
    "../a.wav", "x.wav", "\udcff",
)  # fmt: skip


def edited(data: st.DataObject, content: bytes, most: int = 3) -> bytes:
    """Some bytes replaced, left out or put in."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, most))):
        start = data.draw(st.integers(0, len(changed)))
        end = start + data.draw(st.sampled_from((0, 1, 1, 2, 8)))
        changed[start:end] = data.draw(st.sampled_from(WORDS) | st.binary(max_size=4))
    return bytes(changed)


def with_check_sum(block: bytes) -> bytes:
    """A header of tar whose sum is right."""
    blank = block[:148] + b" " * 8 + block[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


KINDS = b"0\0" + b"123456789gxLKSVNAD"  # of members and headers, some of them extinct


@st.composite
def tar_member(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from(("a.wav", "x/b.flac", "./c.wav", "d.txt", "", "\udcff.wav")))
    info = tarfile.TarInfo(name)
    content = draw(st.binary(max_size=40))
    info.size = draw(st.sampled_from((len(content), 0, 1, BLOCK, 2**33)))
    pairs = st.dictionaries(st.sampled_from(PAX_KEYS), st.sampled_from(PAX_VALUES), max_size=5)
    if draw(st.booleans()):
        info.pax_headers = draw(pairs)
    with suppress(ValueError, UnicodeError):  # tarfile itself refuses some of these
        head = bytearray(info.tobuf(draw(st.sampled_from((0, 1, 2))), errors="surrogateescape"))
        at = len(head) - BLOCK
        if draw(st.booleans()):
            head[at + 156] = draw(st.sampled_from(KINDS))
        for _ in range(draw(st.integers(0, 2))):
            place = at + draw(st.integers(0, BLOCK - 13))
            word = draw(st.sampled_from(WORDS) | st.binary(max_size=4))[:12]
            head[place : place + len(word)] = word
        head[at:] = with_check_sum(bytes(head[at:]))
        return bytes(head) + content.ljust(-(-len(content) // BLOCK) * BLOCK, b"\0")
    return b""


@FUZZ
@given(members=st.lists(tar_member(), max_size=4), end=st.sampled_from((0, 1, 2, 3)))
def test_tar_whose_sums_are_right_gives_rows_and_no_other_error(
    members: list[bytes], end: int, tmp_path: Path
) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"".join(members) + bytes(end * BLOCK))
    found = list(audio_inside(path))
    assert found
    for one in found:
        assert (one.content is None) == (one.error is not None)


@FUZZ
@given(data=st.data())
def test_checkpoint_whose_members_are_changed_loads_or_raises_one_error(
    data: st.DataObject, small_checkpoint: Checkpoint, small_config: dict[str, Any], tmp_path: Path
) -> None:
    """The pickle, the byte order, the version or a tensor, in a zip that is right."""
    path = tmp_path / "weights.pth"
    whole = io.BytesIO()
    torch.save(dict(small_checkpoint.model.state_dict()), whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        names = source.namelist()
        texts = [name for name in names if "/data/" not in name]
        victims = data.draw(st.lists(st.sampled_from(texts) | st.sampled_from(names), max_size=2))
        for name in names:
            content = source.read(name)
            if name in victims and data.draw(st.booleans()):
                continue
            target.writestr(name, edited(data, content) if name in victims else content)
    with suppress(CheckpointError):
        load_checkpoint(path, small_config)


@FUZZ
@given(data=st.data())
def test_safetensors_whose_header_is_changed_load_or_raise_one_error(
    data: st.DataObject, small_checkpoint: Checkpoint, small_config: dict[str, Any], tmp_path: Path
) -> None:
    """Values of the header replaced, names too, and its length right."""
    path = tmp_path / "weights.safetensors"
    weights = save(
        dict(small_checkpoint.model.state_dict()), {"model_config": json.dumps(small_config)}
    )
    n_header = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + n_header])
    dtypes = ("F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F8_E8M0", "C64", "F4", "x")
    odd: st.SearchStrategy[Any] = st.sampled_from(
        (None, -1, 0, 2**63, 2**64, 1e300, "", "x", [], {}, [0], [0, 0], [2**62, 4], True, *dtypes)
    )
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(header)))
        entry = header[name]
        kind = data.draw(st.sampled_from(("drop", "rename", "entry", "value", "value")))
        if kind in ("drop", "rename"):
            del header[name]
            if kind == "rename":
                header[data.draw(st.text(max_size=3))] = entry
        elif kind == "entry" or not isinstance(entry, dict) or not entry:
            header[name] = data.draw(odd)
        else:
            header[name] = {**entry, data.draw(st.sampled_from(sorted(entry))): data.draw(odd)}
        if not header:
            break
    text = edited(data, json.dumps(header).encode(), 1)
    path.write_bytes(len(text).to_bytes(8, "little") + text + weights[8 + n_header :])
    with suppress(CheckpointError):
        load_checkpoint(path, data.draw(st.sampled_from((None, small_config))))


def as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# Fields of a model, a graph, a node, an attribute, a tensor, and of none.
NUMBERS = st.sampled_from((1, 2, 5, 6, 7, 10, 11, 13, 14, 15, 20, 22, 25, 31, 32, 2**29 - 1))


def message(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Protobuf whose lengths are right."""
    scalar = st.integers(0, 2**70).map(as_varint)
    field = st.one_of(
        st.tuples(NUMBERS, st.just(0), scalar),
        st.tuples(NUMBERS, st.just(1), st.binary(min_size=8, max_size=8)),
        st.tuples(NUMBERS, st.just(2), inner.map(lambda x: as_varint(len(x)) + x)),
        st.tuples(NUMBERS, st.sampled_from((3, 4, 5, 6, 7)), st.binary(max_size=4)),
    ).map(lambda f: as_varint(f[0] << 3 | f[1]) + f[2])
    return st.lists(field, max_size=5).map(b"".join)


@FUZZ
@given(content=st.recursive(st.binary(max_size=20), message, max_leaves=20), data=st.data())
def test_onnx_file_whose_lengths_are_right_parses_or_raises_one_error(
    content: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.sampled_from((b"", b"\x08\x0a", b"\x08\x0a\x3a\x00")))
    with suppress(ModelFileError):
        file = parse_onnx(start + content, Path("model.onnx"))
        again = parse_onnx(with_metadata(file, {"a": "b"}), Path("model.onnx"))
        assert again.graph_sha256 == file.graph_sha256
        assert again.metadata == {"a": "b"}
        refuse_external_data(file)


LIMITS = Limits(max_upload_mib=1 / 1024, max_files=4, held_uploads=3)
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\nfirst\r\n--y\r\n--x\r\n"
    b"Content-Disposition: form-data; name=g; filename*=UTF-8''%c3%a9.wav\r\n\r\n\xff\0\r\n"
    b"--x--\r\n"
)
TYPES = ("multipart/form-data; boundary=x", 'Multipart/Form-Data; charset=utf-8; boundary="x"')


@FUZZ
@given(data=st.data())
def test_form_that_is_changed_is_files_or_one_refusal(data: st.DataObject) -> None:
    body = edited(data, FORM, 4)
    kind = data.draw(st.sampled_from(TYPES))
    if data.draw(st.booleans()):
        kind = edited(data, kind.encode()).decode("latin-1")
    sizes = data.draw(st.lists(st.integers(1, 80), min_size=1, max_size=5))

    async def chunks() -> AsyncIterator[bytes]:
        start, turn = 0, 0
        while start < len(body):
            size = sizes[turn % len(sizes)]
            yield body[start : start + size]
            start, turn = start + size, turn + 1

    budget = Budget(Admission(LIMITS), LIMITS)
    refusal, uploads = None, []
    try:
        uploads = asyncio.run(read_uploads(chunks(), kind, "n", budget, LIMITS))
    except RefusedError as error:
        refusal = error
    if refusal is not None:
        assert refusal.status in (400, 413, 415)
        assert str(refusal).isprintable()
    else:
        assert 1 <= len(uploads) <= LIMITS.max_files
        assert all(one.name.isprintable() and "/" not in one.name for one in uploads)
