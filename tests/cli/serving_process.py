"""`aasist-deploy serve` in a process of its own, started as a user starts it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

START_S = 120  # with the tests of another process beside it


@dataclass
class ServerProcess:
    process: subprocess.Popen[str]
    port: int = 0
    lines: list[str] = field(default_factory=list)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            content = response.read()
            is_json = response.getheader("content-type") == "application/json"
            return response.status, json.loads(content) if is_json else content.decode()
        finally:
            connection.close()

    def score(self, path: Path, query: str = "", **headers: str) -> tuple[int, Any]:
        given = {"Content-Type": "audio/x", **headers}
        return self.request("POST", f"/score?name={path.name}{query}", path.read_bytes(), given)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    @property
    def said(self) -> str:
        return "".join(self.lines)


@contextmanager
def server_process(
    folder: Path, *arguments: object, env: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Arguments of `serve` -> the server, which listens; killed at the end unless it has ended."""
    command = [sys.executable, "-m", "aasist_deploy", "serve", *map(str, arguments), "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", **(env or {})},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        server = ServerProcess(process)
        listening = threading.Event()

        def read() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                server.lines.append(line)
                if found := re.search(r"listening on http://\S+:(\d+)", line):
                    server.port = int(found[1])
                    listening.set()
            listening.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            assert listening.wait(START_S), server.said
            assert server.port, server.said
            yield server
        finally:
            process.kill()
            process.wait()
            reader.join(20)
