"""A model for small builds of ONNX Runtime: `.ort`, and which operators such a build must have.

A minimal build of ONNX Runtime reads no ONNX, only its own format, in which the graph is optimised
already. The file keeps the contract's entries in its metadata; beside it lie a description with its
hash, as beside a TensorRT plan, and the list that ONNX Runtime's build takes with
`--include_ops_by_config`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.contract import read_contract
from aasist_deploy.errors import CheckFailed, EnvironmentLacks, OutputError, UsageError
from aasist_deploy.onnx_file import write_onnx_file

if TYPE_CHECKING:
    from aasist_deploy.contract import ModelContract

SCHEMA: Final = "aasist-deploy/ort/1"
# A session on the .onnx file optimises one level further and sums in another order: measured 9.5e-7
# on the logits of AASIST-L.
MAX_DIFFERENCE: Final = 1e-5

_LIST_OPERATORS: Final = """\
import pathlib, sys
from onnxruntime.tools.ort_format_model import create_config_from_models
create_config_from_models([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), True)
"""


@dataclass(frozen=True, slots=True)
class OrtModel:
    """What was written.

    Attributes:
        path: The `.ort` file.
        description: The JSON beside it.
        operators: The list of operators beside it.
        n_bytes: Size of the `.ort` file.
        n_operators: How many kinds of operators the build must have.
        max_difference: Largest difference of an output from the `.onnx` file's, on noise.
    """

    path: Path
    description: Path
    operators: Path
    n_bytes: int
    n_operators: int
    max_difference: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "path": str(self.path),
            "description": str(self.description),
            "operators": str(self.operators),
            "n_bytes": self.n_bytes,
            "n_operators": self.n_operators,
            "max_difference": self.max_difference,
        }


def companions(path: Path) -> tuple[Path, Path]:
    """Names of the description and of the list of operators beside an `.ort` file."""
    return path.with_name(f"{path.name}.json"), path.with_name(f"{path.name}.operators.config")


def check_ort_source(model: Path) -> None:
    """Refuse a model that is not lowered to `.ort`.

    Raises:
        ModelFileError: not an exported file, or one for streams.
        UsageError: of lower precision.
    """
    contract, _ = read_contract(model)
    if contract.precision != "fp32":
        raise UsageError(
            f"{model} computes in {contract.precision}; an .ort file is optimised here for fp32, "
            "and what int8 becomes depends on the processor.",
            fix="export it with --precision fp32",
        )


def ort_from_onnx(model: Path, path: Path) -> OrtModel:
    """Write a model in ONNX Runtime's own format, and keep it only when its scores hold.

    The graph is optimised up to the level "extended", which is the same on every processor; the
    last level would lay weights out for the one of this machine.

    Args:
        model: Exported .onnx file.
        path: The .ort file to write; two files come beside it (`companions`).

    Raises:
        ModelFileError: `model` is not an exported file, or one for streams.
        UsageError: it is of lower precision.
        EnvironmentLacks: ONNX Runtime is missing.
        CheckFailed: an output differs; nothing is written.
        OutputError: the place cannot be written.
    """
    check_ort_source(model)
    contract, file = read_contract(model)
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentLacks(
            "Writing an .ort file needs ONNX Runtime, which is not installed.",
            fix="pip install 'aasist-deploy[onnx]'",
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "model.ort")
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(written)
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.graph_optimization_level = level
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(file.content, options, providers=["CPUExecutionProvider"])
        content = written.read_bytes()
        difference = _largest_difference(file.content, content, contract)
        if not difference <= MAX_DIFFERENCE:
            raise CheckFailed(
                f"Outputs of the .ort file differ from those of {model} by {difference:.1e}; at "
                f"most {MAX_DIFFERENCE:.0e} was expected.",
                fix="try another version of onnxruntime",
            )
        operators = _required_operators(written)
    described = {
        "schema": SCHEMA,
        "contract": contract.to_dict(),
        "ort_sha256": sha256(content).hexdigest(),
        "ort_bytes": len(content),
        "onnx_sha256": sha256(file.content).hexdigest(),
        "onnxruntime_version": onnxruntime.__version__,
        "optimization": "extended",
    }
    beside, listed = companions(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path.parent} cannot be made: {error.strerror}.", fix="name another place"
        ) from error
    header = f"# What a build of ONNX Runtime must have for {path.name}.\n"
    write_onnx_file(listed, (header + "\n".join(operators) + "\n").encode())
    write_onnx_file(path, content)
    write_onnx_file(beside, (json.dumps(described, indent=2) + "\n").encode())
    n_operators = sum(_count(line) for line in operators)
    return OrtModel(path, beside, listed, len(content), n_operators, difference)


def _largest_difference(onnx: bytes, ort: bytes, contract: ModelContract) -> float:
    """Of any output, over the smallest batch of noise and one of a tiled burst."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = [
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for content in (onnx, ort)
    ]
    random = np.random.default_rng(0)
    n_samples = contract.n_samples or contract.min_samples
    burst = np.tile(random.normal(0, 0.1, 1_000), -(-n_samples // 1_000))[:n_samples]
    largest = 0.0
    for wave in (random.normal(0, 0.05, n_samples), burst):
        feed = np.tile(wave.astype(np.float32), (contract.batch[0], 1))
        feeds, names = {contract.input_name: feed}, list(contract.outputs)
        before, after = (session.run(names, feeds) for session in sessions)
        for a, b in zip(before, after, strict=True):
            difference = float(np.abs(np.asarray(a) - np.asarray(b)).max())
            largest = difference if np.isnan(difference) else max(largest, difference)
    return largest


def _required_operators(ort: Path) -> list[str]:
    """Lines `domain;opset;Operator{types},...` of ONNX Runtime's own tool."""
    target = ort.with_name("operators.config")
    # In a process of its own: importing the tool changes the search path and sets up logging.
    done = subprocess.run(  # noqa: S603  # a fixed program, no shell
        [sys.executable, "-c", _LIST_OPERATORS, str(ort), str(target)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0 or not target.is_file():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise EnvironmentLacks(
            "ONNX Runtime's tool that lists the operators of an .ort file failed "
            f"({said[-1].strip() if said else f'exit code {done.returncode}'}).",
            fix="pip install --force-reinstall onnxruntime",
        )
    lines = target.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _count(line: str) -> int:
    """Operators of one line; commas inside braces belong to their types."""
    _, _, names = line.split(";", 2)
    depth, n = 0, 1
    for letter in names:
        depth += (letter == "{") - (letter == "}")
        n += letter == "," and depth == 0
    return n
