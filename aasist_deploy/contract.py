"""ModelContract: what a model file says of itself, so that nothing is guessed from its name.

In an ONNX file each field is one entry of `metadata_props` (text as it is, everything else as
JSON), readable in any ONNX viewer and from C++ without a parser for a format of our own. The
version of the layout is `schema`; docs/contract.md describes it for other implementations.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import ModelFileError
from aasist_deploy.onnx_file import (
    OnnxFile,
    read_onnx_file,
    refuse_external_data,
    with_metadata,
    write_onnx_file,
)
from aasist_deploy.textfile import excerpt, json_of, not_in_a_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SCHEMA: Final = "aasist-deploy/contract/1"
# A file that takes a state beside its samples: a reader of the other layout must not run it.
STREAM_SCHEMA: Final = "aasist-deploy/stream-contract/1"
BONA_FIDE: Final = (
    1  # output index of the bona fide class in every architecture (spec of the paper's code)
)
LOGIT_SCORE: Final = "logit of bona fide"
LOG_PROBABILITY_SCORE: Final = "log-probability of bona fide"

# What the output `logits` holds, by the kind of score. Log-probabilities are logits too (their
# softmax gives the probabilities), so a reader of `logits` is right whichever of the two it gets.
_LOGITS: Final = {
    LOGIT_SCORE: "logits of spoof and bona fide, (batch, 2)",
    LOG_PROBABILITY_SCORE: "log-probabilities of spoof and bona fide, (batch, 2)",
}


def output_meanings(score: str) -> dict[str, str]:
    """Name of each output that a model may have -> what it holds.

    Args:
        score: What the score is, LOGIT_SCORE or LOG_PROBABILITY_SCORE.
    """
    return {
        "score": f"{score}, (batch,)",
        "logits": _LOGITS[score],
        "embedding": "input of the last layer, (batch, features)",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamContract:
    """How a file for streams is called: samples of whole frames and a state in, a score out.

    The first call of a stream has a state of zeros, and before its samples come `lead_samples`
    samples of any value, so that calls of whole frames end where windows end. The score of a call
    is that of the window of `window_samples` which ends with the call's last sample; before the
    first window is complete, it means nothing.

    Attributes:
        window_samples: Samples of a window.
        frame_samples: Samples of a frame; a call takes a multiple, and windows start at multiples.
        lead_samples: Samples of a stream's first call that come before its first sample.
        max_frames: Most frames of one call.
        n_frames: Frames of a window.
        shared_frames: Those that a window shares with its neighbours, from the second on.
        state_size: Numbers in the state of one stream.
        state_input: Name of the (batch, state_size) float32 input.
        state_output: Name of the output that holds the state of the next call.
    """

    window_samples: int
    frame_samples: int
    lead_samples: int
    max_frames: int
    n_frames: int
    shared_frames: int
    state_size: int
    state_input: str = "state"
    state_output: str = "next_state"

    def __post_init__(self) -> None:
        """Refuse values that no reader could act on."""
        for name, least in (
            ("window_samples", 1),
            ("frame_samples", 1),
            ("lead_samples", 0),
            ("max_frames", 1),
            ("n_frames", 1),
            ("shared_frames", 1),
            ("state_size", 1),
        ):
            value = getattr(self, name)
            if type(value) is not int or value < least:  # read from a file
                raise ModelFileError(
                    f"The contract's stream.{name} is {value!r}; it must be a whole number >= "
                    f"{least}."
                )
        if (self.window_samples + self.lead_samples) % self.frame_samples:
            raise ModelFileError(
                f"The contract's stream says windows of {self.window_samples} samples after "
                f"{self.lead_samples}, which is no multiple of its frames of {self.frame_samples}."
            )
        for name in ("state_input", "state_output"):
            _check_line(f"stream.{name}", getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContract:
    """Everything an engine must know to feed a model and to read its outputs.

    Attributes:
        schema: Version of this layout; a reader refuses one that it does not know.
        architecture: Name of the network, e.g. "AASIST".
        config: The network's configuration, as in the published `.conf` files.
        sample_rate_hz: Of the input waves.
        n_samples: Length of a wave, or None when the model takes any length >= `min_samples`.
        min_samples: Shortest wave of a variable-length model; equals `n_samples` otherwise.
        max_samples: Longest wave of a variable-length model, or None when nothing limits it.
        padding: How a short clip becomes long enough; "tile" repeats it, never zeros.
        input_name: Name of the (batch, samples) float32 input.
        outputs: Output name -> what it holds.
        class_order: Meaning of the columns of `logits`.
        score: What a score is; higher always means more likely bona fide.
        precision: Arithmetic of the graph: "fp32", "fp16", "bf16" or "int8".
        fp32_nodes: Nodes kept in fp32 in a graph of lower precision.
        gate: What a graph of lower precision was checked on before it was accepted, and what came
            out: clips, differences, flips, kept nodes, error rates; None where it was not checked,
            and for fp32.
        topk: {"method": "topk" | "rank", "ratios": {pool: kept part}, "values": {pool: name of the
            value that holds the order}, "at_least": nodes that are kept whatever the ratio, 1 where
            it is left out}; the order is the kept indices (topk) or the rank of every node (rank).
        batch: [smallest, largest] batch; largest is None when any batch works.
        checkpoint_sha256: Hash of the file the weights came from.
        graph_sha256: Hash of the graph's bytes; a file that was altered is refused.
        calibration: {"scale", "offset"} of score -> log-likelihood ratio and what they were fitted
            on (`aasist_deploy.calibration.Calibration`), or None.
        thresholds: Named decision thresholds on the score.
        tools: Name -> version of what made the file.
        stream: How a file for streams is called, or None for a file that takes whole waves. Then
            `n_samples` is the window, and `input_name` takes the samples of whole frames.
    """

    architecture: str
    config: dict[str, Any]
    sample_rate_hz: int
    n_samples: int | None
    min_samples: int
    outputs: dict[str, str]
    checkpoint_sha256: str
    max_samples: int | None = None
    graph_sha256: str = ""
    schema: str = SCHEMA
    padding: str = "tile"
    input_name: str = "wave"
    class_order: tuple[str, ...] = ("spoof", "bonafide")
    score: str = LOGIT_SCORE
    precision: str = "fp32"
    fp32_nodes: tuple[str, ...] = ()
    gate: dict[str, Any] | None = None
    topk: dict[str, Any] = field(default_factory=dict)
    batch: tuple[int, int | None] = (1, None)
    calibration: dict[str, Any] | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    stream: StreamContract | None = None

    def __post_init__(self) -> None:
        """Refuse values that no reader could act on."""
        if self.schema not in (SCHEMA, STREAM_SCHEMA):
            raise ModelFileError(
                f"The model's contract is '{self.schema}'; this version reads '{SCHEMA}' and "
                f"'{STREAM_SCHEMA}'.",
                fix="use the version of aasist-deploy that wrote the file, or export it again",
            )
        if (self.schema == STREAM_SCHEMA) != isinstance(self.stream, StreamContract):
            raise ModelFileError(
                f"The model's contract is '{self.schema}', and its stream is {self.stream!r}.",
                fix="export the model again",
            )
        for name, value in (
            ("sample_rate_hz", self.sample_rate_hz),
            ("min_samples", self.min_samples),
            ("n_samples", 1 if self.n_samples is None else self.n_samples),
            ("max_samples", 1 if self.max_samples is None else self.max_samples),
            ("smallest batch", self.batch[0]),
            ("largest batch", 1 if self.batch[1] is None else self.batch[1]),
        ):
            if type(value) is not int or value < 1:  # read from a file: the type is not known
                raise ModelFileError(
                    f"The contract's {name} is {value!r}; it must be a whole number >= 1."
                )
        if self.padding != "tile":
            raise ModelFileError(
                f"The contract's padding is '{self.padding}'; only 'tile' is known."
            )
        for name in ("config", "outputs", "topk", "thresholds", "tools"):
            if not isinstance(getattr(self, name), dict):
                raise ModelFileError(f"The contract's {name} is no mapping of names to values.")
        if self.gate is not None and not isinstance(self.gate, dict):
            raise ModelFileError("The contract's gate is no mapping of names to values.")
        for name, text in self._lines():
            _check_line(name, text)
        numbers: dict[str, Any] = {f"threshold {n}": v for n, v in self.thresholds.items()}
        if self.calibration is not None:
            given: object = self.calibration
            known = given if isinstance(given, dict) else {}
            numbers |= {f"calibration {k}": known.get(k) for k in ("scale", "offset")}
        for name, number in numbers.items():
            if type(number) not in (int, float) or not math.isfinite(number):
                raise ModelFileError(f"The contract's {name} is {number!r}; it must be a number.")
        if numbers.get("calibration scale", 1.0) <= 0:
            raise ModelFileError(
                f"The contract's calibration scale is {numbers['calibration scale']}; it must be "
                f"above 0, or higher scores would mean less likely bona fide."
            )
        if not {"score", "logits"} & set(self.outputs):
            raise ModelFileError(
                f"The model gives no score: its outputs are {sorted(self.outputs)}."
            )

    def _lines(self) -> Iterator[tuple[str, object]]:
        """What holds it, and each text that people and programs take for one line."""
        for f in fields(self):
            if f.type == "str":
                yield f.name, getattr(self, f.name)
        for name in ("class_order", "fp32_nodes"):
            for one in getattr(self, name):
                yield name, one
        for name in ("outputs", "thresholds", "tools"):
            for key in getattr(self, name):
                yield f"name in {name}", key
        for name in ("outputs", "tools"):
            for key, text in getattr(self, name).items():
                yield f"{name}[{excerpt(key)}]", text

    def to_dict(self) -> dict[str, Any]:
        """The contract as plain JSON types."""
        return asdict(self)

    def to_metadata(self) -> dict[str, str]:
        """The contract as `metadata_props`: text as it is, everything else as JSON."""
        return {
            name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            for name, value in self.to_dict().items()
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> ModelContract:
        """Read the contract back; `path` is used in messages only.

        Raises:
            ModelFileError: there is no contract, it is of another version, or it is incomplete.
        """
        if "schema" not in metadata:
            raise ModelFileError(
                f"{path} carries no contract: it does not say what it takes and what it gives.",
                fix="export the checkpoint with: aasist-deploy export CHECKPOINT -o model.onnx",
            )
        known = {f.name: f for f in fields(cls)}
        values: dict[str, Any] = {}
        try:
            for name in known.keys() & metadata.keys():
                text = metadata[name]
                values[name] = text if known[name].type == "str" else json_of(text)
        except ValueError as error:
            raise _unreadable(path, error) from error
        return cls.from_dict(values, path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: Path) -> ModelContract:
        """Read back what `to_dict` gave, also after JSON; keys that are not known are left out.

        Args:
            values: Field name -> plain JSON value.
            path: The file they were read from, for messages.

        Raises:
            ModelFileError: it is a contract of another version, or it is incomplete.
        """
        try:
            known = {f.name for f in fields(cls)}
            taken = {name: value for name, value in values.items() if name in known}
            for name in ("class_order", "fp32_nodes", "batch"):
                if name in taken:
                    taken[name] = tuple(taken[name])
            if isinstance(held := taken.get("stream"), dict):
                names = {f.name for f in fields(StreamContract)}
                taken["stream"] = StreamContract(**{k: v for k, v in held.items() if k in names})
            return cls(**taken)
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}", fix=error.fix) from error
        except (TypeError, ValueError, LookupError, OverflowError, RecursionError) as error:
            raise _unreadable(path, error) from error


def _check_line(name: str, text: object) -> None:
    """Refuse what is no text, or no single line, before it is printed or written somewhere."""
    if not isinstance(text, str):  # read from a file
        raise ModelFileError(f"The contract's {name} is {text!r:.80}; it must be a text.")
    if (code := not_in_a_line(text)) is not None:
        raise ModelFileError(
            f"The contract's {name} is {excerpt(text)}, with the character {code}; it must be one "
            f"line of text.",
            fix="export the model again",
        )


def _unreadable(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"The contract in {path} cannot be read: {error}.", fix="export the model again"
    )


def read_contract(
    path: Path | str, *, stream: bool | None = False
) -> tuple[ModelContract, OnnxFile]:
    """Read an ONNX file with its contract and check that the graph is the one it was written for.

    Args:
        path: The file.
        stream: Whether a file for streams is wanted; None takes either.

    Raises:
        ModelFileError: not an ONNX model, damaged, without a contract, altered after export, with
            weights in another file, or of the kind that is not wanted.
    """
    file = read_onnx_file(path)
    contract = ModelContract.from_metadata(file.metadata, file.path)
    if contract.graph_sha256 != file.graph_sha256:
        raise ModelFileError(
            f"{file.path} was altered after export: its graph hashes to {file.graph_sha256[:12]}, "
            f"its contract says {contract.graph_sha256[:12] or 'nothing'}.",
            fix="export the checkpoint again; a graph edited on purpose needs a new contract",
        )
    refuse_external_data(file)
    if stream is not None and stream != (contract.stream is not None):
        raise ModelFileError(
            f"{file.path} takes {'whole waves' if stream else 'a state beside its samples'}: it is "
            f"{'no' if stream else 'a'} file for streams.",
            fix="export the checkpoint with --stream"
            if stream
            else "use it with stream and scan; for whole files, export without --stream",
        )
    return contract, file


def write_contract(contract: ModelContract, file: OnnxFile, output: Path) -> None:
    """Write an ONNX file with another contract; the graph and all else stay byte for byte.

    Entries of the metadata that are none of ours are kept. The place, which may be the file's own,
    holds either what it held or the whole new file.

    Raises:
        ModelFileError: the contract is that of another graph, or the file would be too large.
        OutputError: the place cannot be written.
    """
    if contract.graph_sha256 != file.graph_sha256:
        raise ModelFileError(
            f"The contract is that of the graph {contract.graph_sha256[:12] or 'nothing'}; "
            f"{file.path} holds the graph {file.graph_sha256[:12]}.",
            fix="change the contract that read_contract gives for this file",
        )
    metadata = {**file.metadata, **contract.to_metadata()}
    write_onnx_file(output, with_metadata(file, metadata))
