"""Parity: how far two engines are apart on the same audio, and whether that is close enough.

Graph pooling keeps the nodes with the highest scores. Where scores are equal, which of them are
kept is a choice that no definition makes: sigmoids saturate, and torch.topk breaks ties in an order
of its own that no other runtime repeats. Such a choice is no difference between two models. So
where the nodes differ, the reference, if it can, is asked whether its own scores allow the model's
nodes; if they do, it is compared as it is with those nodes, and the report counts the clip.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from aasist_deploy.engines.base import ORDER_RTOL, FollowsPooling, ObservesPooling, ScoresObserved
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
        topk_agreement: Smallest part of clips whose poolings kept the same nodes in the same order,
            or equal ones. Not 1: two nodes whose scores differ by less than rounding may change
            places, and not every reference can tell that.
    """

    difference: float = 1e-4
    rank_correlation: float = 0.999
    flips: int = 0
    topk_agreement: float = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualScores:
    """Clips whose nodes differ only in the choice among equal scores.

    Attributes:
        n_clips: So many clips were compared with the nodes that the model kept.
        pools: Pool name -> clips in which it kept other nodes or another order; a pool that reads
            what another one kept is counted where its own nodes differ.
        max_difference: Largest difference of their scores where each model chooses for itself; no
            limit applies to it.
        flips: Their decisions that differ then.
    """

    n_clips: int
    pools: dict[str, int]
    max_difference: float
    flips: int


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
        topk_agreement: Pool name -> part of clips with the same nodes in the same order, or equal
            ones; None when an engine cannot show its poolings.
        equal_scores: Clips in which equal scores at the pooling boundary made a difference; None
            when there is none.
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
    equal_scores: EqualScores | None
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
        if self.equal_scores is not None:
            values["equal_scores"]["max_difference"] = _number(self.equal_scores.max_difference)
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
    clips = []
    for wave in waves:
        clips.append(_compared(model, reference, wave[None]))
        if on_clip is not None:
            on_clip()
    a = np.array([clip.model for clip in clips])
    b = np.array([clip.reference for clip in clips])
    largest = model.contract.batch[1]
    batched = a
    if largest is None or largest > 1:
        size = min(batch, largest or batch)
        batched = np.concatenate(
            [model.score(waves[i : i + size]) for i in range(0, len(waves), size)]
        ).astype(np.float64)
    length_differences = {
        n: float(
            np.max([_difference_at(model, reference, wave, n, limits.difference) for wave in waves])
        )
        for n in lengths
    }
    pools = list(clips[0].same_nodes or {})
    partial = ParityReport(
        n_clips=len(waves),
        max_difference=float(np.abs(a - b).max()),
        mean_difference=float(np.abs(a - b).mean()),
        rank_correlation=spearman(a, b) if len(a) > 2 else None,
        threshold=threshold,
        flips=int(np.count_nonzero((a >= threshold) != (b >= threshold))),
        topk_agreement={name: float(np.mean([c.agrees(name) for c in clips])) for name in pools}
        or None,
        equal_scores=_equal_scores([clip for clip in clips if clip.equal], threshold),
        batch_difference=float(np.abs(a - batched).max()),
        length_differences=length_differences,
        breaches=(),
    )
    return replace(partial, breaches=_breaches(partial, limits))


class _Clip(NamedTuple):
    """One clip on both engines.

    Attributes:
        model: The model's score.
        reference: The score of the reference to compare it with.
        own: The score of the reference with the nodes that it keeps itself.
        same_nodes: Pool name -> whether both kept the same nodes in the same order; None where an
            engine cannot tell.
        equal: Whether nodes differ only in the choice among equal scores.
    """

    model: float
    reference: float
    own: float
    same_nodes: dict[str, bool] | None
    equal: bool

    def agrees(self, pool: str) -> bool:
        return self.equal or (self.same_nodes or {})[pool]


def _compared(model: Engine, reference: Engine, window: NDArray[np.float32]) -> _Clip:
    """Both engines on one (1, N) window."""
    if not (isinstance(model, ObservesPooling) and isinstance(reference, ObservesPooling)):
        own = float(reference.score(window)[0])
        return _Clip(float(model.score(window)[0]), own, own, None, equal=False)
    (ours, kept), (own, wanted) = _observed(model, window), _observed(reference, window)
    same = {name: np.array_equal(kept[name], wanted[name]) for name in kept if name in wanted}
    comparable = kept.keys() == wanted.keys() and all(
        kept[name].shape == wanted[name].shape for name in kept
    )
    if comparable and not all(same.values()) and isinstance(reference, FollowsPooling):
        followed, contradiction = reference.score_in_order(window, kept)
        if contradiction <= ORDER_RTOL:
            return _Clip(ours, float(followed[0]), own, same, equal=True)
    return _Clip(ours, own, own, same, equal=False)


def _observed(
    engine: Engine, window: NDArray[np.float32]
) -> tuple[float, dict[str, NDArray[np.int64]]]:
    """Score and kept nodes, in one run where the engine can."""
    if isinstance(engine, ScoresObserved):
        scores, orders = engine.score_observed(window)
        return float(scores[0]), orders
    assert isinstance(engine, ObservesPooling)
    return float(engine.score(window)[0]), engine.pooling_orders(window)


def _equal_scores(clips: Sequence[_Clip], threshold: float) -> EqualScores | None:
    if not clips:
        return None
    pools: Counter[str] = Counter()
    for clip in clips:
        pools.update(name for name, same in (clip.same_nodes or {}).items() if not same)
    return EqualScores(
        n_clips=len(clips),
        pools=dict(sorted(pools.items())),
        max_difference=float(np.max([abs(clip.model - clip.own) for clip in clips])),
        flips=sum((clip.model >= threshold) != (clip.own >= threshold) for clip in clips),
    )


def _difference_at(
    model: Engine, reference: Engine, wave: NDArray[np.float32], n_samples: int, enough: float
) -> float:
    """The difference of a score at a length; poolings are only looked at where it is too large."""
    try:
        repeats = -(-n_samples // len(wave))
        window = np.tile(wave, repeats)[None, :n_samples]
        difference = float(np.abs(model.score(window) - reference.score(window)).max())
        if difference <= enough:
            return difference
        clip = _compared(model, reference, window)
    except ShapeError as error:
        raise UsageError(
            f"The length {n_samples} cannot be compared: {error}",
            fix="leave --lengths out for a model of fixed length",
        ) from error
    return abs(clip.model - clip.reference)


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
