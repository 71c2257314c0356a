"""Linear fusion of several systems into one log-likelihood ratio."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aasist_deploy.calibration._affine import fit_affine, separates
from aasist_deploy.calibration._logistic import PSEUDO_TRIALS, checked_fit_data, fit_logistic
from aasist_deploy.errors import MetricError, ScoresError
from aasist_deploy.textfile import few

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from aasist_deploy.scores import ScoreTable


Method = Literal["logistic", "mean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """LLR = sum of weights * scores + offset, and what it was fitted on.

    Attributes:
        method: "logistic": free weights; "mean": the mean of the calibrated systems.
        weights: One for each system, on its raw score.
        offset: In nats.
        n_bonafide: Bona fide trials of the fit.
        n_spoof: Spoofed trials of the fit.
        separable: The fused score tells the fitted trials apart without error.
        prior_bonafide: Effective prior of the fit.
        pseudo_trials: Regularisation of the fit; see `fit_affine`.
    """

    method: Method
    weights: tuple[float, ...]
    offset: float
    n_bonafide: int
    n_spoof: int
    separable: bool
    prior_bonafide: float
    pseudo_trials: float

    def llr(self, scores: ArrayLike) -> NDArray[np.float64]:
        """(n, systems) scores -> (n,) log-likelihood ratios in nats.

        Raises:
            MetricError: There is another number of systems.
        """
        values = np.asarray(scores, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.weights):
            raise MetricError(
                f"The scores have the shape {values.shape}; the fusion takes "
                f"(n, {len(self.weights)})."
            )
        return np.asarray(values @ np.array(self.weights) + self.offset, dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """The fusion in plain JSON types."""
        return {**asdict(self), "weights": list(self.weights)}


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedScores:
    """Scores of several systems on the same trials.

    Attributes:
        utterances: In the order of the first system.
        scores: (n, systems).
        is_bonafide: (n,) the truth, or None when no system's file has it.
        attacks: Attack names, or None when no file has them.
    """

    utterances: tuple[str, ...]
    scores: NDArray[np.float64]
    is_bonafide: NDArray[np.bool_] | None
    attacks: tuple[str, ...] | None


def match_scores(tables: Sequence[ScoreTable], names: Sequence[str]) -> MatchedScores:
    """Bring the scores of several systems into the order of the first, trial by trial.

    Args:
        tables: One for each system.
        names: What to call them in messages, e.g. their files.

    Raises:
        ScoresError: They do not hold the same trials, or disagree on the truth of one.
    """
    first = tables[0]
    truth, attacks = first.is_bonafide, first.attacks
    columns = [first.scores]
    for table, name in zip(tables[1:], names[1:], strict=True):
        place = {utterance: i for i, utterance in enumerate(table.utterances)}
        lacking = [utterance for utterance in first.utterances if utterance not in place]
        known = set(first.utterances)
        surplus = [utterance for utterance in table.utterances if utterance not in known]
        if lacking or surplus:
            raise ScoresError(
                f"{names[0]} and {name} do not score the same trials: of {len(known)} in the first "
                f"{len(lacking)} are not in the second{few(lacking)}; of {len(place)} in the "
                f"second {len(surplus)} are not in the first{few(surplus)}.",
                fix="Score the same split with every system.",
            )
        order = [place[utterance] for utterance in first.utterances]
        columns.append(table.scores[order])
        if table.is_bonafide is not None:
            theirs = table.is_bonafide[order]
            if truth is not None and (truth != theirs).any():
                differing = [first.utterances[i] for i in np.flatnonzero(truth != theirs)]
                raise ScoresError(
                    f"{names[0]} and {name} give {len(differing)} of {len(known)} trials "
                    f"different keys{few(differing)}."
                )
            truth = theirs
        if attacks is None and table.attacks is not None:
            attacks = tuple(table.attacks[i] for i in order)
    return MatchedScores(
        utterances=first.utterances,
        scores=np.column_stack(columns),
        is_bonafide=truth,
        attacks=attacks,
    )


def fit_fusion(
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    *,
    prior_bonafide: float = 0.5,
    pseudo_trials: float = PSEUDO_TRIALS,
) -> Fusion:
    """Fit weights and offset by prior-weighted logistic regression.

    A weight may come out negative, when a system is worth most by what it shares with another;
    a system given twice gets two equal weights.

    Args:
        scores: (n, systems) finite; higher means more bona fide.
        is_bonafide: (n,) the truth.
        prior_bonafide: In (0, 1); see `fit_affine`.
        pseudo_trials: See `fit_affine`.

    Raises:
        MetricError: As `fit_affine`, or a system scores all trials alike.

    Source: Brümmer et al., Fusion of heterogeneous speaker recognition systems in the STBU
    submission for the NIST SRE 2006, IEEE TASLP 15, 2007; see `fit_logistic`.
    """
    values, truth = checked_fit_data(
        scores, is_bonafide, prior_bonafide=prior_bonafide, pseudo_trials=pseudo_trials, axes=2
    )
    fit = fit_logistic(values, truth, prior_bonafide=prior_bonafide, pseudo_trials=pseudo_trials)
    return _fusion(
        "logistic", fit.weights, fit.offset, values, truth, prior_bonafide, pseudo_trials
    )


def fit_mean(
    scores: ArrayLike,
    is_bonafide: ArrayLike,
    *,
    prior_bonafide: float = 0.5,
    pseudo_trials: float = PSEUDO_TRIALS,
) -> Fusion:
    """Calibrate each system, take the mean, and calibrate that.

    It has two free numbers in place of one for each system, so it holds better when the trials of
    the fit are few or unlike those to come. The second calibration makes the mean an LLR again.
    Arguments and errors as for `fit_fusion`; a reversed system is refused.
    """
    values, truth = checked_fit_data(
        scores, is_bonafide, prior_bonafide=prior_bonafide, pseudo_trials=pseudo_trials, axes=2
    )
    weights, offsets = [], []
    for number, column in enumerate(values.T, start=1):
        try:
            of_system = fit_affine(
                column, truth, prior_bonafide=prior_bonafide, pseudo_trials=pseudo_trials
            )
        except MetricError as error:
            raise MetricError(f"System {number}: {error}", fix=error.fix) from error
        weights.append(of_system.scale)
        offsets.append(of_system.offset)
    mean_weights = np.array(weights) / len(weights)
    mean_offset = sum(offsets) / len(offsets)
    of_mean = fit_affine(
        values @ mean_weights + mean_offset,
        truth,
        prior_bonafide=prior_bonafide,
        pseudo_trials=pseudo_trials,
    )
    return _fusion(
        "mean",
        of_mean.scale * mean_weights,
        of_mean.scale * mean_offset + of_mean.offset,
        values,
        truth,
        prior_bonafide,
        pseudo_trials,
    )


def _fusion(
    method: Method,
    weights: NDArray[np.float64],
    offset: float,
    scores: NDArray[np.float64],
    is_bonafide: NDArray[np.bool_],
    prior_bonafide: float,
    pseudo_trials: float,
) -> Fusion:
    return Fusion(
        method=method,
        weights=tuple(float(weight) for weight in weights),
        offset=float(offset),
        n_bonafide=int(np.count_nonzero(is_bonafide)),
        n_spoof=int(np.count_nonzero(~is_bonafide)),
        separable=separates(scores @ weights + offset, is_bonafide),
        prior_bonafide=prior_bonafide,
        pseudo_trials=pseudo_trials,
    )
