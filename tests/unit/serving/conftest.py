"""A server on loopback in this process, on an engine whose score is ten times the mean."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")

from aasist_deploy.pipeline import InThreads, WindowRule
from aasist_deploy.serving import Limits
from aasist_deploy.serving.metrics import Metrics
from aasist_deploy.serving.running import listening_socket, run
from aasist_deploy.serving.service import Service
from tests.clips import wav_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

BOUNDARY = "a-boundary"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    json: Any = field(init=False)

    def __post_init__(self) -> None:
        is_json = self.headers.get("content-type") == "application/json"
        self.json = json.loads(self.body) if is_json else None

    @property
    def scores(self) -> list[float | None]:
        return [file["score"] for file in self.json["files"]]


@dataclass
class Served:
    port: int
    service: Service
    engine: Any
    thread: threading.Thread
    ended: list[int]
    server: Any

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, path, body, dict(headers or {}), encode_chunked=chunked)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def raw(self, content: Any, query: str = "", **headers: str) -> Answer:
        given = {"Content-Type": "audio/wav", **headers}
        return self.request("POST", f"/score{query}", content, given)

    def files(self, files: Mapping[str, bytes], query: str = "") -> Answer:
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.request("POST", f"/score{query}", multipart(files), kind)

    def metric(self, name: str, **labels: str) -> float:
        from prometheus_client.parser import text_string_to_metric_families

        text = self.get("/metrics").body.decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return 0.0

    def drain(self) -> None:
        self.server.drain()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)


def multipart(files: Mapping[str, bytes]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: audio/wav\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files.items()
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def everything(client: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    return b"".join(iter(lambda: client.recv(65_536), b""))


@pytest.fixture
def wav() -> Callable[..., bytes]:
    return wav_of


@pytest.fixture
def multipart_of() -> Callable[[Mapping[str, bytes]], bytes]:
    return multipart


@pytest.fixture
def slow_engine(fake_engine: Any) -> Any:
    """A class of engines that wait for `gate` before they score."""

    class Slow(fake_engine):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.gate = threading.Event()

        def _run(self, waves: Any) -> Any:
            assert self.gate.wait(20)
            return super()._run(waves)

    return Slow


@pytest.fixture(scope="session")
def last_steps() -> Iterator[list[Callable[[], None]]]:
    """What ends servers whose end has begun: each takes some tenths of a second, so at the end."""
    steps: list[Callable[[], None]] = []
    yield steps
    for step in steps:
        step()


@pytest.fixture
def serve(
    fake_engine: Any, monkeypatch: pytest.MonkeyPatch, last_steps: list[Callable[[], None]]
) -> Iterator[Callable[..., Served]]:
    """Limits and options -> a server that runs, ended with the test."""
    with ExitStack() as stack:

        def start(
            engine: Any = None,
            decoders: Any = None,
            *,
            token: str | None = None,
            protect_metrics: bool = False,
            max_batch: int = 8,
            warm: bool = True,
            rule: WindowRule | None = None,
            **limits: Any,
        ) -> Served:
            from aasist_deploy.serving import running

            model = engine or fake_engine()
            service = Service(
                model,
                decoders or InThreads(),
                Limits(**{"timeout_s": 20.0, "max_files": 4, "queue": 256, **limits}),
                Metrics({"backend": "fake"}),
                rule=rule or WindowRule(),
                max_batch=max_batch,
                max_wait_s=0.002,
                n_decoders=2,
            )
            service.is_ready = True
            if warm:
                service.warm_up()
                model.batches.clear()
            listener = listening_socket("127.0.0.1", 0)
            port = listener.getsockname()[1]
            listening = threading.Event()
            servers: list[Any] = []
            real = running.DrainingServer

            def keeping(*arguments: Any) -> Any:
                servers.append(real(*arguments))
                return servers[0]

            monkeypatch.setattr(running, "DrainingServer", keeping)
            ended: list[int] = []

            def work() -> None:
                options: Any = {"token": token, "protect_metrics": protect_metrics}
                ended.append(run(service, listener, on_listening=listening.set, **options))

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            assert listening.wait(20)
            served = Served(port, service, model, thread, ended, servers[0])

            def stop() -> None:
                if hasattr(model, "gate"):
                    model.gate.set()
                servers[0].drain()
                servers[0].should_exit = True
                last_steps.append(finish)

            def finish() -> None:
                thread.join(20)
                assert not thread.is_alive()
                service.close()

            stack.callback(stop)
            return served

        yield start
