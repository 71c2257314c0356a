from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics import auc

TIED = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25)


def test_auc_of_perfect_reversed_and_constant_scores() -> None:
    assert auc([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert auc([0.0, 1.0], [2.0, 3.0]) == 0.0
    assert auc([1.0] * 3, [1.0] * 7) == 0.5


@given(bonafide=TIED, spoof=TIED)
def test_auc_is_the_share_of_pairs_in_order_with_ties_by_half(
    bonafide: list[float], spoof: list[float]
) -> None:
    pairs = [(b > s) + (b == s) / 2 for b in bonafide for s in spoof]
    assert auc(bonafide, spoof) == pytest.approx(np.mean(pairs), abs=1e-15)


@given(bonafide=TIED, spoof=TIED)
def test_monotone_transform_leaves_auc_alone(bonafide: list[float], spoof: list[float]) -> None:
    assert auc(np.exp(bonafide), np.exp(spoof)) == auc(bonafide, spoof)


@given(bonafide=TIED, spoof=TIED)
def test_swapped_classes_mirror_auc(bonafide: list[float], spoof: list[float]) -> None:
    assert auc(spoof, bonafide) == pytest.approx(1 - auc(bonafide, spoof), abs=1e-15)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(MetricError, match="1 bona fide and 0 spoofed"):
        auc([1.0], [])
