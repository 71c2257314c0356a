"""A real server that misbehaves as a test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias


class Handler(BaseHTTPRequestHandler):
    """Hands each GET to the server's `respond`, and keeps what was asked."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.server.respond(self, len(self.server.asked))

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; `Content_Length="..."` overrides the true length."""
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reply_with_ranges(self, content: bytes, **headers: str) -> None:
        """What a good server does."""
        wanted = self.headers.get("Range")
        if wanted is None:
            self.reply(200, content, **headers)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            self.reply(416, Content_Range=f"bytes */{len(content)}")
            return
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.reply(206, content[start:], Content_Range=place, **headers)

    def cut(self, sent: bytes, declared: int) -> None:
        """Declare a length and close the connection before it is reached."""
        self.reply(200, sent, Content_Length=str(declared))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


Respond: TypeAlias = Callable[[Handler, int], None]


class Server(ThreadingHTTPServer):
    """`respond(handler, n)` answers the n-th request, counted from 1."""

    def __init__(self, respond: Respond) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.respond = respond
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(respond: Respond) -> Iterator[Server]:
    with Server(respond) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def closed_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
