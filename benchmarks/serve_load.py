"""The server under load on loopback: many clients, overload, malformed requests, and its end.

    python -m benchmarks.serve_load --model aasist-l.onnx --audio CLIPS -o REPORT.json

The server is the command `aasist-deploy serve` in a folder of its own, with its defaults but for
the options given here. What each clip must score is what `aasist-deploy score` says before. Clients
are threads of this process, which share the machine's cores with the server.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Report
from tests.tiny_models import write_tiny_model

COMMAND = str(Path(sys.executable).with_name("aasist-deploy"))
_TINY_ATOL = 1e-5  # a mean of 800 samples, in batches of other sizes
Clip = tuple[str, bytes, float]  # name, content, score


class Server:
    """The command in a process of its own."""

    def __init__(self, folder: str, model: Path, options: list[str]) -> None:
        self.command = [COMMAND, "serve", str(model), "--port", "0", *options]
        self.process = subprocess.Popen(
            self.command, cwd=folder, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        self.words: list[str] = []
        self.port = 0
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.words.append(line)
            if found := re.search(r"listening on http://\S+:(\d+)", line):
                self.port = int(found[1])
                break
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.words.extend(self.process.stderr)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any, bytes]:
        """One request on a connection of its own: status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, {"Content-Type": "audio/flac"})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        text = self.ask("GET", "/metrics")[2].decode()
        return sum(float(v) for v in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def rss_mib(self) -> dict[str, float]:
        """Resident memory of the server and of its decoding processes."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {"server": _rss_mib(pid), "decoders": sum(_rss_mib(int(c)) for c in children)}


def _rss_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return round(int(found[1]) / 1024, 1) if found else 0.0


def reference(model: Path, files: list[Path], backend: str, folder: str) -> list[Clip]:
    """What the verb `score` says of the files."""
    output = Path(folder, "reference.csv")
    names = [str(path) for path in files]
    subprocess.run(
        [COMMAND, "score", str(model), *names, "-o", str(output), "--backend", backend], check=True
    )
    with output.open(newline="") as file:
        scores = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    return [(path.name, path.read_bytes(), scores[str(path)]) for path in files]


class Load:
    """Clients that ask one after the other until the time is up."""

    def __init__(self, server: Server, clips: list[Clip], atol: float) -> None:
        self._server, self._clips, self._atol = server, clips, atol
        self._lock = threading.Lock()
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.n_mixed_up = 0
        self.max_difference = 0.0
        self.retry_after: set[str] = set()

    def run(self, n_clients: int, seconds: float) -> float:
        """Run the clients, each on a connection that it keeps; how long they took."""
        start = threading.Barrier(n_clients + 1)
        end = [0.0]

        def client(index: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=120)
            start.wait()
            turn = index
            while time.perf_counter() < end[0]:
                self._ask(connection, self._clips[turn % len(self._clips)])
                turn += 1
            connection.close()

        with ThreadPoolExecutor(n_clients) as pool:
            clients = [pool.submit(client, index) for index in range(n_clients)]
            began = time.perf_counter()
            end[0] = began + seconds
            start.wait()
            for one in clients:
                one.result()
        return time.perf_counter() - began

    def _ask(self, connection: http.client.HTTPConnection, clip: Clip) -> None:
        name, content, score = clip
        began = time.perf_counter()
        retry = None
        try:
            connection.request(
                "POST", f"/score?name={name}", content, {"Content-Type": "audio/flac"}
            )
            answer = connection.getresponse()
            body, status = answer.read(), str(answer.status)
            retry = answer.headers.get("Retry-After")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            body, status = b"", type(error).__name__
        took = time.perf_counter() - began
        with self._lock:
            self.statuses[status] += 1
            if status == "200":
                (file,) = json.loads(body)["files"]
                difference = abs(file["score"] - score)
                self.max_difference = max(self.max_difference, difference)
                self.n_mixed_up += file["file"] != name or difference > self._atol
                self.latencies.append(took)
            elif retry is not None:
                self.retry_after.add(retry)
        if status == "503":
            time.sleep(0.05)

    def figures(self, took_s: float) -> dict[str, Any]:
        """What came of it."""
        found = self.latencies or [0.0]
        quantiles = {f"p{q}_s": round(float(np.percentile(found, q)), 3) for q in (50, 95, 99)}
        return {
            "seconds": round(took_s, 1),
            "answers": dict(self.statuses),
            "scored_per_second": round(len(self.latencies) / took_s, 2),
            **quantiles,
            "max_s": round(max(found), 3),
            "mixed_up": self.n_mixed_up,
            "lost": sum(n for status, n in self.statuses.items() if not status.isdecimal()),
            "max_difference_from_score": self.max_difference,
            "retry_after": sorted(self.retry_after),
        }


def malformed(server: Server, clips: list[Clip], n_requests: int) -> Counter[str]:
    """Send broken heads, bodies, multiparts and audio; count the answers."""
    random = np.random.default_rng(17)
    answers: Counter[str] = Counter()
    for turn in range(n_requests):
        content = clips[turn % len(clips)][1]
        audio = bytearray(content[: int(random.integers(1, len(content)))])
        for _ in range(int(random.integers(1, 40))):
            audio[int(random.integers(len(audio)))] = int(random.integers(256))
        kind = turn % 8
        head, body = b"POST /score HTTP/1.1\r\nHost: x\r\n", bytes(audio)
        if kind == 0:  # noise in place of HTTP
            sent = random.bytes(int(random.integers(1, 4_000)))
        elif kind == 1:  # a head with changed bytes
            broken = bytearray(head + b"Content-Type: audio/wav\r\nContent-Length: 9\r\n\r\n")
            for _ in range(4):
                broken[int(random.integers(len(broken)))] = int(random.integers(256))
            sent = bytes(broken) + body[:9]
        elif kind == 2:  # audio with changed bytes
            sent = _with_length(head, b"audio/flac", body)
        elif kind == 3:  # a multipart with changed bytes
            part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
            whole = bytearray(part + body[:500] + b"\r\n--b--\r\n")
            for _ in range(6):
                whole[int(random.integers(len(whole)))] = int(random.integers(256))
            sent = _with_length(head, b"multipart/form-data; boundary=b", bytes(whole))
        elif kind == 4:  # a length that is not the body's
            sent = head + b"Content-Type: audio/wav\r\nContent-Length: 99999\r\n\r\n" + body[:999]
        elif kind == 5:  # broken chunks
            sent = head + b"Content-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n"
            sent += b"%x\r\n" % int(random.integers(1 << 40)) + body[:400] + b"\r\nzz\r\n"
        elif kind == 6:  # long names and options
            query = bytes(random.integers(33, 127, 3_000, dtype=np.uint8)).replace(b" ", b"+")
            sent = _with_length(
                b"POST /score?name=" + query + b" HTTP/1.1\r\nHost: x\r\n", b"audio/wav", body
            )
        else:  # a header of a WAV file that declares the impossible
            wav = (
                b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0"
                + random.bytes(16)
                + b"data\xff\xff\xff\xff"
            )
            sent = _with_length(head, b"audio/wav", wav + body[:2_000])
        # Whoever ends its own side is gone for the server, and what it sent is not looked at.
        answers[_send(server.port, sent, goes=kind in (0, 1, 4, 5))] += 1
    return answers


def _with_length(head: bytes, kind: bytes, body: bytes) -> bytes:
    return head + b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(body)) + body


def _send(port: int, content: bytes, *, goes: bool) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), 60) as client:
            client.sendall(content)
            if goes:
                client.shutdown(socket.SHUT_WR)
            data = client.recv(65_536)
    except OSError as error:
        return type(error).__name__
    return data[9:12].decode("ascii", "replace") if data else "closed"


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--malformed", type=int, default=1_000)
    parser.add_argument("--atol", type=float, default=0.0, help="0: the digits of `score`")
    parser.add_argument("--timeout", type=float, default=30.0, help="of the server")
    parser.add_argument("--soak", type=float, default=40.0, help="seconds on a tiny model")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    options = parser.parse_args()
    files = sorted(options.audio.resolve().rglob("*.flac"))[: options.clients]
    packages = ("openvino", "onnxruntime", "fastapi", "uvicorn", "h11", "soundfile", "numpy")
    report = Report(options.output, packages, n_clips=len(files), note=options.note)
    model = options.model.resolve()
    with tempfile.TemporaryDirectory() as folder:
        clips = reference(model, files, options.backend, folder)
        began = time.perf_counter()
        server = Server(
            folder, model, ["--backend", options.backend, "--timeout", str(options.timeout)]
        )
        try:
            report.fact("start_to_listening_s", round(time.perf_counter() - began, 2))
            _measure(report, server, clips, options)
        finally:
            server.process.kill()
        report.fact("traceback_on_stderr", "Traceback" in "".join(server.words))
        _soak(report, folder, files, options)


def _soak(report: Report, folder: str, files: list[Path], options: argparse.Namespace) -> None:
    """Many requests on a model that takes no time: memory of the server beside the model's."""
    tiny = write_tiny_model(Path(folder, "tiny.onnx"))
    clips = reference(tiny, files, "onnx", folder)
    server = Server(folder, tiny, ["--backend", "onnx"])
    try:
        for turn in range(4):
            load = Load(server, clips, _TINY_ATOL)
            found = load.figures(load.run(options.clients, options.soak / 4))
            report.row(phase=f"soak {turn + 1} of 4", clients=options.clients, **found,
                       rss_mib=server.rss_mib())  # fmt: skip
    finally:
        server.process.kill()


def _measure(
    report: Report, server: Server, clips: list[Clip], options: argparse.Namespace
) -> None:
    n_clients, atol = options.clients, options.atol
    report.row(phase="start", rss_mib=server.rss_mib())
    warm = Load(server, clips, atol)
    report.row(
        phase="warm-up", clients=n_clients, **warm.figures(warm.run(n_clients, 5)),
        rss_mib=server.rss_mib(),
    )  # fmt: skip
    load = Load(server, clips, atol)
    batches, windows = (server.metric(f"aasist_deploy_batch_windows_{x}") for x in ("count", "sum"))
    took = load.run(n_clients, options.seconds)
    batches = server.metric("aasist_deploy_batch_windows_count") - batches
    windows = server.metric("aasist_deploy_batch_windows_sum") - windows
    report.row(
        phase="load", clients=n_clients, **load.figures(took),
        windows_per_call=round(windows / batches, 2), rss_mib=server.rss_mib(),
    )  # fmt: skip
    crowd = Load(server, clips, atol)
    n_crowd = 4 * n_clients
    report.row(
        phase="overload", clients=n_crowd, **crowd.figures(crowd.run(n_crowd, 10)),
        rss_mib=server.rss_mib(),
    )  # fmt: skip
    after = Load(server, clips, atol)
    report.row(
        phase="after overload", clients=4, **after.figures(after.run(4, 5)),
        rss_mib=server.rss_mib(),
    )  # fmt: skip
    replaced = server.metric("aasist_deploy_decoders_replaced")
    answers = malformed(server, clips, options.malformed)
    sane = Load(server, clips, atol)
    report.row(
        phase="malformed", requests=options.malformed, answers=dict(answers),
        decoders_replaced=server.metric("aasist_deploy_decoders_replaced") - replaced,
        alive=server.process.poll() is None, afterwards=sane.figures(sane.run(4, 3)),
        files_left_in_queue=server.metric("aasist_deploy_queue_files"), rss_mib=server.rss_mib(),
    )  # fmt: skip
    last = Load(server, clips, atol)
    running = threading.Thread(target=last.run, args=(n_clients // 2, 0.01))  # one request each
    running.start()
    while running.is_alive() and server.metric("aasist_deploy_queue_files") < n_clients // 4:
        time.sleep(0.01)
    began = time.perf_counter()
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(60)
    ended_s = round(time.perf_counter() - began, 2)
    running.join()
    found = last.figures(1.0)
    report.row(
        phase="SIGTERM under load", clients=n_clients // 2, exit_code=code, seconds=ended_s,
        **{name: found[name] for name in ("answers", "mixed_up", "lost")},
    )  # fmt: skip


if __name__ == "__main__":
    main()
