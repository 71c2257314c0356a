"""The server over real sockets: answers, limits, overload, and an end that loses nothing."""

from __future__ import annotations

import inspect
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aasist_deploy.inputs import AudioInput
from aasist_deploy.pipeline import InThreads, WindowRule, score_files
from aasist_deploy.pipeline.isolated import InProcesses, can_isolate
from aasist_deploy.pipeline.stages import Piece
from aasist_deploy.serving import app, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Wav = Callable[..., bytes]

TOKEN = "a-token-of-enough-characters"


def test_files_come_back_in_their_order_with_all_that_is_known(serve: Any, wav: Wav) -> None:
    server = serve()
    answer = server.files(
        {"a.wav": wav(0.1), "b.wav": wav(0.2, 300), "c.wav": wav(-0.3, 900, 8_000)}
    )
    assert answer.status == 200
    assert answer.json["window"] == "first 800"
    assert [file["file"] for file in answer.json["files"]] == ["a.wav", "b.wav", "c.wav"]
    assert np.allclose(answer.scores[:2], [1, 2])
    assert [file["tiled"] for file in answer.json["files"]] == [False, True, False]
    assert [file["resampled"] for file in answer.json["files"]] == [False, False, True]
    assert "window_scores" not in answer.json["files"][0]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("", WindowRule()),
        ("?windows=all", WindowRule(n_windows=None)),
        ("?windows=3&hop=0.01&aggregate=bottom-2",
         WindowRule(n_windows=3, hop_s=0.01, aggregate="bottom-2")),
    ],
)  # fmt: skip
def test_scores_are_those_of_the_pipeline(
    serve: Any, fake_engine: Any, query: str, rule: WindowRule
) -> None:
    random = np.random.default_rng(3)
    content = b"".join(
        [b"RIFF", (36 + 6_000).to_bytes(4, "little"), b"WAVEfmt ", (16).to_bytes(4, "little"),
         b"\1\0\1\0", (16_000).to_bytes(4, "little"), (32_000).to_bytes(4, "little"),
         b"\2\0\x10\0data", (6_000).to_bytes(4, "little"),
         random.integers(-9_000, 9_000, 3_000, dtype="<i2").tobytes()]
    )  # fmt: skip
    (row,) = score_files(fake_engine(), [AudioInput(Path("x"), content)], rule=rule)
    answer = serve().raw(content, query + ("&" if query else "?") + "window_scores=true&name=x")
    (file,) = answer.json["files"]
    assert file["score"] == row.score  # the digits too
    assert file["window_scores"] == list(row.window_scores)
    assert answer.json["window"] == rule.name(fake_engine().contract)


def test_a_calibrated_model_gives_probabilities(serve: Any, wav: Wav, fake_engine: Any) -> None:
    held = {"scale": 2.0, "offset": -1.0, "method": "logistic"}
    engine = fake_engine(calibration=held)
    (row,) = score_files(engine, [AudioInput(Path("x"), wav(0.1))])
    (file,) = serve(engine).raw(wav(0.1)).json["files"]
    assert row.llr is not None
    assert (file["llr"], file["p_spoof"]) == (row.llr, row.p_spoof)


def test_a_variable_length_model_hears_the_whole_file_up_to_the_limit(
    serve: Any, wav: Wav, fake_engine: Any
) -> None:
    server = serve(fake_engine(n_samples=None, min_samples=100), max_seconds=0.5)
    assert np.allclose(server.raw(wav(0.1, 7_000)).scores, [1])
    assert server.engine.batches == [1]
    assert server.raw(wav(0.1, 8_001)).status == 413
    assert server.raw(wav(0.1), "?windows=all").status == 400


def test_some_files_of_a_request_may_fail(serve: Any, wav: Wav) -> None:
    answer = serve().files({"a.wav": wav(0.1), "b.wav": b"no audio", "c.wav": b""})
    assert answer.status == 207
    assert [file["status"] for file in answer.json["files"]] == [200, 422, 422]
    assert "b.wav cannot be decoded" in answer.json["files"][1]["error"]
    assert answer.json["files"][2]["error"] == "c.wav is empty (0 bytes)."


def test_names_are_labels_and_no_file_is_read_for_them(
    serve: Any, wav: Wav, tmp_path: Path
) -> None:
    (tmp_path / "secret.wav").write_bytes(wav(0.9))
    server = serve()
    answer = server.files({f"../..{tmp_path}/secret.wav": b"no audio"})
    assert answer.status == 422
    (file,) = answer.json["files"]
    assert file["file"] == "secret.wav"
    assert file["score"] is None
    assert str(tmp_path) not in answer.body.decode()
    name = "%00%0d%0aX-Evil:1%3Cscript%3E.wav"
    answer = server.raw(b"no audio", f"?name={name}")
    assert answer.status == 422
    assert "\ufffd\ufffd\ufffdX-Evil:1<script>.wav" in answer.json["files"][0]["error"]
    assert "x-evil" not in answer.headers


def test_sixty_four_clients_get_their_own_scores(serve: Any, wav: Wav) -> None:
    server = serve()
    start = threading.Barrier(64)

    def work(index: int) -> None:
        content = wav(0.001 * (index + 1))
        start.wait(20)
        for _ in range(4):
            answer = server.raw(content, f"?name={index}")
            assert answer.status == 200
            (file,) = answer.json["files"]
            assert file["file"] == str(index)
            assert file["score"] == pytest.approx(0.01 * (index + 1), rel=1e-5)

    with ThreadPoolExecutor(64) as pool:
        for done in [pool.submit(work, index) for index in range(64)]:
            done.result()
    assert sum(server.engine.batches) == 64 * 4
    assert max(server.engine.batches) > 1


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
    serve: Any, wav: Wav, slow_engine: Any
) -> None:
    server = serve(slow_engine(), warm=False, timeout_s=0.3, max_batch=1)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(server.raw, wav(0.1)) for _ in range(2)]
        for one in answers:
            assert one.result().status == 504
            assert "0.3 s" in one.result().json["error"]
    server.engine.gate.set()
    server.wait_for(lambda: server.service.admission.n_files == 0)
    assert server.engine.batches == [1]  # the one that was being computed, not the other
    assert server.raw(wav(0.1)).status == 200


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


def everything(client: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    return b"".join(iter(lambda: client.recv(65_536), b""))


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


def test_a_model_that_fails_is_said_and_the_next_request_scored(
    serve: Any, wav: Wav, fake_engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Breaks(fake_engine):  # type: ignore[misc]
        def _run(self, waves: Any) -> Any:
            if (waves > 0.85).any():
                raise RuntimeError("out of memory on /dev/secret")
            return {"score": np.where(waves[:, 0] < -0.5, np.nan, 1).astype(np.float32)}

    server = serve(Breaks())
    answer = server.raw(wav(0.9))
    assert answer.status == 500
    assert "secret" not in answer.body.decode()
    assert "out of memory on /dev/secret" in caplog.text
    answer = server.raw(wav(-0.6))
    assert answer.status == 500
    assert "score is nan" in answer.json["files"][0]["error"]
    assert server.raw(wav(0.1)).status == 200


def test_an_engine_that_hangs_or_is_gone_is_unhealthy(
    serve: Any, wav: Wav, slow_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aasist_deploy.serving import service

    server = serve(slow_engine(), warm=False)
    assert server.get("/healthz").status == server.get("/readyz").status == 200
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(server.raw, wav(0.1))
        server.wait_for(lambda: server.service._batcher.call_s > 0)
        monkeypatch.setattr(service, "_STUCK_S", 0.0)
        assert server.get("/healthz").status == server.get("/readyz").status == 503
        server.engine.gate.set()
        assert waits.result().status == 200
    monkeypatch.setattr(service, "_STUCK_S", 120.0)
    assert server.get("/healthz").status == 200
    server.service._batcher.close()
    assert server.get("/healthz").status == 503


def test_metrics_are_what_happened(serve: Any, wav: Wav) -> None:
    server = serve()
    server.files({"a.wav": wav(0.1), "b.wav": b"no audio"})
    server.raw(wav(0.1, 3_200), "?windows=all")
    server.get("/nothing")
    text = server.get("/metrics").body.decode()
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["aasist_deploy_requests_total", "/score", "207"] == 1
    assert found["aasist_deploy_requests_total", "/score", "200"] == 1
    assert found["aasist_deploy_requests_total", "404", "other"] == 1
    assert found["aasist_deploy_files_total", "200"] == 2
    assert found["aasist_deploy_files_total", "422"] == 1
    assert found["aasist_deploy_request_seconds_count",] == 2
    n_windows = found["aasist_deploy_windows_total",]
    assert n_windows - 1 - 8 == 1 + 7  # after warming up
    assert found["aasist_deploy_batch_windows_sum",] == n_windows
    assert found["aasist_deploy_queue_files",] == found["aasist_deploy_queue_bytes",] == 0
    assert found["process_resident_memory_bytes",] > 0


def test_routes_are_described_for_generators_of_clients(serve: Any) -> None:
    paths = serve().get("/openapi.json").json["paths"]
    assert paths.keys() == {"/score", "/healthz", "/readyz", "/metrics"}
    names = {one["name"] for one in paths["/score"]["post"]["parameters"]}
    assert names == {"windows", "hop", "aggregate", "window_scores", "name"}
    assert "multipart/form-data" in paths["/score"]["post"]["requestBody"]["content"]


def test_ending_finishes_what_was_taken_and_refuses_the_rest(
    serve: Any, wav: Wav, slow_engine: Any
) -> None:
    server = serve(slow_engine(), warm=False, max_batch=1)
    with ThreadPoolExecutor(3) as pool:
        inside = [pool.submit(server.raw, wav(0.1 * i)) for i in range(3)]
        server.wait_for(lambda: server.service.admission.n_files == 3)
        server.drain()
        assert server.get("/readyz").status == 503
        assert server.get("/healthz").status == 200
        answer = server.raw(wav(0.9))
        assert answer.status == 503
        assert answer.headers["connection"] == "close"
        server.engine.gate.set()
        assert np.allclose([one.result().scores[0] for one in inside], range(3), atol=1e-5)
    server.thread.join(20)
    assert server.ended == [0]
    with pytest.raises(ConnectionRefusedError):
        server.get("/healthz")


def test_ending_does_not_wait_longer_than_the_grace_period(
    serve: Any, wav: Wav, slow_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_LAST_ANSWERS_S", 0.1)
    server = serve(slow_engine(), warm=False, grace_s=0.2)
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(server.raw, wav(0.1))
        server.wait_for(lambda: server.service.admission.n_files == 1)
        server.drain()
        server.thread.join(20)
        assert server.ended == [1]
        assert lost.exception() is not None or lost.result().status >= 500


CRASHING = """
import os, signal, sys
from aasist_deploy.pipeline import decode_worker
real = decode_worker.sound_of
def sound_of(source, wanted):
    if source.path.name.startswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    yield from real(source, wanted)
decode_worker.sound_of = sound_of
decode_worker.serve(int(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.mark.skipif(not can_isolate(), reason="needs memfd_create (Linux)")
def test_an_upload_that_crashes_a_decoder_gets_an_error_and_others_their_scores(
    serve: Any, wav: Wav
) -> None:
    decoders = InProcesses(2, command=(sys.executable, "-c", CRASHING))
    try:
        server = serve(decoders=decoders)
        with ThreadPoolExecutor(4) as pool:
            good = [pool.submit(server.raw, wav(0.1 * i)) for i in range(4)]
            answer = server.raw(wav(0.9), "?name=segv.wav")
            assert answer.status == 422
            assert "segv.wav ended 2 processes" in answer.json["files"][0]["error"]
            assert np.allclose([one.result().scores[0] for one in good], range(4), atol=1e-5)
        assert server.metric("aasist_deploy_decoders_replaced") == 2
        assert server.raw(wav(0.3)).status == 200
    finally:
        decoders.close()


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
