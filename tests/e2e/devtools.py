"""A headless Chromium driven through its own protocol on a pipe: no driver and no port."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# Chromium reads commands from descriptor 3 and answers on 4.
_ON_3_AND_4 = """import os, sys
os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])"""
_READS = 100  # descriptors above 4, so that neither pipe lies on 3 or 4 itself


class Chromium:
    """One browser with one tab; every request, log entry and exception is in `events`."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        pipes = [os.pipe(), os.pipe()]
        (commands, self._out), (self._in, answers) = pipes
        commands, answers = self._moved(commands), self._moved(answers)
        self._stderr = (folder / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            [
                sys.executable, "-c", _ON_3_AND_4, str(commands), str(answers),
                program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update",
                "--disable-sync", "--disable-quic", f"--user-data-dir={folder / 'profile'}",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                "--remote-debugging-pipe", *options, "about:blank",
            ],
            pass_fds=(commands, answers), stdout=self._stderr, stderr=self._stderr,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._ids = itertools.count(1)
        self._received = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        # Workers ask for things too.
        watched = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
        self.call("Target.setAutoAttach", **watched)

    @staticmethod
    def _moved(descriptor: int) -> int:
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, _READS)
        os.close(descriptor)
        return moved

    def call(self, method: str, timeout_s: float = 60, /, **params: Any) -> dict[str, Any]:
        """Run one command of the protocol and wait for its result."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        sent = json.dumps(message).encode() + b"\0"
        while sent:
            sent = sent[os.write(self._out, sent) :]
        while True:
            answer = self._next(timeout_s)
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if event.get("method") == "Target.attachedToTarget":  # a worker: listen to it as well
            session = event["params"]["sessionId"]
            for domain in ("Network", "Log", "Runtime"):
                message = {
                    "id": next(self._ids),
                    "method": f"{domain}.enable",
                    "sessionId": session,
                }
                os.write(self._out, json.dumps(message).encode() + b"\0")

    def _next(self, timeout_s: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            if not select.select([self._in], [], [], timeout_s)[0]:
                raise TimeoutError("Chromium did not answer")
            got = os.read(self._in, 1 << 20)
            if not got:
                raise EOFError("Chromium has ended")
            self._received += got
        message, _, self._received = self._received.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def go(self, address: str) -> None:
        """Open an address; what was noted of the page before is forgotten."""
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")

    def wait(self, expression: str, timeout_s: float = 60) -> Any:
        """The value of an expression as soon as it is true."""
        until = time.monotonic() + timeout_s
        while not (value := self.js(expression)):
            assert time.monotonic() < until, f"{expression} did not become true"
            time.sleep(0.05)
        return value

    def choose(self, selector: str, path: Path) -> None:
        """Give a file to an input of the page, as its dialog would."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def requests(self) -> set[str]:
        """Addresses that page and workers asked for since `go`."""
        return {
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        }

    def complaints(self) -> list[dict[str, Any]]:
        """What is in the console, and exceptions, since `go`."""
        methods = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
        return [event for event in self.events if event.get("method") in methods]

    def close(self) -> None:
        """End the browser."""
        self._session = None
        with_session = {"id": next(self._ids), "method": "Browser.close"}
        try:
            os.write(self._out, json.dumps(with_session).encode() + b"\0")
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(10)
        os.close(self._out)
        os.close(self._in)
        self._stderr.close()
