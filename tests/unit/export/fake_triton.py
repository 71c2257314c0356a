"""A stand-in for Triton: the KServe v2 protocol over a model repository, on ONNX Runtime.

It reads config.pbtxt by Triton's own schema and refuses what that forbids. It is no Triton: no
scheduler, no other backends, one request at a time.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@cache
def schema() -> Any:
    """Triton's model_config_pb2, without the gRPC client around it."""
    found = importlib.util.find_spec("tritonclient")
    assert found is not None
    assert found.submodule_search_locations is not None
    place = f"{found.submodule_search_locations[0]}/grpc/model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["model_config_pb2"] = module
    spec.loader.exec_module(module)
    return module


def read_config(path: Path) -> Any:
    """config.pbtxt as a ModelConfig message; unknown fields are errors."""
    from google.protobuf import text_format

    return text_format.Parse(path.read_text(encoding="utf-8"), schema().ModelConfig())


class _Model:
    def __init__(self, folder: Path) -> None:
        import onnxruntime as ort

        self.config = read_config(folder / "config.pbtxt")
        assert self.config.name == folder.name
        self.session = ort.InferenceSession(
            (folder / "1" / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"]
        )
        self.batches: list[int] = []

    def about(self) -> dict[str, Any]:
        return {
            "name": self.config.name,
            "versions": ["1"],
            "platform": self.config.platform,
            "inputs": [self._tensor(one) for one in self.config.input],
            "outputs": [self._tensor(one) for one in self.config.output],
        }

    @staticmethod
    def _tensor(one: Any) -> dict[str, Any]:
        kind = schema().DataType.Name(one.data_type).removeprefix("TYPE_")
        return {"name": one.name, "datatype": kind, "shape": [-1, *one.dims]}

    def infer(self, waves: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
        """Arrays by name, in the shapes that a client sees."""
        known = {one.name: one for one in self.config.input}
        if waves.keys() != known.keys():
            raise ValueError(f"expected inputs {list(known)}, got {list(waves)}")
        for name, wave in waves.items():
            dims = list(known[name].dims)
            if wave.ndim != len(dims) + 1 or any(
                want not in (-1, got) for want, got in zip(dims, wave.shape[1:], strict=True)
            ):
                raise ValueError(f"unexpected shape for input '{name}': {wave.shape}, {dims}")
            if len(wave) > self.config.max_batch_size:
                raise ValueError(f"batch-size must be <= {self.config.max_batch_size}")
            self.batches.append(len(wave))
        results = dict(zip(wanted, self.session.run(wanted, waves), strict=True))
        for one in self.config.output:
            if one.name in results and one.HasField("reshape"):
                assert list(one.reshape.shape) == list(results[one.name].shape[1:])
                results[one.name] = results[one.name].reshape(-1, *one.dims)
        return results


@contextmanager
def fake_triton(repository: Path) -> Iterator[tuple[str, dict[str, _Model]]]:
    """A repository -> the address of a server for its ONNX models, and the models."""
    models = {
        folder.name: _Model(folder)
        for folder in repository.iterdir()
        if (folder / "1" / "model.onnx").is_file()
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.removeprefix("/v2/models/")
            if self.path == "/v2/health/ready":
                self._answer(200, b"")
            elif name in models:
                self._answer(200, json.dumps(models[name].about()).encode())
            else:
                self._answer(404, b'{"error":"unknown model"}')

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            name = self.path.removeprefix("/v2/models/").removesuffix("/infer")
            try:
                head, answer = _infer(models[name], body, self.headers)
            except (ValueError, KeyError) as error:
                self._answer(400, json.dumps({"error": str(error)}).encode())
                return
            self._answer(200, head + answer, {"Inference-Header-Content-Length": str(len(head))})

        def _answer(self, status: int, body: bytes, more: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(more or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", models
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


def _infer(model: _Model, body: bytes, headers: Any) -> tuple[bytes, bytes]:
    """The JSON and the binary data of an answer."""
    length = int(headers.get("Inference-Header-Content-Length", len(body)))
    request, rest = json.loads(body[:length]), body[length:]
    waves = {}
    for one in request["inputs"]:
        if one["datatype"] != "FP32":
            raise ValueError(f"inference input data-type is {one['datatype']}, expected FP32")
        size = one.get("parameters", {}).get("binary_data_size")
        if size is None:
            flat = np.asarray(one["data"], np.float32)
        else:
            flat, rest = np.frombuffer(rest[:size], "<f4"), rest[size:]
        waves[one["name"]] = flat.reshape(one["shape"])
    if rest:
        raise ValueError(f"{len(rest)} bytes too many")
    every = [one.name for one in model.config.output]
    asked = request.get("outputs", [{"name": name} for name in every])
    results = model.infer(waves, [one["name"] for one in asked])
    outputs, binary = [], b""
    for one in asked:
        array = results[one["name"]]
        output = {"name": one["name"], "datatype": "FP32", "shape": list(array.shape)}
        if one.get("parameters", {}).get("binary_data"):
            content = array.astype("<f4").tobytes()
            output["parameters"] = {"binary_data_size": len(content)}
            binary += content
        else:
            output["data"] = array.ravel().tolist()
        outputs.append(output)
    answer = {"model_name": model.config.name, "model_version": "1", "outputs": outputs}
    return json.dumps(answer).encode(), binary
