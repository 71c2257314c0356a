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
import http.client
import io
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.audio import read_audio
from aasist_deploy.calibration import Calibration, p_spoof
from aasist_deploy.contract import ModelContract
from aasist_deploy.errors import AasistDeployError, EnvironmentLacks, ModelFileError, UsageError
from aasist_deploy.pipeline import WindowRule
from aasist_deploy.pipeline.windows import Cutter
from aasist_deploy.textfile import excerpt, read_text, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S: Final = 60.0  # of silence
MAX_ANSWER_BYTES: Final = 1024**2  # of what a model says of itself, or of a few scores
SCORE_TYPE: Final = np.dtype("<f4")  # KServe's FP32 as binary data


class TritonModel:
    """One model of a running server, whose answers are checked before they are believed.

    Args:
        url: Of the server, e.g. http://localhost:8000.
        name: Of the model in its repository.
        contract: From the repository.

    Raises:
        UsageError: The address is none of HTTP, or the server's model is another.
        EnvironmentLacks: The server cannot be reached, refuses, or does not speak the protocol.
    """

    def __init__(self, url: str, name: str, contract: ModelContract) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url} is no address of HTTP.", fix="--url http://localhost:8000")
        self._base, self._contract = f"{url.rstrip('/')}/v2/models/{name}", contract
        about = self._json(self._ask(self._base)[1])
        try:
            inputs = {one["name"]: one["shape"] for one in about["inputs"]}
        except (TypeError, KeyError) as error:
            raise self._strange(f"it says of the inputs {excerpt(repr(about))}") from error
        wanted = [-1, contract.n_samples or -1]
        if inputs.get(contract.input_name) != wanted:
            raise UsageError(
                f"The server's {name} takes {excerpt(repr(inputs))}, contract.json says "
                f"{contract.input_name} of {wanted}.",
                fix="give the folder of the repository that the server has loaded",
            )

    def score(self, waves: np.ndarray) -> np.ndarray:
        """(B, N) float32 waves -> (B,) scores, all of them finite.

        Raises:
            EnvironmentLacks: The server cannot be reached, refuses, or gives no B scores.
        """
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
        said = headers.get("Inference-Header-Content-Length", "")
        if not (said.isascii() and said.isdigit() and len(said) < 10 and int(said) <= len(answer)):
            raise self._strange(
                f"of {len(answer)} bytes, {excerpt(said)} are its head (the header "
                f"Inference-Header-Content-Length)"
            )
        length = int(said)
        self._check_output(self._json(answer[:length]), len(waves))
        if len(answer) - length != len(waves) * SCORE_TYPE.itemsize:
            raise self._strange(
                f"{len(waves)} scores take {len(waves) * SCORE_TYPE.itemsize} bytes, and it gives "
                f"{len(answer) - length}"
            )
        scores = np.frombuffer(answer[length:], SCORE_TYPE)
        if not np.isfinite(scores).all():
            raise self._strange(f"its scores are {excerpt(repr(scores.tolist()))}")
        return scores

    def _check_output(self, head: object, n_waves: int) -> None:
        """Refuse another output than one score for each wave."""
        outputs = head.get("outputs") if isinstance(head, dict) else None
        match outputs:
            case [{"name": "score", "datatype": "FP32", "shape": [first, *rest]}] if (
                first == n_waves and all(one == 1 for one in rest)
            ):
                return
        raise self._strange(
            f"for {n_waves} waves it gives the outputs {excerpt(repr(outputs))}, not score of FP32"
        )

    def _json(self, text: bytes) -> Any:  # noqa: ANN401  # whatever a server says
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._strange(f"{excerpt(repr(text[:80]))} is no JSON") from error

    def _strange(self, what: str) -> EnvironmentLacks:
        return EnvironmentLacks(
            f"{self._base} does not answer by KServe's protocol: {what}.",
            fix="check that --url is that of Triton's HTTP port, and the server's log",
        )

    def _ask(
        self, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[Mapping[str, str], bytes]:
        try:
            request = urllib.request.Request(url, body, headers or {})
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                content = answer.read(MAX_ANSWER_BYTES + 1)
                if len(content) > MAX_ANSWER_BYTES:
                    raise self._strange(f"its answer has more than {MAX_ANSWER_BYTES} bytes")
                # Of a bounded read, nothing else says that the connection broke.
                declared = answer.headers.get("Content-Length", "")
                if declared.isdigit() and len(content) < int(declared[:12]):
                    raise self._strange(f"its answer ends after {len(content)} bytes")
                return answer.headers, content
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(2_000).decode(errors="replace")
            raise EnvironmentLacks(
                f"{url} answers {error.code}: {said.strip() or error.reason}",
                fix="see the server's log",
            ) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise EnvironmentLacks(
                f"{url} cannot be reached: {str(error) or type(error).__name__}.",
                fix="start the server, or give its address with --url",
            ) from error


def read_contract(path: Path) -> ModelContract:
    """The contract in a model repository.

    Raises:
        ModelFileError: There is none, or it is damaged.
    """
    try:
        values = json.loads(read_text(path, ModelFileError))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is no JSON: {error}.", fix="export the model again"
        ) from error
    if not isinstance(values, dict):
        raise ModelFileError(f"{path} holds no JSON object.", fix="export the model again")
    return ModelContract.from_dict(values, path)


def count(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not (number := int(text)) >= 1:
        raise ValueError
    return number


def windows(text: str) -> int | None:
    """How many windows of a file are scored; None for all of them."""
    return {"first": 1, "all": None}[text] if text in ("first", "all") else count(text)


def main() -> None:
    """Print the score of each file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="the model's folder in the repository")
    parser.add_argument("audio", type=Path, nargs="+")
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--windows", type=windows, default=1, help="first, all, or a number")
    parser.add_argument("--aggregate", default="mean", help="mean, max, min, top-K or bottom-K")
    parser.add_argument("--batch", type=count, default=8, help="windows of one request")
    given = parser.parse_args()

    contract = read_contract(given.model / "contract.json")
    rule = WindowRule(n_windows=given.windows, aggregate=given.aggregate)
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
        pieces = [*cutter.push(wave), *cutter.finish()]
        scores = []
        for start in range(0, len(pieces), given.batch):
            scores += triton.score(np.stack(pieces[start : start + given.batch])).tolist()
        score = rule.combine(scores)
        more = f"  P(spoof) {p_spoof(calibration.llr(score)):.3f}" if calibration else ""
        print(f"{file}  {score!r}{more}", flush=True)


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file's name need not be UTF-8
    try:
        main()
    except AasistDeployError as error:
        print(visible(f"error: {error}"), file=sys.stderr)  # a server's words steer no terminal
        if error.fix:
            print(visible(f"Fix: {error.fix}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
