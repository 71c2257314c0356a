"""An engine that fails, a decoder that crashes, and the end of the server."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.pipeline.isolated import InProcesses, can_isolate
from aasist_deploy.serving import running

if TYPE_CHECKING:
    from collections.abc import Callable

    Wav = Callable[..., bytes]


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
