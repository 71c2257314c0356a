"""How an ONNX file is written: the options of an export, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aasist_deploy.contract import LOGIT_SCORE, output_meanings
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from aasist_deploy.export.inference_layers import TopK

OUTPUTS: Final = tuple(output_meanings(LOGIT_SCORE))  # names; the meaning is the network's
OPSETS: Final = range(18, 24)
PRECISIONS: Final = ("fp32", "fp16", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How an ONNX file is written.

    Attributes:
        topk: The form of graph pooling: "topk" (TopK and gather) or "rank" (comparisons and a
            matrix product; no operator whose ties a runtime could break its own way). Networks
            without graph pooling, and those of one's own, are the same in both.
        n_samples: Length of a wave, "trained" for the one that the network was trained on, or None
            for any length.
        batch: A fixed batch size, or None for any.
        opset: ONNX operator set.
        outputs: Which of score, logits and embedding the file gives.
        precision: Arithmetic of the graph. fp16 and bf16 are made from the fp32 graph, and kept
            only when their scores on real audio hold (`aasist_deploy.export.precision`).
    """

    topk: TopK = "topk"
    n_samples: int | Literal["trained"] | None = "trained"
    batch: int | None = None
    opset: int = 18
    outputs: tuple[str, ...] = ("score", "logits")
    precision: str = "fp32"

    def __post_init__(self) -> None:
        """Refuse what cannot be exported, before anything is loaded."""
        if self.topk not in ("topk", "rank"):
            raise UsageError(f"There is no top-k form '{self.topk}'; known are: topk, rank.")
        if isinstance(self.n_samples, str) and self.n_samples != "trained":
            raise UsageError(
                f"The window is '{self.n_samples}'; it must be a number of samples, 'trained', or "
                f"None for any length."
            )
        if self.opset not in OPSETS:
            raise UsageError(
                f"Opset {self.opset} is not supported; {OPSETS[0]} to {OPSETS[-1]} are.",
                fix=f"leave --opset out: {OPSETS[0]} is read by every current runtime",
            )
        unknown = [name for name in self.outputs if name not in OUTPUTS]
        if unknown or not self.outputs:
            raise UsageError(
                f"Unknown outputs {', '.join(unknown) or '(none given)'}; known are: "
                f"{', '.join(OUTPUTS)}."
            )
        if not {"score", "logits"} & set(self.outputs):
            raise UsageError(
                "A model without score or logits cannot be scored with.",
                fix="add score: --outputs score,embedding",
            )
        if self.precision not in PRECISIONS:
            raise UsageError(
                f"There is no precision '{self.precision}'; known are: {', '.join(PRECISIONS)}."
            )
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"The batch size is {self.batch}; it must be 1 or more.")
