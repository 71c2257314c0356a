from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics import (
    ASVSPOOF5_ASV,
    Bootstrap,
    compare,
    compare_tables,
    eer,
    mcnemar,
    min_tdcf_2021,
)

N = 400
TRUTH = np.arange(2 * N) < N
HOW = Bootstrap(n=200)
# Just above the exact range both forms are defined; measured difference 5.4e-5 at most.
CHI_SQUARE_ATOL = 2e-4


def system(separation: float, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0, 1, 2 * N) + separation * TRUTH


def table(scores: Any, names: list[str] | None = None, truth: Any = TRUTH) -> SimpleNamespace:
    names = names or [f"u{i}" for i in range(scores.size)]
    return SimpleNamespace(utterances=tuple(names), scores=scores, is_bonafide=truth)


def test_a_system_does_not_differ_from_itself() -> None:
    result = compare(system(2), system(2), TRUTH, HOW, asv=ASVSPOOF5_ASV)
    assert list(result.differences) == ["eer_percent", "min_tdcf_2019", "min_tdcf_2021"]
    for of in result.differences.values():
        assert (of.difference, of.low, of.high, of.p) == (0, 0, 0, 1)
    assert (result.mcnemar.only_first_right, result.mcnemar.p) == (0, 1)


def test_a_monotone_transform_is_the_same_system() -> None:
    result = compare(system(2), np.exp(system(2)), TRUTH, HOW)
    assert result.differences["eer_percent"].difference == 0
    assert result.differences["eer_percent"].p == 1


def test_a_much_better_system_is_told_with_its_own_figures() -> None:
    first, second = system(1), system(3, seed=1)
    result = compare(first, second, TRUTH, HOW, asv=ASVSPOOF5_ASV)
    of = result.differences["eer_percent"]
    assert of.first == 100 * eer(first[TRUTH], first[~TRUTH]).eer
    assert of.difference == of.second - of.first
    assert of.low <= of.difference <= of.high < 0
    assert of.p == 2 / 201  # no replicate of 200 on the other side
    tdcf = result.differences["min_tdcf_2021"]
    assert tdcf.second == min_tdcf_2021(second[TRUTH], second[~TRUTH]).value
    assert result.mcnemar.p < 1e-6
    assert result.mcnemar.only_second_right > result.mcnemar.only_first_right


def test_exchanged_systems_have_the_mirrored_result() -> None:
    one = compare(system(1), system(1.2, seed=1), TRUTH, HOW)
    other = compare(system(1.2, seed=1), system(1), TRUTH, HOW)
    a, b = one.differences["eer_percent"], other.differences["eer_percent"]
    assert (a.difference, a.low, a.high) == pytest.approx((-b.difference, -b.high, -b.low))
    assert (a.p, one.mcnemar.p) == (b.p, other.mcnemar.p)


def test_pairing_sees_a_difference_that_two_intervals_would_not() -> None:
    first = system(2)
    second = first + np.where(TRUTH, 0.15, -0.15)  # a little better on every single trial
    of = compare(first, second, TRUTH, HOW).differences["eer_percent"]
    assert of.high <= 0
    assert of.high - of.low < of.first


def test_under_the_hypothesis_p_is_small_about_as_often_as_it_says() -> None:
    small = 0
    for seed in range(60):
        pair = system(1.5, 2 * seed), system(1.5, 2 * seed + 1)
        result = compare(*pair, TRUTH, Bootstrap(n=100, seed=seed))
        small += result.differences["eer_percent"].p <= 0.1
    assert small <= 15  # 6 are expected; 16 would come once in 5,000 times


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (1, 9, 2 * 11 / 1024), (4, 4, 1.0)],
)
def test_exact_mcnemar_is_twice_the_binomial_tail(b: int, c: int, p: float) -> None:
    result = mcnemar(b, c)
    assert (result.p, result.method) == (p, "exact")


@given(b=st.integers(0, 900), c=st.integers(0, 900))
def test_mcnemar_does_not_care_which_system_is_first(b: int, c: int) -> None:
    assert mcnemar(b, c).p == mcnemar(c, b).p
    assert 0 <= mcnemar(b, c).p <= 1


@pytest.mark.parametrize("b", [420, 450, 480, 501])
def test_chi_square_takes_over_where_the_exact_sum_ends(b: int) -> None:
    c = 1002 - b
    result = mcnemar(b, c)
    exact = min(1.0, 2 * sum(math.comb(1002, k) for k in range(min(b, c) + 1)) / 2**1002)
    assert result.method == "chi-square"
    assert result.p == pytest.approx(exact, abs=CHI_SQUARE_ATOL)


def test_tables_are_matched_by_name() -> None:
    first, second = system(1), system(2, seed=1)
    order = np.random.default_rng(2).permutation(2 * N)
    names = [f"u{i}" for i in order]
    shuffled = table(second[order], names, TRUTH[order])
    assert compare_tables(table(first), shuffled, HOW) == compare(first, second, TRUTH, HOW)
    without_truth = table(second[order], names, None)
    assert compare_tables(table(first), without_truth, HOW) == compare(first, second, TRUTH, HOW)


def test_other_trials_are_refused_with_counts_and_names() -> None:
    first = table(np.arange(4.0), ["a", "b", "c", "d"], TRUTH[:4])
    second = table(np.arange(3.0), ["c", "d", "e"], TRUTH[:3])
    with pytest.raises(
        MetricError,
        match=r"of 4 trials of the first 2 are not among the 3 of the second, and 1 .* a, b, e",
    ):
        compare_tables(first, second)


def test_repeated_trials_and_other_keys_are_refused() -> None:
    truth = np.array([True, False])
    good = table(np.array([1.0, 0.0]), ["a", "b"], truth)
    with pytest.raises(MetricError, match="1 trials are listed more than once"):
        compare_tables(table(np.array([1.0, 0.0]), ["a", "a"], truth), good)
    with pytest.raises(MetricError, match="key of 2 of 2 trials"):
        compare_tables(good, table(np.array([1.0, 0.0]), ["a", "b"], ~truth))
    with pytest.raises(MetricError, match="truth of the 2 scores is not known"):
        compare_tables(table(np.array([1.0, 0.0]), ["a", "b"], None), good)


def test_arrays_of_other_lengths_are_refused_with_counts() -> None:
    with pytest.raises(MetricError, match="800 scores of the first system, 3 of the second"):
        compare(system(1), np.zeros(3), TRUTH, HOW)


def test_speakers_are_drawn_together_for_both_systems() -> None:
    speakers = [f"s{i % 10}" for i in range(2 * N)]
    how = Bootstrap(n=100, unit="speaker")
    result = compare(system(1), system(1), TRUTH, how, speakers=speakers)
    assert result.differences["eer_percent"].p == 1
    with pytest.raises(MetricError, match="3 speakers for 800 trials"):
        compare(system(1), system(1), TRUTH, how, speakers=speakers[:3])


def test_result_as_json_has_these_names() -> None:
    result = compare(system(1), system(2), TRUTH, Bootstrap(n=2)).to_dict()
    assert list(result) == [
        "n_bonafide", "n_spoof", "level", "n_bootstrap", "unit", "seed", "eer_percent", "mcnemar",
    ]  # fmt: skip
    assert list(result["eer_percent"]) == ["first", "second", "difference", "interval", "p"]
    assert list(result["mcnemar"]) == ["only_first_right", "only_second_right", "p", "method"]
