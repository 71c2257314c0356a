"""Parity: how far two engines are apart on the same audio, and whether that is close enough."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.engines.base import ObservesPooling
from aasist_deploy.errors import ShapeError, UsageError
from aasist_deploy.metrics.rank_correlation import spearman

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from aasist_deploy.engines import Engine

DEFAULT_BATCH: Final = 8
DEFAULT_LENGTHS: Final = (16_000, 32_000, 64_600, 96_000)  # of the checks on variable-length models


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityLimits:
    """What counts as equal.

    Attributes:
        difference: Largest difference of a score. 1e-4 for fp32: on 412 real clips ONNX Runtime
            and eager PyTorch differ by at most 1.6e-5, and another CPU rounds differently.
        rank_correlation: Smallest Spearman correlation of the scores.
        flips: How many decisions may differ.
        topk_agreement: Smallest part of clips whose poolings kept the same nodes in the same order.
            Not 1: two nodes whose scores differ by less than rounding may change places.
    """

    difference: float = 1e-4
    rank_correlation: float = 0.999
    flips: int = 0
    topk_agreement: float = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """Differences between a model and a reference.

    Attributes:
        n_clips: Clips compared.
        max_difference: Largest absolute difference of a score.
        mean_difference: Mean absolute difference of the scores.
        rank_correlation: Spearman correlation of the scores; None for fewer than three clips.
        threshold: Decision threshold on the score; at or above it a clip counts as bona fide.
        flips: Clips decided differently.
        topk_agreement: Pool name -> part of clips with the same nodes in the same order; None when
            an engine cannot show its poolings.
        batch_difference: Largest difference between one by one and in batches, on the model.
        length_differences: Samples -> largest difference of a score; only for variable length.
        breaches: What exceeds the limits, in words; empty when parity holds.
    """

    n_clips: int
    max_difference: float
    mean_difference: float
    rank_correlation: float | None
    threshold: float
    flips: int
    topk_agreement: dict[str, float] | None
    batch_difference: float
    length_differences: dict[int, float]
    breaches: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether all limits hold."""
        return not self.breaches

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types, with `holds`."""
        values = {"holds": self.holds, **asdict(self)}
        for name in ("max_difference", "mean_difference", "rank_correlation", "batch_difference"):
            values[name] = _number(values[name])
        values["length_differences"] = {
            str(n): _number(difference) for n, difference in self.length_differences.items()
        }
        return values


def _number(value: float | None) -> float | None:
    """The value, or None for what JSON does not have: a model that gives NaN."""
    return value if value is not None and np.isfinite(value) else None


def compare(
    model: Engine,
    reference: Engine,
    waves: NDArray[np.float32],
    *,
    limits: ParityLimits | None = None,
    threshold: float = 0.0,
    batch: int = DEFAULT_BATCH,
    lengths: Sequence[int] = (),
    on_clip: Callable[[], None] | None = None,
) -> ParityReport:
    """Compare two engines on the same waves.

    Args:
        model: The engine under test; it is run one by one and in batches.
        reference: What it should equal; run one by one.
        waves: (n, N) float32 windows that both take.
        limits: What counts as equal.
        threshold: Decision threshold on the score.
        batch: Batch size of the batched run.
        lengths: Further window lengths (samples) to compare at; both must take them.
        on_clip: Called after each clip of the one-by-one run.

    Raises:
        UsageError: the two do not take the same waves, or there are none.
    """
    limits = limits or ParityLimits()
    if len(waves) == 0:
        raise UsageError("There is no audio to compare on.", fix="--audio FOLDER with audio files")
    if model.contract.sample_rate_hz != reference.contract.sample_rate_hz:
        raise UsageError(
            f"The models take different sample rates: {model.contract.sample_rate_hz} and "
            f"{reference.contract.sample_rate_hz} Hz."
        )
    ours, theirs, agreements = [], [], []
    for wave in waves:
        ours.append(model.score(wave[None])[0])
        theirs.append(reference.score(wave[None])[0])
        agreements.append(_same_nodes(model, reference, wave[None]))
        if on_clip is not None:
            on_clip()
    a, b = np.array(ours, np.float64), np.array(theirs, np.float64)
    largest = model.contract.batch[1]
    batched = a
    if largest is None or largest > 1:
        size = min(batch, largest or batch)
        batched = np.concatenate(
            [model.score(waves[i : i + size]) for i in range(0, len(waves), size)]
        ).astype(np.float64)
    length_differences = {
        n: float(np.max([_difference_at(model, reference, wave, n) for wave in waves]))
        for n in lengths
    }
    known = [agreement for agreement in agreements if agreement is not None]
    topk = (
        {name: float(np.mean([one[name] for one in known])) for name in known[0]} if known else None
    )
    partial = ParityReport(
        n_clips=len(waves),
        max_difference=float(np.abs(a - b).max()),
        mean_difference=float(np.abs(a - b).mean()),
        rank_correlation=spearman(a, b) if len(a) > 2 else None,
        threshold=threshold,
        flips=int(np.count_nonzero((a >= threshold) != (b >= threshold))),
        topk_agreement=topk or None,
        batch_difference=float(np.abs(a - batched).max()),
        length_differences=length_differences,
        breaches=(),
    )
    return replace(partial, breaches=_breaches(partial, limits))


def _same_nodes(
    model: Engine, reference: Engine, wave: NDArray[np.float32]
) -> dict[str, bool] | None:
    if not (isinstance(model, ObservesPooling) and isinstance(reference, ObservesPooling)):
        return None
    ours, theirs = model.pooling_orders(wave), reference.pooling_orders(wave)
    return {name: np.array_equal(ours[name], theirs[name]) for name in ours if name in theirs}


def _difference_at(
    model: Engine, reference: Engine, wave: NDArray[np.float32], n_samples: int
) -> float:
    try:
        repeats = -(-n_samples // len(wave))
        window = np.tile(wave, repeats)[None, :n_samples]
        return float(np.abs(model.score(window) - reference.score(window)).max())
    except ShapeError as error:
        raise UsageError(
            f"The length {n_samples} cannot be compared: {error}",
            fix="leave --lengths out for a model of fixed length",
        ) from error


def _breaches(report: ParityReport, limits: ParityLimits) -> tuple[str, ...]:
    found = []
    # `not <=` rather than `>`: a NaN is a breach too.
    if not report.max_difference <= limits.difference:
        found.append(
            f"a score differs by {report.max_difference:.2e}, over {limits.difference:.0e}"
        )
    if not report.batch_difference <= limits.difference:
        found.append(
            f"batches change a score by {report.batch_difference:.2e}, over {limits.difference:.0e}"
        )
    for n_samples, difference in report.length_differences.items():
        if not difference <= limits.difference:
            found.append(f"at {n_samples} samples a score differs by {difference:.2e}")
    if report.rank_correlation is not None and not (
        report.rank_correlation >= limits.rank_correlation
    ):
        found.append(
            f"the rank correlation is {report.rank_correlation:.5f}, "
            f"below {limits.rank_correlation}"
        )
    if report.flips > limits.flips:
        found.append(f"{report.flips} decisions at {report.threshold} flip, over {limits.flips}")
    for name, agreement in (report.topk_agreement or {}).items():
        if agreement < limits.topk_agreement:
            found.append(
                f"{name} keeps the same nodes on {agreement:.1%} of clips, "
                f"below {limits.topk_agreement:.1%}"
            )
    return tuple(found)
