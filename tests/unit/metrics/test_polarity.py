from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.metrics import Compat, check_polarity, eer

TIED = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25)


def test_good_scores_give_no_message() -> None:
    result = check_polarity([2.0, 3.0], [0.0, 1.0])
    assert (result.reversed, result.negated_eer, result.message) == (False, 1.0, None)


def test_reversed_scores_are_told_with_both_rates_and_left_alone() -> None:
    result = check_polarity([0.0, 1.0], [2.0, 3.0])
    assert result.reversed
    assert result.message is not None
    assert "100.00% as given and 0.00% negated" in result.message
    assert "Nothing was turned round" in result.message


@pytest.mark.parametrize("compat", ["corrected", "official"])
def test_constant_scores_are_not_called_reversed(compat: Compat) -> None:
    # The official rate of a constant is 1 both ways; the verdict does not rest on it.
    assert not check_polarity([1.0, 1.0], [1.0], compat=compat).reversed


@given(bonafide=TIED, spoof=TIED)
def test_reversed_means_that_the_negated_rate_is_lower(
    bonafide: list[float], spoof: list[float]
) -> None:
    result = check_polarity(bonafide, spoof)
    assert result.reversed == (result.negated_eer < eer(bonafide, spoof).eer)
