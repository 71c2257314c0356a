"""Score an audio file with a model that runs in NVIDIA Triton Inference Server.

    aasist-deploy export aasist.onnx --to triton -o models
    tritonserver --model-repository models
    python triton_client.py models/aasist call.wav --url http://localhost:8000

Triton takes tensors. How audio becomes one is said by the model's contract.json, which lies beside
its config.pbtxt. The protocol is KServe's version 2 over HTTP, with samples as binary data.
Needs aasist-deploy without extras.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aasist_deploy.audio import read_audio
from aasist_deploy.calibration import Calibration, p_spoof
from aasist_deploy.contract import ModelContract
from aasist_deploy.errors import AasistDeployError
from aasist_deploy.pipeline import WindowRule
from aasist_deploy.pipeline.windows import Cutter

if TYPE_CHECKING:
    from collections.abc import Mapping


class TritonModel:
    """One model of a running server.

    Args:
        url: Of the server, e.g. http://localhost:8000.
        name: Of the model in its repository.
        contract: From the repository.
    """

    def __init__(self, url: str, name: str, contract: ModelContract) -> None:
        self._base, self._contract = f"{url.rstrip('/')}/v2/models/{name}", contract
        about = json.loads(self._ask(self._base)[1])
        inputs = {one["name"]: one["shape"] for one in about["inputs"]}
        wanted = [-1, contract.n_samples or -1]
        if inputs.get(contract.input_name) != wanted:
            raise SystemExit(f"The server's {name} takes {inputs}, contract.json says {wanted}.")

    def score(self, waves: np.ndarray) -> np.ndarray:
        """(B, N) float32 waves -> (B,) scores."""
        head = {
            "inputs": [
                {
                    "name": self._contract.input_name,
                    "shape": list(waves.shape),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": waves.nbytes},
                }
            ],
            "outputs": [{"name": "score", "parameters": {"binary_data": True}}],
        }
        text = json.dumps(head).encode()
        headers, answer = self._ask(
            f"{self._base}/infer",
            text + np.ascontiguousarray(waves, "<f4").tobytes(),
            {
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(len(text)),
            },
        )
        length = int(headers["Inference-Header-Content-Length"])
        (output,) = json.loads(answer[:length])["outputs"]
        scores = np.frombuffer(answer[length:], "<f4").reshape(output["shape"])
        return scores.reshape(len(waves))

    @staticmethod
    def _ask(
        url: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[Mapping[str, str], bytes]:
        try:
            request = urllib.request.Request(url, body, headers or {})
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{url} answers {error.code}: {error.read().decode()}") from error
        except OSError as error:
            raise SystemExit(f"{url} cannot be reached: {error}") from error


def main() -> None:
    """Print the score of each file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="the model's folder in the repository")
    parser.add_argument("audio", type=Path, nargs="+")
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--windows", default="first", help="first, all, or a number")
    parser.add_argument("--aggregate", default="mean", help="mean, max, min, top-K or bottom-K")
    parser.add_argument("--batch", type=int, default=8, help="windows of one request")
    given = parser.parse_args()

    path = given.model / "contract.json"
    contract = ModelContract.from_dict(json.loads(path.read_text()), path)
    n_windows = {"first": 1, "all": None}.get(given.windows, given.windows)
    rule = WindowRule(n_windows=n_windows and int(n_windows), aggregate=given.aggregate)
    rule.check(contract)
    triton = TritonModel(given.url, given.model.resolve().name, contract)
    calibration = contract.calibration and Calibration.from_dict(contract.calibration)
    for file in given.audio:
        wave = read_audio(
            file,
            sample_rate_hz=contract.sample_rate_hz,
            max_samples=rule.samples_needed(contract),
        ).wave
        cutter = Cutter(contract, rule)
        windows = [*cutter.push(wave), *cutter.finish()]
        scores = []
        for start in range(0, len(windows), given.batch):
            scores += triton.score(np.stack(windows[start : start + given.batch])).tolist()
        score = rule.combine(scores)
        more = f"  P(spoof) {p_spoof(calibration.llr(score)):.3f}" if calibration else ""
        print(f"{file}  {score!r}{more}")


if __name__ == "__main__":
    try:
        main()
    except AasistDeployError as error:
        sys.exit(f"error: {error}")
