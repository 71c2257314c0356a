"""config.pbtxt of a model in a repository for NVIDIA Triton Inference Server.

The fields are those of Triton's documentation of the model configuration. Whatever comes out of a
file stands in it quoted, so that no text of a model's becomes a line of its configuration: a line
may name libraries that the server loads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from aasist_deploy.contract import ModelContract

Kind = Literal["cpu", "gpu"]

MAX_INT: Final = 2**31 - 1  # of the fields of the schema that count something


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonOptions:
    """How Triton runs the models.

    Attributes:
        kind: Where the ONNX variant runs; None for the CPU, and the GPU for fp16 and bf16. The
            TensorRT variant runs on a GPU.
        instances: Copies of each model, for each GPU or all CPUs; each has its own memory.
        max_batch: Most windows of one call of the ONNX variant.
        max_delay_us: How long a window waits for others, in microseconds.
        max_queue: Requests that wait; more are rejected.
        timeout_s: A request that waits longer is rejected.
    """

    kind: Kind | None = None
    instances: int = 1
    max_batch: int = 16
    max_delay_us: int = 5_000
    max_queue: int = 256
    timeout_s: int = 30

    def __post_init__(self) -> None:
        """Refuse what Triton could not act on."""
        for name in ("instances", "max_batch", "max_queue", "timeout_s"):
            if not 1 <= (value := getattr(self, name)) <= MAX_INT:
                raise UsageError(f"{name} is {value}; it must be 1 or more, and fit 31 bits.")
        if not 0 <= self.max_delay_us <= MAX_INT:
            raise UsageError(f"max_delay_us is {self.max_delay_us}; it must be 0 to {MAX_INT}.")


@dataclass(frozen=True, slots=True)
class TritonModel:
    """One model of the repository, as its config.pbtxt describes it."""

    name: str
    backend: str
    platform: str
    kind: Kind
    max_batch: int
    preferred: tuple[int, ...]
    profiles: int  # of a plan


def config_text(
    model: TritonModel,
    contract: ModelContract,
    shapes: dict[str, tuple[int, ...]],
    options: TritonOptions,
) -> str:
    """config.pbtxt, in the text format of protocol buffers.

    Args:
        model: Name, backend and batches.
        contract: Of the model.
        shapes: Output -> its shape behind the batch, -1 where it is not fixed.
        options: How Triton runs it.
    """
    window = -1 if contract.n_samples is None else contract.n_samples
    outputs = ",\n".join(_output(name, shapes[name]) for name in contract.outputs)
    sizes = sorted({1, model.preferred[-1]})
    samples = contract.n_samples or contract.min_samples
    warm_ups = ",\n".join(_warm_up(size, contract.input_name, samples) for size in sizes)
    profiles = ", ".join(f'"{index}"' for index in range(model.profiles))
    profile = f"\n    profile: [ {profiles} ]" if model.profiles > 1 else ""
    preferred = ", ".join(map(str, model.preferred))
    return f"""\
# {quoted(contract.architecture)}: waves of {contract.sample_rate_hz} Hz in, scores out.
# contract.json says how audio becomes a wave.
name: "{model.name}"
backend: "{model.backend}"
platform: "{model.platform}"
max_batch_size: {model.max_batch}
input [
  {{
    name: {quoted(contract.input_name)}
    data_type: TYPE_FP32
    dims: [ {window} ]
  }}
]
output [
{outputs}
]
dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
  max_queue_delay_microseconds: {options.max_delay_us}
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {options.timeout_s * 1_000_000}
    allow_timeout_override: true
    max_queue_size: {options.max_queue}
  }}
}}
instance_group [
  {{
    count: {options.instances}
    kind: KIND_{model.kind.upper()}{profile}
  }}
]
model_warmup [
{warm_ups}
]
"""


def _output(name: str, shape: tuple[int, ...]) -> str:
    """One output; of one number for each wave, Triton's shape is 1, and the model's nothing."""
    lines = [f"    name: {quoted(name)}", "    data_type: TYPE_FP32"]
    if shape:
        lines.append(f"    dims: [ {', '.join(map(str, shape))} ]")
    else:
        lines += ["    dims: [ 1 ]", "    reshape { shape: [ ] }"]
    if name == "logits":
        lines.append('    label_filename: "labels.txt"')
    return "\n".join(["  {", *lines, "  }"])


def _warm_up(batch: int, input_name: str, n_samples: int) -> str:
    return f"""\
  {{
    name: "batch of {batch}"
    batch_size: {batch}
    inputs {{
      key: {quoted(input_name)}
      value {{ data_type: TYPE_FP32 dims: [ {n_samples} ] zero_data: true }}
    }}
  }}"""


def quoted(text: str) -> str:
    """A string of the text format; names come out of files, and may hold anything."""
    shown = "".join(
        c if c.isprintable() and c.isascii() and c not in '"\\' else
        "".join(f"\\{byte:03o}" for byte in c.encode("utf-8", "surrogatepass"))
        for c in text
    )  # fmt: skip
    return f'"{shown}"'
