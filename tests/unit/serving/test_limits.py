"""What is too much, too long or too slow for the server is cut, and said."""

from __future__ import annotations

import gc
import inspect
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.pipeline import InThreads
from aasist_deploy.pipeline.stages import Piece
from aasist_deploy.serving import app, running
from tests.unit.serving.conftest import everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Wav = Callable[..., bytes]


def test_overload_is_answered_with_503_and_passes(serve: Any, wav: Wav, slow_engine: Any) -> None:
    server = serve(slow_engine(), warm=False, queue=5)
    with ThreadPoolExecutor(5) as pool:
        inside = [pool.submit(server.raw, wav(0.1 * i)) for i in range(5)]
        server.wait_for(lambda: server.service.admission.n_files == 5)
        for answer in (server.raw(wav(0.9)), server.files({"a": wav(0.9), "b": wav(0.9)})):
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert "5 files" in answer.json["error"]
        assert server.get("/readyz").status == 200
        assert server.metric("aasist_deploy_queue_files") == 5
        server.engine.gate.set()
        assert np.allclose([one.result().scores[0] for one in inside], range(5), atol=1e-5)
    assert server.raw(wav(0.2)).status == 200
    assert server.service.admission.n_files == server.service.admission.n_bytes == 0


def test_files_of_one_request_count_one_by_one(serve: Any, wav: Wav, slow_engine: Any) -> None:
    server = serve(slow_engine(), warm=False, queue=4)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.files, {"a": wav(0.1), "b": wav(0.2), "c": wav(0.3)})
        server.wait_for(lambda: server.service.admission.n_files == 3)
        assert server.files({"a": wav(0.1), "b": wav(0.2)}).status == 503
        server.engine.gate.set()
        assert first.result().status == 200
    assert server.service.admission.n_files == 0


@pytest.mark.parametrize("how", ["declared", "counted", "in parts"])
def test_an_upload_that_is_too_large_gets_413(serve: Any, wav: Wav, how: str) -> None:
    server = serve(max_upload_mib=0.1)
    content = wav(0.1, 40_000)  # 160,044 bytes
    if how == "declared":
        answer = server.raw(content)
    elif how == "counted":
        answer = server.raw(content[i : i + 5_000] for i in range(0, len(content), 5_000))
    else:
        answer = server.files({"a.wav": wav(0.1), "b.wav": content})
    assert answer.status == 413
    assert "104857 bytes" in answer.json["error"]
    assert server.service.admission.n_bytes == 0
    assert server.raw(wav(0.1)).status == 200


def test_uploads_that_never_end_are_cut(serve: Any) -> None:
    """Also after the refusal, while the rest is read so that the answer arrives."""
    server = serve(max_upload_mib=0.1)
    with socket.create_connection(("127.0.0.1", server.port), 20) as client:
        client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n")
        client.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        much = 16_384 * (b"1000\r\n" + 4_096 * b"x" + b"\r\n")  # 64 MiB
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            client.sendall(much)
    assert server.metric("aasist_deploy_requests_total", path="/score", status="413") == 1


def test_a_file_that_lasts_too_long_gets_413(serve: Any, wav: Wav) -> None:
    server = serve(max_seconds=1.0)
    for query in ("", "?windows=all", "?windows=2"):
        answer = server.raw(wav(0.1, 16_500), query)
        assert answer.status == 413
        assert "takes 1 s" in answer.json["files"][0]["error"]
        assert server.raw(wav(0.1, 16_000), query).status == 200


def test_no_more_is_decoded_than_shows_that_a_file_is_too_long(serve: Any, wav: Wav) -> None:
    given: list[int] = []
    wanted_samples: list[int | None] = []

    class Endless(InThreads):
        """A file that does not say how long it is."""

        def pieces(self, _source: Any, wanted: Any) -> Any:
            wanted_samples.append(wanted.max_samples)
            begun.append(self.endless())
            return begun[-1]

        def endless(self) -> Iterator[Piece]:
            while True:
                given.append(1)
                yield Piece(np.zeros(1_000, np.float32))

    begun: list[Any] = []  # held here, so that only a decoder that is let go of ends
    server = serve(decoders=Endless(), warm=False, max_seconds=1.0)
    assert server.raw(wav(0.1), "?windows=all").status == 413
    assert len(given) == 17
    assert wanted_samples == [16_001]
    assert [inspect.getgeneratorstate(one) for one in begun] == ["GEN_CLOSED"]


def test_more_windows_than_allowed_get_413(serve: Any, wav: Wav) -> None:
    server = serve(max_windows=20)
    answer = server.raw(wav(0.1, 16_000), "?windows=all&hop=0.001")
    assert answer.status == 413
    assert "more than 20 windows" in answer.json["files"][0]["error"]
    assert sum(server.engine.batches) <= 20
    assert server.raw(wav(0.1, 16_000), "?windows=20&hop=0.001").status == 200


def test_a_request_that_takes_too_long_gets_504_and_is_given_up(
    serve: Any, wav: Wav, slow_engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # Long enough to be decoded and begun with on a busy machine.
    server = serve(slow_engine(), warm=False, timeout_s=1.0, max_batch=1)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(server.raw, wav(0.1)) for _ in range(2)]
        for one in answers:
            assert one.result().status == 504
            assert "1 s" in one.result().json["error"]
    server.engine.gate.set()
    server.wait_for(lambda: server.service.admission.n_files == 0)
    assert server.engine.batches == [1]  # the one that was being computed, not the other
    assert server.raw(wav(0.1)).status == 200
    gc.collect()  # a future complains when it goes
    assert "never retrieved" not in caplog.text


def test_a_body_that_comes_too_slowly_gets_408(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_LINGER_S", 0.1)
    server = serve(timeout_s=0.3)
    with socket.create_connection(("127.0.0.1", server.port), 20) as client:
        client.sendall(
            b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n"
            b"Content-Length: 1000\r\n\r\nRIFF"
        )
        assert client.makefile("rb").readline().split()[1] == b"408"
    assert server.service.admission.n_files == server.service.admission.n_bytes == 0


def test_a_head_that_does_not_come_is_not_waited_for(
    serve: Any, monkeypatch: pytest.MonkeyPatch, wav: Wav
) -> None:
    monkeypatch.setattr(running, "_HEAD_S", 0.2)
    monkeypatch.setattr(running, "_KEEP_ALIVE_S", 0.3)
    server = serve()
    answered = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for sent in (b"", b"POST /score HT", answered + b"GET /hea"):
        with socket.create_connection(("127.0.0.1", server.port), 20) as client:
            client.sendall(sent)
            data = everything(client)
            assert data.count(b"HTTP/1.1 ") == sent.count(b"HTTP/1.1\r\n")
    assert server.raw(wav(0.1)).status == 200


def test_work_for_a_client_that_went_away_is_given_up(
    serve: Any, wav: Wav, slow_engine: Any
) -> None:
    server = serve(slow_engine(), warm=False, max_batch=1)
    head = (
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: %d\r\n\r\n"
    )
    with ThreadPoolExecutor(1) as pool:
        stays = pool.submit(server.raw, wav(0.1))
        server.wait_for(lambda: server.service._batcher.call_s > 0)
        with socket.create_connection(("127.0.0.1", server.port), 20) as client:
            client.sendall(head % len(wav(0.2)) + wav(0.2))
            server.wait_for(lambda: server.service._batcher.n_waiting == 1)
        with socket.create_connection(("127.0.0.1", server.port), 20) as client:
            client.sendall(head % 100_000 + wav(0.2))  # goes in the middle of its body
        server.wait_for(lambda: server.service.admission.n_files == 1)
        server.engine.gate.set()
        assert stays.result().status == 200
    assert server.engine.batches == [1]
    server.wait_for(
        lambda: server.metric("aasist_deploy_requests_total", path="/score", status="499") == 2
    )
