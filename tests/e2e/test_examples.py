"""The examples run as they are written."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.contract import ModelContract
from aasist_deploy.errors import AasistDeployError, EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
CLIP = REPOSITORY / "examples" / "demo_clips" / "human-numbers.flac"


def score_of(model: Path) -> float:
    with open_engine(model, "onnx") as engine:  # as the documents do
        return float(engine.score(fit_length(read_audio(CLIP).wave)[None])[0])


def test_embed_prints_the_score_of_each_file(packaged_onnx: Callable[[], Path]) -> None:
    model = packaged_onnx()
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "embed.py"), str(model), str(CLIP)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown, path = done.stdout.split()
    assert path == str(CLIP)
    assert float(shown) == pytest.approx(score_of(model), abs=1e-3)


@pytest.mark.parametrize("document", ["README.md", "docs/embedding.md"])
def test_python_of_the_documents_gives_the_score(
    packaged_onnx: Callable[[], Path], document: str
) -> None:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    model = packaged_onnx()
    code = code.replace('"aasist.onnx"', repr(str(model))).replace('"call.wav"', repr(str(CLIP)))
    names: dict[str, object] = {}
    exec(compile(code, document, "exec"), names)
    assert isinstance(names["score"], np.float32)
    assert float(names["score"]) == pytest.approx(score_of(model), abs=1e-6)


TRITON_CLIENT = REPOSITORY / "examples" / "triton_client.py"
CONTRACT = ModelContract(
    architecture="Tiny", config={}, sample_rate_hz=16_000, n_samples=800, min_samples=800,
    outputs={"score": "x"}, checkpoint_sha256="0" * 64,
)  # fmt: skip
ABOUT = b'{"inputs": [{"name": "wave", "datatype": "FP32", "shape": [-1, 800]}]}'
ONE_SCORE: dict[str, Any] = {"name": "score", "datatype": "FP32", "shape": [1]}


def answer(body: bytes, status: str = "200 OK", **headers: object) -> bytes:
    """An answer of HTTP; the headers are as given, true or not."""
    lines = {"Content_Length": len(body), "Connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def scores(*outputs: Any, binary: bytes = struct.pack("<f", 1.5), **headers: object) -> bytes:
    """An answer of KServe's protocol with such outputs."""
    head = json.dumps({"outputs": list(outputs)}).encode()
    more: dict[str, Any] = {"Inference_Header_Content_Length": len(head), **headers}
    return answer(head + binary, **more)


@contextmanager
def server_that_says(*answers: bytes) -> Iterator[str]:
    """The address of a server with such answers to one request after another."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for one in answers:
                connection, _ = listening.accept()
                with suppress(OSError), connection, connection.makefile("rb") as stream:
                    n_bytes = 0
                    while (line := stream.readline().strip().lower()) != b"":
                        if line.startswith(b"content-length:"):
                            n_bytes = int(line.partition(b":")[2])
                    stream.read(n_bytes)
                    connection.sendall(one)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(20)


@pytest.fixture(scope="module")
def triton_client() -> Any:
    spec = importlib.util.spec_from_file_location("triton_client", TRITON_CLIENT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_client_takes_what_the_protocol_says(triton_client: Any) -> None:
    good = scores({**ONE_SCORE, "shape": [1, 1]})
    with server_that_says(answer(ABOUT), good) as url:
        triton = triton_client.TritonModel(url, "tiny", CONTRACT)
        assert triton.score(np.zeros((1, 800), np.float32)).tolist() == [1.5]


NO_SERVERS = {
    "nothing": answer(b""),
    "half JSON": answer(b"{"),
    "no text": answer(b"\xff"),
    "a list": answer(b"[]"),
    "a number": answer(b"3"),
    "an empty object": answer(b"{}"),
    "a number of inputs": answer(b'{"inputs": 3}'),
    "inputs that are numbers": answer(b'{"inputs": [3]}'),
    "a name that is a list": answer(b'{"inputs": [{"name": [], "shape": []}]}'),
    "no shape": answer(b'{"inputs": [{"name": "wave"}]}'),
    "no list of inputs": answer(b'{"inputs": {"name": "wave"}}'),
    "JSON without end": answer(b"[" * 100_000),
    "a number of many digits": answer(b'{"inputs": ' + b"9" * 5_000 + b"}"),
    "an answer cut short": answer(ABOUT, Content_Length=10_000),
    "megabytes": answer(bytes(2 * 1024**2)),
    "no answer": b"",
    "zeros": bytes(100),
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
    "another protocol": b"SSH-2.0-OpenSSH\r\n",
    "a long complaint": answer(b"\xff\x1b[2J" * 1_000, "500 Bad"),
    "a file elsewhere": answer(b"", "302 Found", Location="file:///etc/passwd"),
}


@pytest.mark.parametrize("about", NO_SERVERS)
def test_the_client_says_what_is_wrong_with_a_server(about: str, triton_client: Any) -> None:
    with server_that_says(NO_SERVERS[about]) as url, pytest.raises(EnvironmentLacks) as raised:
        triton_client.TritonModel(url, "tiny", CONTRACT)
    assert len(str(raised.value)) < 12_000


@pytest.mark.parametrize("shape", [[-1, 801], [800], [], None, "x", [-1, 800, 1]])
def test_the_client_refuses_another_model(shape: Any, triton_client: Any) -> None:
    about = json.dumps({"inputs": [{"name": "wave", "shape": shape}]}).encode()
    with server_that_says(answer(about)) as url, pytest.raises(UsageError, match=r"contract\.json"):
        triton_client.TritonModel(url, "tiny", CONTRACT)


NO_SCORES = {
    "no output": scores(),
    "a number": scores(3),
    "two outputs": scores(ONE_SCORE, ONE_SCORE),
    "another output": scores({**ONE_SCORE, "name": "logits"}),
    "another type": scores({**ONE_SCORE, "datatype": "FP64"}),
    "two scores": scores({**ONE_SCORE, "shape": [2]}, binary=bytes(8)),
    "two columns": scores({**ONE_SCORE, "shape": [1, 2]}, binary=bytes(8)),
    "no dimension": scores({**ONE_SCORE, "shape": []}),
    "a shape that is none": scores({**ONE_SCORE, "shape": 1}),
    "a shape of words": scores({**ONE_SCORE, "shape": ["1"]}),
    "an output without a shape": scores({"name": "score"}),
    "no bytes": scores(ONE_SCORE, binary=b""),
    "too few bytes": scores(ONE_SCORE, binary=b"123"),
    "too many bytes": scores(ONE_SCORE, binary=bytes(8)),
    "NaN": scores(ONE_SCORE, binary=struct.pack("<f", np.nan)),
    "infinity": scores(ONE_SCORE, binary=struct.pack("<f", -np.inf)),
    "a head of no length": answer(b"{}"),
    "a head of a word": scores(ONE_SCORE, Inference_Header_Content_Length="x"),
    "a head before it": scores(ONE_SCORE, Inference_Header_Content_Length="-1"),
    "a head of many digits": scores(ONE_SCORE, Inference_Header_Content_Length="9" * 5_000),
    "a head beyond it": scores(ONE_SCORE, Inference_Header_Content_Length="1000"),
    "an empty head": scores(ONE_SCORE, Inference_Header_Content_Length="0"),
    "outputs by name": answer(b'{"outputs": {}}', Inference_Header_Content_Length=15),
    "null": answer(b"null", Inference_Header_Content_Length=4),
    "an answer cut short": scores(ONE_SCORE, Content_Length=500),
}


@pytest.mark.parametrize("said", NO_SCORES)
def test_the_client_believes_no_score_that_is_none(said: str, triton_client: Any) -> None:
    with server_that_says(answer(ABOUT), NO_SCORES[said]) as url:
        triton = triton_client.TritonModel(url, "tiny", CONTRACT)
        with pytest.raises(EnvironmentLacks, match="does not answer by KServe's protocol"):
            triton.score(np.zeros((1, 800), np.float32))


def test_the_client_ends_with_one_message_and_a_code(tmp_path: Path) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, TRITON_CLIENT, tmp_path, CLIP, *options],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}/contract.json cannot be read: No such file")
    (tmp_path / "contract.json").write_text(json.dumps(CONTRACT.to_dict()))
    with server_that_says(answer(b"\x1b[2J{", "400 Bad")) as url:
        done = run("--url", url)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines() == [
        f"error: {url}/v2/models/{tmp_path.name} answers 400: \\x1b[2J{{",
        "Fix: see the server's log",
    ]
    assert run("--batch", "0").returncode == 2
    assert "invalid windows value: 'many'" in run("--windows", "many").stderr


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "9" * 5_000, '{"schema": 3}'])
def test_the_client_reads_no_contract_out_of_anything_else(
    text: str, triton_client: Any, tmp_path: Path
) -> None:
    (tmp_path / "contract.json").write_text(text)
    with pytest.raises(AasistDeployError):
        triton_client.read_contract(tmp_path / "contract.json")
