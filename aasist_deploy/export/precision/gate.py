"""The gate: a graph of lower precision is accepted for the scores it gives, not for its formats."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import UsageError
from aasist_deploy.metrics import eer, min_tdcf_2019
from aasist_deploy.metrics.rank_correlation import spearman

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from aasist_deploy.export.precision.measuring import Measured
    from aasist_deploy.metrics import TandemRates

# Largest difference of a score that is accepted. Measured on 412 real clips: docs/precision.md.
DIFFERENCE_LIMITS: Final = {"fp16": 0.05, "bf16": 0.25, "int8": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateAudio:
    """What a graph is checked on.

    Attributes:
        waves: (n, N) windows of real audio.
        bona_fide: (n,) truth, or None when it is not known.
        threshold: Decision threshold on the score; None for the equal error threshold of the fp32
            graph where the truth is known, and 0 elsewhere.
        asv: Error rates of a speaker verification system, for the change of the min t-DCF.
        source: Where the audio is from, for the contract.
        names: (n,) what the clips are called, without folder and suffix; empty when not known.
    """

    waves: NDArray[np.float32]
    bona_fide: NDArray[np.bool_] | None = None
    threshold: float | None = None
    asv: TandemRates | None = None
    source: str = ""
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be measured on."""
        if len(self.waves) == 0:
            raise UsageError(
                "There is no audio to check the lower precision on.",
                fix="--gate-audio FOLDER with audio files",
            )
        if self.bona_fide is not None and len(self.bona_fide) != len(self.waves):
            raise UsageError(f"There are {len(self.waves)} clips and {len(self.bona_fide)} labels.")

    @property
    def has_both_classes(self) -> bool:
        """Whether error rates can be computed."""
        return self.bona_fide is not None and 0 < self.bona_fide.sum() < len(self.bona_fide)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """What is accepted.

    Attributes:
        difference: Largest difference of a score.
        flips: How many decisions may differ.
        rank_correlation: Smallest Spearman correlation of the scores.
        topk_changes: How many clips may keep other nodes in a graph pooling; None: any number, for
            what counts is the score.
        eer_change: Largest change of the equal error rate, in [0, 1]; None: any.
        min_tdcf_change: Largest change of the minimum t-DCF; None: any.
    """

    difference: float
    flips: int = 0
    rank_correlation: float = 0.999
    topk_changes: int | None = None
    eer_change: float | None = None
    min_tdcf_change: float | None = None

    @classmethod
    def of(cls, precision: str) -> GateLimits:
        """The limits of this precision unless others are given."""
        difference = DIFFERENCE_LIMITS[precision]
        if precision == "int8":
            return cls(difference=difference, eer_change=0.0, min_tdcf_change=0.0)
        return cls(difference=difference)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """How far a graph of lower precision is from the fp32 graph.

    Attributes:
        n_clips: Clips of real audio.
        max_difference: Largest absolute difference of a score.
        mean_difference: Mean absolute difference.
        rank_correlation: Spearman correlation; None for fewer than three clips.
        threshold: Decision threshold; at or above it a clip counts as bona fide.
        flips: Clips decided differently.
        topk_changes: Pool name -> clips of which it kept other nodes.
        topk_reordered: Pool name -> clips of which it kept the same nodes in another order, on
            which the score of RawGAT-ST depends and that of AASIST does not.
        eer: (fp32, lower) equal error rates where both classes are there.
        min_tdcf: (fp32, lower) minimum t-DCF (2019) where ASV error rates are given.
        stress: Name of a synthetic wave (loud, silent, clipped, ...) -> difference of its score;
            NaN when a score is not finite.
        largest_value: Largest magnitude of any low value on the stress waves and the first clips.
        breaches: What exceeds the limits, in words; empty when the gate holds.
    """

    n_clips: int
    max_difference: float
    mean_difference: float
    rank_correlation: float | None
    threshold: float
    flips: int
    topk_changes: dict[str, int]
    topk_reordered: dict[str, int]
    eer: tuple[float, float] | None = None
    min_tdcf: tuple[float, float] | None = None
    stress: dict[str, float] = field(default_factory=dict)
    largest_value: float | None = None
    breaches: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether all limits hold."""
        return not self.breaches

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types; numbers that are not finite are null."""

        def plain(value: Any) -> Any:  # noqa: ANN401  # any part of the report
            if isinstance(value, float):
                return value if np.isfinite(value) else None
            if isinstance(value, dict):
                return {name: plain(one) for name, one in value.items()}
            return [plain(one) for one in value] if isinstance(value, tuple | list) else value

        return {"holds": self.holds, **{name: plain(v) for name, v in asdict(self).items()}}


def compare_measured(
    reference: Measured,
    lower: Measured,
    audio: GateAudio,
    limits: GateLimits,
    *,
    stress: Mapping[str, float] | None = None,
    largest: Mapping[str, float] | None = None,
) -> GateReport:
    """The report of what two graphs gave on the gate's audio.

    Args:
        reference: Of the fp32 graph.
        lower: Of the graph of lower precision.
        audio: What they were run on.
        limits: What is accepted.
        stress: Differences on synthetic waves; NaN where a score is not finite.
        largest: Name of a low value -> its largest magnitude.
    """
    a, b = reference.scores, lower.scores
    differences = np.abs(a - b)
    threshold = decision_threshold(reference, audio)
    changes, reordered = {}, {}
    for name, order in reference.orders.items():
        other_nodes = np.any(np.sort(order, 1) != np.sort(lower.orders[name], 1), axis=1)
        changes[name] = int(np.count_nonzero(other_nodes))
        reordered[name] = int(np.count_nonzero(np.any(order != lower.orders[name], axis=1)))
        reordered[name] -= changes[name]
    finite = bool(np.isfinite(b).all())
    rates, tdcf = _error_rates(a, b, audio) if finite and audio.has_both_classes else (None, None)
    report = GateReport(
        n_clips=len(a),
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        rank_correlation=spearman(a, b) if len(a) > 2 and finite else None,
        threshold=threshold,
        flips=int(np.count_nonzero((a >= threshold) != (b >= threshold))),
        topk_changes=changes,
        topk_reordered=reordered,
        eer=rates,
        min_tdcf=tdcf,
        stress=dict(stress or {}),
        largest_value=max(largest.values(), default=0.0) if largest is not None else None,
    )
    breaches = [*_score_breaches(report, limits), *_rate_breaches(report, limits)]
    lost = [name for name, value in (largest or {}).items() if not np.isfinite(value)]
    if lost:
        breaches.append(
            f"{lost[0]} overflows" + (f", as do {len(lost) - 1} others" * (len(lost) > 1))
        )
    values = {**asdict(report), "breaches": tuple(breaches)}
    return GateReport(**values)


def decision_threshold(reference: Measured, audio: GateAudio) -> float:
    """The given threshold, or the equal error threshold of the fp32 scores, or 0."""
    if audio.threshold is not None:
        return audio.threshold
    if not audio.has_both_classes or audio.bona_fide is None:
        return 0.0
    return eer(reference.scores[audio.bona_fide], reference.scores[~audio.bona_fide]).threshold


def stress_waves(n_samples: int) -> dict[str, NDArray[np.float32]]:
    """Name -> (N,) synthetic waves in [-1, 1] at the edges of what audio can be."""
    rng = np.random.default_rng(0)
    t = np.arange(n_samples) / 16_000.0
    noise = rng.uniform(-1, 1, n_samples)
    impulse = np.zeros(n_samples)
    impulse[n_samples // 2] = 1.0
    waves = {
        "loud square, 100 Hz": np.where(np.sin(2 * np.pi * 100 * t) >= 0, 1.0, -1.0),
        "loud square, 3 kHz": np.where(np.sin(2 * np.pi * 3_000 * t) >= 0, 1.0, -1.0),
        "loud sweep": np.sin(2 * np.pi * 4_000 * t * t / max(float(t[-1]), 1e-9)),
        "constant": np.ones(n_samples),
        "silent": np.zeros(n_samples),
        "nearly silent": noise / 32_768,
        "clipped": np.clip(10 * noise, -1, 1),
        "random": noise,
        "impulse": impulse,
    }
    return {name: wave.astype(np.float32) for name, wave in waves.items()}


def _error_rates(
    a: NDArray[np.float64], b: NDArray[np.float64], audio: GateAudio
) -> tuple[tuple[float, float], tuple[float, float] | None]:
    truth = audio.bona_fide
    assert truth is not None  # both classes are there
    rates = (eer(a[truth], a[~truth]).eer, eer(b[truth], b[~truth]).eer)
    if audio.asv is None:
        return rates, None
    costs = [min_tdcf_2019(x[truth], x[~truth], audio.asv).value for x in (a, b)]
    return rates, (costs[0], costs[1])


def _score_breaches(report: GateReport, limits: GateLimits) -> list[str]:
    found = []
    # `not <=` rather than `>`: a NaN is a breach too.
    if not report.max_difference <= limits.difference:
        found.append(f"a score differs by {report.max_difference:.3g}, over {limits.difference:g}")
    if report.flips > limits.flips:
        found.append(f"{report.flips} decisions at {report.threshold:.3g} flip")
    correlation = report.rank_correlation
    if correlation is not None and not correlation >= limits.rank_correlation:
        found.append(f"the rank correlation is {correlation:.5f}, below {limits.rank_correlation}")
    found += [
        f"the score of the wave '{name}' is not finite"
        for name, difference in report.stress.items()
        if not np.isfinite(difference)
    ]
    return found


def _rate_breaches(report: GateReport, limits: GateLimits) -> list[str]:
    found = []
    for name, pair, limit in (
        ("EER", report.eer, limits.eer_change),
        ("min t-DCF", report.min_tdcf, limits.min_tdcf_change),
    ):
        if pair is not None and limit is not None and not abs(pair[1] - pair[0]) <= limit:
            found.append(f"the {name} goes from {pair[0]:.6f} to {pair[1]:.6f}")
    if limits.topk_changes is not None:
        found += [
            f"{name} keeps other nodes on {n} clips, over {limits.topk_changes}"
            for name, n in report.topk_changes.items()
            if n > limits.topk_changes
        ]
    return found
