"""The process: a socket, a loop, signals, and an end that loses nothing."""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING, Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from aasist_deploy.errors import UsageError
from aasist_deploy.serving.app import create_app

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

    from aasist_deploy.serving.service import Service

log = logging.getLogger(__name__)

_HEAD_S: Final = 10.0  # for the head of a request, a few hundred bytes
_HEAD_BYTES: Final = 16_384
_KEEP_ALIVE_S: Final = 5
_LAST_ANSWERS_S: Final = 2  # for answers that are being written when the server ends


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket; connections are taken when the server runs.

    Args:
        host: Name or address.
        port: 0 for any that is free.

    Raises:
        UsageError: the place cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}.",
            fix="another --port, 0 for a free one; or another --host",
        ) from error
    return listener


def run(
    service: Service,
    listener: socket.socket,
    *,
    token: str | None = None,
    protect_metrics: bool = False,
    on_listening: Callable[[], None] = lambda: None,
) -> int:
    """Serve until SIGTERM or Ctrl-C; then refuse what comes, finish what is here, and end.

    A second signal ends at once. Signals are taken in the main thread only.

    Args:
        service: What is behind the routes, warmed up.
        listener: From `listening_socket`; it is closed.
        token: Asked for at /score.
        protect_metrics: Ask for it at /metrics too.
        on_listening: Called when connections are taken.

    Returns:
        How many files were given up at the end, 0 when none was lost.
    """
    app = create_app(service, token=token, protect_metrics=protect_metrics)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
        limit_concurrency=2 * service.limits.queue + 128,
        h11_max_incomplete_event_size=_HEAD_BYTES,
    )
    server = DrainingServer(config, service, on_listening)
    server.run(sockets=[listener])
    return server.n_lost


class DrainingServer(uvicorn.Server):
    """A server that ends in two steps: first it refuses what is new, then it goes."""

    def __init__(
        self, config: uvicorn.Config, service: Service, on_listening: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service, self._on_listening = service, on_listening
        self._drain_began: float | None = None
        self.n_lost = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """First signal: drain. Second: end."""
        if self._service.is_draining:
            self.force_exit = self.should_exit = True
            return
        self.drain()

    def drain(self) -> None:
        """Refuse new requests and end when the last file is done, or after the grace period."""
        self._drain_began = time.monotonic()
        self._service.is_draining = True

    async def on_tick(self, counter: int) -> bool:
        """Look every tenth of a second whether it is time to end."""
        if self._drain_began is not None:
            n_files = self._service.admission.n_files
            late = time.monotonic() - self._drain_began > self._service.limits.grace_s
            if n_files == 0 or late or self.should_exit:
                self.n_lost, self.should_exit = n_files, True
        return await super().on_tick(counter)


class _Protocol(H11Protocol):
    """HTTP/1.1 that does not wait for ever for a request's head."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # uvicorn's own
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # a head has come, or nothing more will
            self._stop_watching()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_S, self._give_up)

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
