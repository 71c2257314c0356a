from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.degradations import FAMILIES, all_conditions, select
from aasist_deploy.degradations.conditions import IDENTITY
from aasist_deploy.errors import EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_registry_is_grouped_by_family_and_names_are_unique() -> None:
    conditions = all_conditions()
    names = [one.name for one in conditions]
    assert len(set(names)) == len(names)
    assert not any(set(name) & set(" ,") for name in names)  # they are typed between commas
    order = [FAMILIES.index(one.family) for one in conditions]
    assert order == sorted(order)
    assert {one.family for one in conditions} == set(FAMILIES)
    assert not set(names) & set(FAMILIES)


def test_nothing_chosen_is_everything() -> None:
    assert select(()) == all_conditions()


def test_families_and_names_are_chosen_in_the_order_of_the_registry() -> None:
    chosen = [one.name for one in select(["length", "gain+6dB", "control"])]
    assert chosen == ["identity", "gain+6dB", "length-1s", "length-2s", "length-3s"]


def test_unknown_name_is_refused_with_the_families() -> None:
    with pytest.raises(UsageError, match=r"family 'echo'; families are control, gain, clipping"):
        select(["gain", "echo"])


def test_unavailable_condition_is_listed_by_family_and_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = replace(IDENTITY, name="lost", family="codec", unavailable="FFmpeg 0 has no lost")
    monkeypatch.setattr(
        "aasist_deploy.degradations.conditions.all_conditions", lambda: (IDENTITY, lost)
    )
    assert select(["codec"]) == (lost,)
    with pytest.raises(EnvironmentLacks, match="lost is not available here: FFmpeg 0 has no lost"):
        select(["lost"])


def test_same_trial_and_seed_give_the_same_samples_and_others_do_not(
    speech: Callable[..., Any], context: Callable[..., Any]
) -> None:
    wave = speech(1.6)

    def others(count: int) -> list[Any]:
        return [speech(0.7, seed) for seed in range(1, count + 1)]

    random_families = {"noise", "reverberation"}
    for one in all_conditions():
        if one.unavailable is not None:
            continue
        first = one.apply(wave, context("u1", others=others))
        np.testing.assert_array_equal(first, one.apply(wave, context("u1", others=others)))
        is_random = one.family in random_families or one.name.endswith("s-noise")
        for changed in (context("u2", others=others), context("u1", seed=1, others=others)):
            assert np.array_equal(first, one.apply(wave, changed)) != is_random, one.name


def test_randomness_differs_by_purpose_and_takes_any_name(context: Callable[..., Any]) -> None:
    one = context("\udc80 \u00e9")
    assert one.random("a").integers(1 << 60) == one.random("a").integers(1 << 60)
    assert one.random("a").integers(1 << 60) != one.random("b").integers(1 << 60)
