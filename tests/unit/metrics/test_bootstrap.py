from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics import (
    ASVSPOOF5_ASV,
    Bootstrap,
    act_dcf,
    auc,
    bootstrap_replicates,
    cllr,
    confidence,
    eer,
    min_cllr,
    min_dcf,
    min_tdcf_2019,
    min_tdcf_2021,
)
from aasist_deploy.metrics.resampling import SpeakerDraws, UtteranceDraws
from aasist_deploy.metrics.weighted import METRICS, WeightedMetrics

ROUNDING = 1e-10
# Enough to tell a mean off by a twelfth of the spread, at five standard errors.
REPLICATES = 4000
CPU_SECONDS_FOR_20_REPLICATES_OF_DF = 5.0  # measured 0.7 on a busy core, sorting included


@st.composite
def weighted_trials(
    draw: st.DrawFn,
) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
    """Tied scores, each with how often it counts; no class counts nothing."""
    trial = st.tuples(st.integers(-4, 4).map(float), st.integers(0, 3))
    some = st.lists(trial, min_size=1, max_size=20).filter(lambda of: any(n for _, n in of))
    return draw(some), draw(some)


def naive(bonafide: np.ndarray, spoof: np.ndarray) -> dict[str, float]:
    return {
        "eer_percent": 100 * eer(bonafide, spoof).eer,
        "auc": auc(bonafide, spoof),
        "min_dcf": min_dcf(bonafide, spoof).value,
        "act_dcf": act_dcf(bonafide, spoof).value,
        "cllr_bits": cllr(bonafide, spoof),
        "min_cllr_bits": min_cllr(bonafide, spoof),
        "min_tdcf_2019": min_tdcf_2019(bonafide, spoof, ASVSPOOF5_ASV).value,
        "min_tdcf_2021": min_tdcf_2021(bonafide, spoof, ASVSPOOF5_ASV).value,
    }


@given(weighted_trials())
def test_weighted_metrics_are_those_of_the_repeated_trials(
    trials: tuple[list[tuple[float, int]], list[tuple[float, int]]],
) -> None:
    (bonafide, w_bonafide), (spoof, w_spoof) = (np.array(sorted(of)).T for of in trials)
    compute = WeightedMetrics(bonafide, spoof, asv=ASVSPOOF5_ASV)
    weights = w_bonafide.astype(np.int64), w_spoof.astype(np.int64)
    expected = naive(np.repeat(bonafide, weights[0]), np.repeat(spoof, weights[1]))
    found = compute(*weights)
    assert tuple(found) == METRICS
    assert found == pytest.approx(expected, abs=ROUNDING)


def test_replicates_are_spread_as_those_of_plain_resampling() -> None:
    random = np.random.default_rng(3)
    bonafide, spoof = random.normal(1, 1, 25).round(1), random.normal(-1, 1, 35).round(1)
    fast = bootstrap_replicates(bonafide, spoof, Bootstrap(n=REPLICATES), asv=ASVSPOOF5_ASV)
    slow: dict[str, list[float]] = {name: [] for name in METRICS}
    for _ in range(REPLICATES):
        for name, value in naive(random.choice(bonafide, 25), random.choice(spoof, 35)).items():
            slow[name].append(value)
    for name in METRICS:
        error = 5 * np.std(slow[name]) * np.sqrt(2 / REPLICATES)
        assert fast[name].mean() == pytest.approx(np.mean(slow[name]), abs=error), name
        assert fast[name].std() == pytest.approx(np.std(slow[name]), rel=0.1), name


@pytest.mark.parametrize("seed", range(3))
def test_intervals_contain_the_estimate_of_well_behaved_data(seed: int) -> None:
    random = np.random.default_rng(seed)
    bonafide, spoof = random.normal(1.5, 1, 500), random.normal(-1.5, 1, 800)
    found = confidence(bonafide, spoof, Bootstrap(n=300, seed=seed), asv=ASVSPOOF5_ASV)
    for name, value in naive(bonafide, spoof).items():
        low, high = found.intervals[name]
        assert low <= value <= high, name
        assert low < high, name


def test_interval_of_the_eer_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = 100 * 0.15865525393145707  # two unit normals two apart meet one from either mean
    random = np.random.default_rng(11)
    hits = 0
    for seed in range(100):
        how = Bootstrap(n=200, seed=seed, level=0.9)
        samples = random.normal(1, 1, 300), random.normal(-1, 1, 300)
        low, high = confidence(*samples, how, metrics=("eer_percent",)).intervals["eer_percent"]
        hits += low <= truth <= high
    assert 80 <= hits <= 99  # a fair 90 % interval is outside this once in 1,000


def test_the_seed_decides_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    bonafide, spoof = random.normal(1, 1, 50), random.normal(-1, 1, 50)
    once = confidence(bonafide, spoof, Bootstrap(n=50, seed=7))
    assert confidence(bonafide, spoof, Bootstrap(n=50, seed=7)) == once
    assert confidence(bonafide, spoof, Bootstrap(n=50, seed=8)) != once


def test_trials_of_one_speaker_widen_the_interval_by_speaker() -> None:
    random = np.random.default_rng(5)
    shifts = random.normal(0, 1, 20)
    of = np.repeat(np.arange(20), 50)
    bonafide, spoof = (m + shifts[of] + random.normal(0, 0.3, 1000) for m in (1.0, -1.0))
    names = of.astype(str).tolist()
    widths = {}
    for unit in ("utterance", "speaker"):
        how = Bootstrap(n=300, unit=unit)
        found = confidence(bonafide, spoof, how, speakers=(names, names), metrics=("eer_percent",))
        low, high = found.intervals["eer_percent"]
        widths[unit] = high - low
    assert widths["speaker"] > 3 * widths["utterance"]


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8), st.integers(0, 99))
@settings(max_examples=50)
def test_speakers_are_drawn_whole_and_no_class_is_lost(spoof: list[str], seed: int) -> None:
    bonafide = ["a", "b", "e", "e"]
    draw = SpeakerDraws(np.array(bonafide), np.array(spoof))
    w_bonafide, w_spoof = draw(np.random.default_rng(seed))
    times: dict[str, int] = {}
    pairs = zip([*bonafide, *spoof], [*w_bonafide.tolist(), *w_spoof.tolist()], strict=True)
    for speaker, weight in pairs:
        assert times.setdefault(speaker, weight) == weight
    assert sum(times.values()) == len(times)
    assert w_bonafide.sum() > 0
    assert w_spoof.sum() > 0


def test_utterances_are_drawn_as_many_of_each_class_as_there_are() -> None:
    w_bonafide, w_spoof = UtteranceDraws(7, 11)(np.random.default_rng(0))
    assert (w_bonafide.size, w_bonafide.sum(), w_spoof.size, w_spoof.sum()) == (7, 7, 11, 11)


def test_result_as_json_has_these_names() -> None:
    found = confidence([2.0, 1.0], [0.0, 1.5], Bootstrap(n=3), metrics=("eer_percent", "auc"))
    result = found.to_dict()
    assert list(result) == ["level", "n_bootstrap", "unit", "seed", "eer_percent", "auc"]
    assert (result["level"], result["n_bootstrap"], result["unit"]) == (0.95, 3, "utterance")
    assert len(result["auc"]) == 2


@pytest.mark.parametrize(
    ("speakers", "message"),
    [
        (None, "none is known"),
        ((["a", None], ["b", "-"]), "speaker of 2 of 4 trials is not known"),
        ((["a", "a"], ["a", "a"]), "There is 1 speaker"),
        ((["a"], ["b", "b"]), "1 bona fide and 2 spoofed trials, but 2 and 2"),
    ],
)
def test_speakers_that_cannot_be_drawn_are_refused(
    speakers: tuple[list[str], list[str]] | None, message: str
) -> None:
    with pytest.raises(MetricError, match=message):
        confidence([1.0, 2.0], [0.0, 0.5], Bootstrap(n=2, unit="speaker"), speakers=speakers)


@pytest.mark.parametrize(("n", "seed", "level"), [(0, 0, 0.9), (1, -1, 0.9), (1, 0, 1.0)])
def test_replicates_seed_and_level_have_ranges(n: int, seed: int, level: float) -> None:
    with pytest.raises(MetricError, match="must be 1 or more"):
        Bootstrap(n=n, seed=seed, level=level)


def test_metrics_that_are_not_known_or_lack_asv_rates_are_refused() -> None:
    with pytest.raises(MetricError, match="no intervals of 'eer'"):
        confidence([1.0], [0.0], Bootstrap(n=1), metrics=("eer",))
    with pytest.raises(MetricError, match="needs the rates of an ASV system"):
        confidence([1.0], [0.0], Bootstrap(n=1), metrics=("min_tdcf_2021",))


def test_replicates_of_a_large_evaluation_take_little_time() -> None:
    random = np.random.default_rng(0)
    bonafide, spoof = random.normal(2, 1, 22_617), random.normal(0, 1, 589_212)
    start = time.process_time()
    confidence(bonafide, spoof, Bootstrap(n=20), asv=ASVSPOOF5_ASV)
    assert time.process_time() - start < CPU_SECONDS_FOR_20_REPLICATES_OF_DF
