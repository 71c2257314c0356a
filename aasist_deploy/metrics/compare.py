"""Comparison of two systems on the same trials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.bootstrap import Bootstrap, draws, interval
from aasist_deploy.metrics.eer import eer
from aasist_deploy.metrics.rates import checked_classes
from aasist_deploy.metrics.resampling import named_speakers
from aasist_deploy.metrics.tdcf_2019 import min_tdcf_2019
from aasist_deploy.metrics.tdcf_2021 import min_tdcf_2021
from aasist_deploy.metrics.weighted import WeightedMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from aasist_deploy.metrics.resampling import Speakers
    from aasist_deploy.metrics.tandem import TandemRates

# Up to so many disagreements the binomial sum is exact in whole numbers and takes no time; beyond
# it the chi-square form with continuity correction is the same to three digits.
MAX_EXACT: Final = 1000
_EXAMPLES: Final = 3


class NamedScores(Protocol):
    """Scores with their truth and the names of the trials; `ScoreTable` is one."""

    @property
    def utterances(self) -> Sequence[str]:
        """(n,) names of the trials."""

    @property
    def scores(self) -> NDArray[np.float64]:
        """(n,) scores; higher means more bona fide."""

    @property
    def is_bonafide(self) -> NDArray[np.bool_] | None:
        """(n,) the truth, or None when it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A metric of both systems; what is lower is better.

    Attributes:
        first: Metric of the first system.
        second: Metric of the second one.
        difference: second - first, below 0 when the second is better.
        low: Lower end of its interval.
        high: Upper end.
        p: How often a paired bootstrap has a difference of the other sign, or none, two-sided.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float

    def to_dict(self) -> dict[str, Any]:
        """Return the result with stable names, ready for JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "difference": self.difference,
            "interval": [self.low, self.high],
            "p": self.p,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """McNemar's test on the decisions at the equal error threshold of each system.

    Attributes:
        only_first_right: Trials that the first system alone decides rightly.
        only_second_right: Trials that the second system alone decides rightly.
        p: Two-sided.
        method: exact (binomial) or chi-square (with continuity correction).
    """

    only_first_right: int
    only_second_right: int
    p: float
    method: str

    def to_dict(self) -> dict[str, Any]:
        """Return the result with stable names, ready for JSON."""
        return {
            "only_first_right": self.only_first_right,
            "only_second_right": self.only_second_right,
            "p": self.p,
            "method": self.method,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What `compare` found.

    Attributes:
        n_bonafide: Bona fide trials, the same ones for both.
        n_spoof: Spoofed trials.
        how: Replicates, unit, seed and level of the bootstrap.
        differences: Name of a metric -> its difference; t-DCF only with ASV rates.
        mcnemar: Test on decisions; it takes trials for independent of each other.
    """

    n_bonafide: int
    n_spoof: int
    how: Bootstrap
    differences: dict[str, Difference]
    mcnemar: McNemar

    def to_dict(self) -> dict[str, Any]:
        """Return the result with stable names, ready for JSON."""
        return {
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
            "level": self.how.level,
            "n_bootstrap": self.how.n,
            "unit": self.how.unit,
            "seed": self.how.seed,
            **{name: of.to_dict() for name, of in self.differences.items()},
            "mcnemar": self.mcnemar.to_dict(),
        }


def compare_tables(
    first: NamedScores,
    second: NamedScores,
    how: Bootstrap | None = None,
    *,
    asv: TandemRates | None = None,
    speakers: Speakers | None = None,
) -> Comparison:
    """Compare two score tables; the order of their trials may differ. See `compare`.

    Args:
        first: Scores of one system, with their truth.
        second: Scores of the other; the truth may be missing here.
        how: Bootstrap; 1,000 replicates by utterance unless given.
        asv: Rates of the ASV system, for the t-DCF.
        speakers: (n,) speakers in the order of `first`; needed by speaker.

    Raises:
        MetricError: The tables hold other trials, or one trial twice, or disagree on the truth.
    """
    if first.is_bonafide is None:
        raise MetricError(
            f"The truth of the {len(first.scores)} scores is not known.",
            fix="Give the protocol of the split that was scored (--protocol).",
        )
    places = {name: place for place, name in enumerate(second.utterances)}
    names = set(first.utterances)
    n_repeated = len(first.utterances) - len(names) + len(second.utterances) - len(places)
    if n_repeated:
        raise MetricError(f"{n_repeated} trials are listed more than once; nothing can be paired.")
    missing = [name for name in first.utterances if name not in places]
    extra = [name for name in second.utterances if name not in names]
    if missing or extra:
        examples = ", ".join((missing + extra)[:_EXAMPLES])
        raise MetricError(
            f"The systems were not scored on the same trials: of {len(names)} trials of the first "
            f"{len(missing)} are not among the {len(places)} of the second, and {len(extra)} of "
            f"the second are not among the first, e.g. {examples}.",
            fix="Give two score files of one split.",
        )
    order = np.array([places[name] for name in first.utterances], dtype=np.intp)
    if second.is_bonafide is not None:
        n_other = int(np.count_nonzero(second.is_bonafide[order] != first.is_bonafide))
        if n_other:
            raise MetricError(
                f"The tables disagree on the key of {n_other} of {len(names)} trials.",
                fix="Give both the protocol of the split (--protocol).",
            )
    return compare(
        first.scores, second.scores[order], first.is_bonafide, how, asv=asv, speakers=speakers
    )


def compare(
    first: ArrayLike,
    second: ArrayLike,
    is_bonafide: ArrayLike,
    how: Bootstrap | None = None,
    *,
    asv: TandemRates | None = None,
    speakers: Speakers | None = None,
) -> Comparison:
    """Compare two systems by a paired bootstrap of their metrics and by McNemar's test.

    In each replicate both systems have the same trials, so that what makes trials hard for both
    cancels out. Metrics are in their corrected form.

    Args:
        first: (n,) scores of one system; higher means more bona fide.
        second: (n,) scores of the other, of the same trials in the same order.
        is_bonafide: (n,) the truth.
        how: Bootstrap; 1,000 replicates by utterance unless given.
        asv: Rates of the ASV system, for the t-DCF.
        speakers: (n,) speaker of each trial; needed by speaker.

    Raises:
        MetricError: Lengths differ, a class is empty, or a score is NaN or infinite.

    Source: paired bootstrap: Bisani and Ney, Bootstrap estimates for confidence intervals in ASR
    performance evaluation, ICASSP 2004; p-value: (1 + count) / (1 + replicates), Davison and
    Hinkley, Bootstrap methods and their application, 1997, section 4.2.
    """
    how = how or Bootstrap()
    truth = np.asarray(is_bonafide, dtype=np.bool_)
    systems = [np.asarray(scores, dtype=np.float64) for scores in (first, second)]
    if any(scores.shape != truth.shape for scores in systems) or truth.ndim != 1:
        raise MetricError(
            f"There are {systems[0].size} scores of the first system, {systems[1].size} of the "
            f"second and {truth.size} keys; a paired comparison needs one of each for every trial."
        )
    classes = [checked_classes(scores[truth], scores[~truth]) for scores in systems]
    values = [_metrics(*of, asv) for of in classes]
    replicates = _differences(classes, truth, how, asv, speakers, list(values[0]))
    return Comparison(
        n_bonafide=classes[0][0].size,
        n_spoof=classes[0][1].size,
        how=how,
        differences={
            name: _difference(values[0][name], values[1][name], replicates[name], how.level)
            for name in values[0]
        },
        mcnemar=_mcnemar_of(classes),
    )


def mcnemar(only_first_right: int, only_second_right: int) -> McNemar:
    """McNemar's test: among disagreements each system is right equally often, by hypothesis.

    Up to `MAX_EXACT` disagreements p is the exact binomial sum, twice the smaller tail; beyond,
    chi-square with one degree of freedom of (|b - c| - 1)^2 / (b + c).

    Source: McNemar, Psychometrika 12, 1947; continuity: Edwards, Psychometrika 13, 1948.
    """
    smaller, n = min(only_first_right, only_second_right), only_first_right + only_second_right
    if n <= MAX_EXACT:
        tail = sum(math.comb(n, k) for k in range(smaller + 1))
        p, method = min(1.0, 2 * tail / 2**n), "exact"
    else:
        # |b - c| - 1, but not below 0, which is what equal counts would give.
        statistic = max(abs(only_first_right - only_second_right) - 1, 0) ** 2 / n
        p, method = math.erfc(math.sqrt(statistic / 2)), "chi-square"
    return McNemar(
        only_first_right=only_first_right,
        only_second_right=only_second_right,
        p=p,
        method=method,
    )


def _metrics(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64], asv: TandemRates | None
) -> dict[str, float]:
    found = {"eer_percent": 100 * eer(bonafide, spoof).eer}
    if asv is not None:
        found["min_tdcf_2019"] = min_tdcf_2019(bonafide, spoof, asv).value
        found["min_tdcf_2021"] = min_tdcf_2021(bonafide, spoof, asv).value
    return found


def _differences(
    classes: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    truth: NDArray[np.bool_],
    how: Bootstrap,
    asv: TandemRates | None,
    speakers: Speakers | None,
    metrics: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """(second - first) of each metric in each replicate."""
    named = None if speakers is None else named_speakers(speakers)
    if named is not None and named.shape != truth.shape:
        raise MetricError(f"There are {named.size} speakers for {truth.size} trials.")
    draw = draws(
        how.unit,
        classes[0][0].size,
        classes[0][1].size,
        None if named is None else (named[truth], named[~truth]),
    )
    orders = [tuple(np.argsort(scores, kind="stable") for scores in of) for of in classes]
    compute = [
        WeightedMetrics(of[0][order[0]], of[1][order[1]], asv=asv, metrics=metrics)
        for of, order in zip(classes, orders, strict=True)
    ]
    random = np.random.default_rng(how.seed)
    found = {name: np.empty(how.n) for name in metrics}
    for replicate in range(how.n):
        w_bonafide, w_spoof = draw(random)
        first, second = (
            metrics_of(w_bonafide[order[0]], w_spoof[order[1]])
            for metrics_of, order in zip(compute, orders, strict=True)
        )
        for name in metrics:
            found[name][replicate] = second[name] - first[name]
    return found


def _difference(
    first: float, second: float, replicates: NDArray[np.float64], level: float
) -> Difference:
    not_above, not_below = int((replicates <= 0).sum()), int((replicates >= 0).sum())
    p = min(1.0, 2 * (1 + min(not_above, not_below)) / (1 + replicates.size))
    low, high = interval(replicates, level)
    return Difference(
        first=first, second=second, difference=second - first, low=low, high=high, p=p
    )


def _mcnemar_of(
    classes: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> McNemar:
    thresholds = [eer(*of).threshold for of in classes]
    right = [
        np.concatenate((bonafide >= threshold, spoof < threshold))
        for (bonafide, spoof), threshold in zip(classes, thresholds, strict=True)
    ]
    return mcnemar(
        int(np.count_nonzero(right[0] & ~right[1])), int(np.count_nonzero(right[1] & ~right[0]))
    )
