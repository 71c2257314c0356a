"""`serve` as its users meet it: scores of `score`, probes, signals, messages and exit codes."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest.importorskip("onnx", reason="needs the package onnx, to write a model")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
pytest.importorskip("fastapi", reason="needs the extra serve")

from aasist_deploy.cli.serve import TOKEN_VARIABLE, read_token
from aasist_deploy.errors import UsageError
from tests.cli.serving_process import ServerProcess, server_process
from tests.tiny_models import write_tiny_model

N_CLIPS = 64
TOKEN = "a-token-of-enough-characters"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve")
    write_tiny_model(path / "tiny.onnx")
    random = np.random.default_rng(5)
    for index in range(N_CLIPS):
        wave = random.uniform(-0.5, 0.5, 500 + 40 * index) + 0.4 * index / N_CLIPS
        soundfile.write(path / f"{index:02}.flac", wave, 16_000)
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with server_process(folder, "tiny.onnx", "--backend", "onnx", "--queue", "200") as running:
        yield running
        assert running.end() == 0
        assert "Traceback" not in running.said


@pytest.fixture
def rows(cli: Callable[..., Any], folder: Path) -> Callable[..., dict[str, dict[str, str]]]:
    """Options of `score` -> its rows by file name."""

    def score(*options: str) -> dict[str, dict[str, str]]:
        outcome = cli("score", folder / "tiny.onnx", folder, "--backend", "onnx", *options)
        assert outcome.code == 0, outcome.err
        found = csv.DictReader(io.StringIO(outcome.out))
        return {Path(row["path"]).name: row for row in found}

    return score


@pytest.mark.parametrize("options", [(), ("--windows", "all", "--hop", "0.01")])
def test_sixty_four_clients_at_once_get_the_digits_of_score(
    server: ServerProcess, folder: Path, rows: Any, options: tuple[str, ...]
) -> None:
    expected = rows(*options)
    query = "&windows=all&hop=0.01" if options else ""
    start = threading.Barrier(N_CLIPS)

    def ask(path: Path) -> tuple[str, Any]:
        start.wait(60)
        status, answer = server.score(path, query)
        assert status == 200, answer
        (file,) = answer["files"]
        assert file["file"] == path.name
        return path.name, (file["score"], file["seconds"], answer["window"])

    with ThreadPoolExecutor(N_CLIPS) as pool:
        got = dict(pool.map(ask, sorted(folder.glob("*.flac"))))
    assert len(got) == len(expected) == N_CLIPS
    for name, row in expected.items():
        assert got[name] == (float(row["score"]), float(row["seconds"]), row["window"])
    assert len({score for score, _, _ in got.values()}) == N_CLIPS  # a mix-up would show


def test_probes_and_metrics_answer(server: ServerProcess) -> None:
    assert server.request("GET", "/healthz") == (200, {"status": "ok"})
    assert server.request("GET", "/readyz") == (200, {"status": "ready"})
    status, text = server.request("GET", "/metrics")
    assert status == 200
    assert 'aasist_deploy_model_info{architecture="Tiny",backend="onnx"' in text
    assert "backend: onnx (CPUExecutionProvider" in server.said


def test_sigterm_finishes_what_was_taken_and_ends_with_zero(folder: Path, rows: Any) -> None:
    clip = folder / "07.flac"
    content = clip.read_bytes()
    with server_process(folder, "tiny.onnx", "--backend", "onnx") as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        decoders = [int(one) for one in children.read_text().split()] if children.exists() else []
        with socket.create_connection(("127.0.0.1", server.port), 60) as client:
            client.sendall(
                b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: audio/flac\r\n"
                b"Content-Length: %d\r\n\r\n" % len(content) + content[:100]
            )
            while "aasist_deploy_queue_files 1.0" not in server.request("GET", "/metrics")[1]:
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            while server.request("GET", "/readyz")[0] != 503:
                time.sleep(0.01)
            assert server.score(clip)[0] == 503
            client.sendall(content[100:])
            answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert f'"score":{float(rows()["07.flac"]["score"])!r}'.encode() in answer
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.said
    for pid in decoders:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_interrupt_ends_it_too_and_files_left_at_the_end_are_said(folder: Path) -> None:
    options = ("--backend", "onnx", "--grace", "0.2")
    with (
        server_process(folder, "tiny.onnx", *options) as server,
        socket.create_connection(("127.0.0.1", server.port), 60) as client,
    ):
        client.sendall(
            b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: audio/flac\r\n"
            b"Content-Length: 1000\r\n\r\nfLaC"
        )
        while "aasist_deploy_queue_files 1.0" not in server.request("GET", "/metrics")[1]:
            time.sleep(0.01)
        assert server.end(signal.SIGINT) == 1
    assert "1 files were not finished within the 0.2 s of --grace" in server.said


def test_a_token_of_the_environment_is_asked_for(folder: Path) -> None:
    env = {TOKEN_VARIABLE: TOKEN}
    options = ("--protect-metrics", "--host", "0.0.0.0", "--decode-in", "threads")
    with server_process(folder, "tiny.onnx", *options, env=env) as server:
        assert server.score(folder / "00.flac")[0] == 401
        status, _ = server.score(folder / "00.flac", Authorization=f"Bearer {TOKEN}")
        assert status == 200
        assert server.request("GET", "/metrics")[0] == 401
    assert "warning" not in server.said
    assert TOKEN not in server.said


def test_an_address_that_others_reach_is_warned_of(folder: Path) -> None:
    options = ("--host", "0.0.0.0", "--decode-in", "threads")
    with server_process(folder, "tiny.onnx", *options) as server:
        assert "whoever reaches this address may use the server" in server.said


def test_an_address_that_is_taken_is_said_before_the_model_is_opened(
    cli: Callable[..., Any], folder: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = cli("serve", folder / "none.onnx", "--port", str(port))
    assert outcome.code == 2
    assert f"127.0.0.1:{port} cannot be listened on" in outcome.err


def test_without_the_extra_the_command_that_installs_it_is_said(
    cli: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "aasist_deploy.extras.find_spec", lambda name: None if name == "uvicorn" else real(name)
    )
    outcome = cli("serve", folder / "tiny.onnx")
    assert outcome.code == 3
    assert "Serving needs the package uvicorn" in outcome.err
    assert "pip install 'aasist-deploy[serve]'" in outcome.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--protect-metrics"], "there is none"),
        (["--queue", "4", "--max-files", "5"], "the queue takes 4"),
        (["--max-seconds", "0"], "max_seconds is 0"),
        (["--windows", "none"], "--windows is 'none'"),
        (["--hop", "2"], "first window alone"),
        (["--token-file", "none.txt"], "cannot be read"),
        (["--host", "no.such.host.invalid"], "cannot be listened on"),
        (["--port", "70000"], "--port"),
        (["--precision", "bf16", "--backend", "onnx"], "belongs to the backend openvino"),
    ],
)
def test_wrong_usage_exits_with_two(
    cli: Callable[..., Any], folder: Path, options: list[str], words: str
) -> None:
    outcome = cli("serve", folder / "tiny.onnx", "--port", "0", *options)
    assert outcome.code == 2
    assert words in " ".join(outcome.err.split())


@pytest.mark.parametrize("text", ["", "short", "with a blank in the token", "x" * 20 + "\xe9"])
def test_a_token_that_is_none_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError) as raised:
        read_token(file)
    assert not text or text not in str(raised.value)


def test_the_token_of_the_file_goes_before_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv(TOKEN_VARIABLE, "another-token-of-the-environment")
    assert read_token(file) == TOKEN
    assert read_token(None) == "another-token-of-the-environment"
    monkeypatch.delenv(TOKEN_VARIABLE)
    assert read_token(None) is None
