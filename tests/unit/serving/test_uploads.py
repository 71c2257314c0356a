"""Bodies to files, whatever they hold."""

from __future__ import annotations

import asyncio
import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import UsageError
from aasist_deploy.serving import Limits
from aasist_deploy.serving.uploads import (
    Admission,
    Budget,
    RefusedError,
    read_uploads,
    safe_name,
)
from tests.fuzzing import n_examples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aasist_deploy.serving.scoring import Upload

LIMITS = Limits(max_upload_mib=1 / 1024, max_files=4, held_uploads=3)  # 1,024 bytes
KIND = "multipart/form-data; boundary=x"


def read(chunks: Iterable[bytes], kind: str = KIND, name: str | None = None) -> list[Upload]:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    admission = Admission(LIMITS)
    budget = Budget(admission, LIMITS)
    try:
        return asyncio.run(read_uploads(body(), kind, name, budget, LIMITS))
    finally:
        assert budget.n_bytes <= LIMITS.max_upload_bytes
        assert admission.n_bytes == budget.n_bytes
        budget.release()
        assert admission.n_bytes == 0


def refused(chunks: Iterable[bytes], kind: str = KIND) -> RefusedError:
    with pytest.raises(RefusedError) as raised:
        read(chunks, kind)
    return raised.value


def read_or_refuse(chunks: Iterable[bytes], kind: str) -> list[Upload] | RefusedError:
    try:
        return read(chunks, kind)
    except RefusedError as error:
        return error


def part(name: str, content: bytes) -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


BODY = part("a.wav", b"first\r\n--y\r\n") + part("b.wav", bytes(range(256))) + b"--x--\r\n"


@given(st.lists(st.integers(1, 60), min_size=1))
@example([1])
@settings(max_examples=n_examples(60), deadline=None)
def test_files_are_the_same_however_their_bytes_arrive(sizes: list[int]) -> None:
    chunks: list[bytes] = []
    start = 0
    while start < len(BODY):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(BODY[start : start + size])
        start += size
    uploads = read(chunks)
    assert [(one.name, one.content) for one in uploads] == [
        ("a.wav", b"first\r\n--y\r\n"),
        ("b.wav", bytes(range(256))),
    ]


@given(st.binary(max_size=1_200), st.integers(1, 300))
@example(b"--x\r\n\r\n\r\n--x--", 3)
@example(b"--x\r\nContent-Disposition: form-data; filename=\r\n\r\n\r\n--x--\r\n", 300)
@settings(max_examples=n_examples(150), deadline=None)
def test_any_bytes_are_files_or_one_refusal(content: bytes, size: int) -> None:
    for body in (content, BODY[:40] + content, BODY[: len(content) % len(BODY)] + content):
        chunks = [body[i : i + size] for i in range(0, len(body), size)]
        for kind in (KIND, "audio/wav", "text/plain"):
            found = read_or_refuse(chunks, kind)
            if isinstance(found, RefusedError):
                assert found.status in (400, 413, 415)
            else:
                assert 1 <= len(found) <= LIMITS.max_files


@given(st.text(max_size=200))
@settings(max_examples=n_examples(150), deadline=None)
def test_any_content_type_is_taken_or_refused(kind: str) -> None:
    found = read_or_refuse([BODY], kind)
    if isinstance(found, RefusedError):
        assert found.status in (400, 413, 415)
        assert str(found).isprintable()


@given(st.text(max_size=400))
@example("../../etc/passwd")
@example("C:\\Users\\x\\call.wav")
@example("..")
@example("")
@example("\0\r\n\x1b[31m\u202e")
@settings(deadline=None)
def test_a_name_is_one_line_without_folders(name: str) -> None:
    shown = safe_name(name)
    assert 1 <= len(shown) <= 255
    assert shown.isprintable()
    assert not set("/\\") & set(shown)
    assert shown.strip(".")


def test_names_are_kept_where_they_are_harmless() -> None:
    for name in ("call 7.wav", "prüfung.flac", "a<b>.ogg", ".hidden"):
        assert safe_name(name) == name
    assert safe_name("/x/y/call.wav") == "call.wav"


def test_a_body_over_the_limit_is_refused_before_it_is_kept() -> None:
    for kind in ("audio/wav", KIND):
        error = refused([part("a", b"x" * 900), b"x" * 900], kind)
        assert error.status == 413
        assert "1024 bytes" in str(error)


def test_uploads_in_memory_have_a_limit_together() -> None:
    admission = Admission(LIMITS)
    budgets = [Budget(admission, LIMITS) for _ in range(4)]
    for budget in budgets[:3]:
        budget.take(1_000)
    with pytest.raises(RefusedError) as raised:
        budgets[3].take(1_000)
    assert raised.value.status == 503
    budgets[0].release()
    budgets[0].release()
    budgets[3].take(1_000)
    assert admission.n_bytes == 3_000


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (BODY, "multipart/form-data", "no boundary"),
        (BODY, "multipart/form-data; boundary=" + 71 * "x", "no boundary"),
        (BODY[:-6], KIND, "before its last boundary"),
        (b"--x--\r\n", KIND, "holds no file"),
        (b"--x\r\nContent-Disposition: form-data; name=windows\r\n\r\nall\r\n--x--", KIND,
         "is no file"),
        (b"no boundary at all", KIND, "malformed"),
        (b"", "audio/wav", "empty"),
        (b"x", "text/plain", "'text/plain'"),
        (b"x", "", "not given"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(body: bytes, kind: str, words: str) -> None:
    error = refused([body], kind)
    assert error.status in (400, 415)
    assert words in str(error)


def test_more_files_than_allowed_are_refused() -> None:
    error = refused([part("a", b"x")] * 5)
    assert error.status == 413
    assert "4 files" in str(error)


def test_a_body_that_is_a_file_has_the_name_it_is_given() -> None:
    assert read([b"ab", b"c"], "audio/flac", "x/call.flac")[0].name == "call.flac"
    (upload,) = read([b"ab", b"c"], "application/octet-stream; x=y")
    assert (upload.name, upload.content) == ("upload", b"abc")


@pytest.mark.parametrize(
    "limits",
    [
        {"max_upload_mib": 0},
        {"max_seconds": float("nan")},
        {"timeout_s": -1},
        {"grace_s": float("inf")},
        {"queue": 0},
        {"max_windows": 0},
        {"queue": 3, "max_files": 4},
    ],
)
def test_limits_that_cannot_be_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as raised:
        Limits(**limits)
    assert set(string.digits + "ni") & set(str(raised.value))
