"""Requests that the server refuses: without the token, malformed, with options that are none."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.unit.serving.conftest import everything

if TYPE_CHECKING:
    from collections.abc import Callable

    Wav = Callable[..., bytes]

TOKEN = "a-token-of-enough-characters"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer wrong-token",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        "Bearer \xe9",
    ],
)
def test_without_the_token_nothing_is_scored(serve: Any, wav: Wav, given: str) -> None:
    server = serve(token=TOKEN)
    answer = server.raw(wav(0.1), **({"Authorization": given} if given else {}))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.body.decode()
    assert server.engine.batches == []
    for path in ("/healthz", "/readyz", "/metrics"):
        assert server.get(path).status == 200


def test_with_the_token_files_are_scored(serve: Any, wav: Wav) -> None:
    server = serve(token=TOKEN, protect_metrics=True)
    for kind in ("Bearer", "bearer"):
        assert server.raw(wav(0.1), Authorization=f"{kind} {TOKEN}").status == 200
    assert server.get("/metrics").status == 401
    assert server.get("/metrics", Authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?windows=none", "first, all, or a number"),
        ("?windows=0", "number of windows is 0"),
        ("?windows=99999999999", "first, all, or a number"),
        ("?hop=1", "first window alone"),
        ("?windows=all&hop=-1", "above 0"),
        ("?windows=all&hop=nan", "above 0"),
        ("?windows=all&hop=abc", "hop"),
        ("?windows=all&aggregate=median", "no aggregate"),
        ("?window=all", "no option 'window'"),
        ("?window_scores=perhaps", "window_scores"),
    ],
)
def test_options_that_are_none_get_400(serve: Any, wav: Wav, query: str, words: str) -> None:
    server = serve()
    answer = server.raw(wav(0.1), query)
    assert answer.status == 400
    assert words in answer.json["error"]
    assert server.engine.batches == []


def test_compressed_bodies_and_other_methods_and_paths_are_refused(serve: Any, wav: Wav) -> None:
    server = serve()
    answer = server.raw(wav(0.1), **{"Content-Encoding": "gzip"})
    assert (answer.status, answer.json["error"]) == (415, "The body is compressed.")
    assert server.get("/score").status == 405
    assert server.get("/score/../../etc/passwd").status == 404
    assert server.get("/docs").status == 404
    assert server.request("POST", "/healthz", b"x").status == 405


def test_malformed_requests_end_neither_the_server_nor_its_answers(serve: Any, wav: Wav) -> None:
    server = serve()
    random = np.random.default_rng(11)
    whole = (
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        b'Content-Length: 90\r\n\r\n--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\n'
    )
    for turn in range(150):
        sent = bytearray(whole + random.bytes(60))
        for _ in range(turn % 7):
            place = int(random.integers(len(sent)))
            sent[place : place + int(random.integers(3))] = random.bytes(int(random.integers(4)))
        with socket.create_connection(("127.0.0.1", server.port), 20) as client:
            client.sendall(bytes(sent[: int(random.integers(1, len(sent) + 1))]))
            client.shutdown(socket.SHUT_WR)
            begin = time.monotonic()
            data = everything(client)
            assert time.monotonic() - begin < 15
            assert not data or data.startswith(b"HTTP/1.1 ")
            assert b"Traceback" not in data
    assert server.raw(wav(0.3)).scores == [pytest.approx(3)]
    assert server.service.admission.n_files == server.service.admission.n_bytes == 0
