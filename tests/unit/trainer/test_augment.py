"""Augmentation: drawn from the context alone, in order, and never silently left out."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.degradations import Condition, NotApplicableError, all_conditions
from aasist_deploy.degradations.level import gain
from aasist_deploy.errors import AudioError, EnvironmentLacks
from aasist_deploy.trainer import augment as module
from aasist_deploy.trainer.augment import NONE_APPLICABLE, Augmenter, Choice, context_seed
from aasist_deploy.trainer.rawboost import RawBoostParameters, rawboost
from aasist_deploy.trainer.recipe import Augmentation

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aasist_deploy.degradations import Context, Wave

    Contexts = Callable[..., Context]

N_DRAWS = 400
# Five standard deviations of a share of 400 draws: 5 * sqrt(0.25 / 400).
SHARE_ATOL = 0.125


@pytest.fixture
def clip(speech: Callable[..., Any]) -> NDArray[np.float32]:
    wave: NDArray[np.float32] = speech(0.5)
    return wave


def condition(name: str, apply: Callable[..., Wave]) -> Condition:
    return Condition(name=name, family="noise", meaning=name, apply=apply)


def with_choices(settings: Augmentation, *choices: Choice) -> Augmenter:
    augmenter = Augmenter(settings)
    augmenter._choices = choices
    return augmenter


def double(wave: Wave, _context: Context) -> Wave:
    return wave * np.float32(2)


def refuse(_wave: Wave, _context: Context) -> Wave:
    raise NotApplicableError("not this one")


def test_no_augmentation_gives_the_wave_itself(clip: Any, context: Contexts) -> None:
    augmenter = Augmenter(Augmentation())
    counts: Counter[str] = Counter()
    assert augmenter(clip, context(), counts) is clip
    assert not counts
    assert not augmenter.changes_anything


@pytest.mark.parametrize(
    "settings",
    [
        {"gain_db": (-6, 6)},
        {"rawboost": "4"},
        {"conditions": ("noise", "reverberation"), "conditions_probability": 1},
        {"gain_db": (-6, 6), "rawboost": "5", "conditions": ("mp3-32k",)},
    ],
)
def test_draws_follow_from_the_context_alone(
    settings: dict[str, Any], clip: Any, context: Contexts, speech: Callable[..., Any]
) -> None:
    def others(count: int) -> list[Wave]:
        return [speech(0.5, seed) for seed in range(1, count + 1)]

    augmenter = Augmenter(Augmentation(**settings))
    other_process = pickle.loads(pickle.dumps(augmenter))
    assert augmenter.changes_anything
    before = clip.copy()
    made = []
    for utterance in ("a", "b"):
        for epoch in (0, 1):
            given = context(utterance, seed=context_seed(5, epoch), others=others)
            made.append(augmenter(clip, given, Counter()))
            assert np.array_equal(made[-1], other_process(clip, given, Counter()))
    assert np.array_equal(clip, before)
    assert len({wave.tobytes() for wave in made}) > 1


def test_seeds_and_epochs_give_seeds_of_their_own() -> None:
    seeds = {context_seed(seed, epoch) for seed in range(50) for epoch in range(50)}
    assert len(seeds) == 2500


def test_the_gain_covers_its_range_evenly(clip: Any, context: Contexts) -> None:
    augmenter = Augmenter(Augmentation(gain_db=(-12.0, 4.0)))
    gains = np.array(
        [
            20 * np.log10(np.abs(augmenter(clip, context(f"u{i}"), Counter())).max() / 0.5)
            for i in range(N_DRAWS)
        ]
    )
    assert -12.001 < gains.min() < -11
    assert 3 < gains.max() < 4.001
    assert np.mean(gains < -4) == pytest.approx(0.5, abs=SHARE_ATOL)


@pytest.mark.parametrize("probability", [0, 0.25, 1])
def test_probabilities_are_those_of_the_recipe(
    probability: float, clip: Any, context: Contexts
) -> None:
    settings = Augmentation(
        rawboost="2", rawboost_probability=probability, conditions_probability=probability
    )
    augmenter = with_choices(settings, Choice("double", (condition("double", double),)))
    counts: Counter[str] = Counter()
    for i in range(N_DRAWS):
        augmenter(clip[:100], context(f"u{i}"), counts)
    for name in ("rawboost 2", "double"):
        assert counts[name] / N_DRAWS == pytest.approx(
            probability, abs=SHARE_ATOL if probability == 0.25 else 0
        )


def test_rawboost_gets_the_ranges_of_the_recipe() -> None:
    default = module.rawboost_parameters(Augmentation())
    assert default == RawBoostParameters()
    settings = Augmentation(
        rawboost_gain_db=(-2.0, 1.0),
        rawboost_nonlinear_gain_db=(3.0, 7.0),
        rawboost_order=2,
        rawboost_bands=3,
        rawboost_center_hz=(50.0, 60.0),
        rawboost_bandwidth_hz=(5.0, 6.0),
        rawboost_taps=(11, 12),
        rawboost_impulse_percent=1.0,
        rawboost_impulse_gain=0.5,
        rawboost_snr_db=(1.0, 2.0),
    )
    assert module.rawboost_parameters(settings) == RawBoostParameters(
        n_powers=2, n_notches=3, centre_hz=(50, 60), width_hz=(5, 6), taps=(11, 12),
        gain_db=(-2, 1), nonlinear_gain_db=(-9, -2), impulse_percent=1, impulse_gain=0.5,
        snr_db=(1, 2),
    )  # fmt: skip


def test_a_family_counts_as_much_as_one_name(clip: Any, context: Contexts) -> None:
    many = tuple(condition(f"many{i}", double) for i in range(9))
    one = (condition("one", double),)
    settings = Augmentation(conditions_probability=1)
    augmenter = with_choices(settings, Choice("many", many), Choice("one", one))
    counts: Counter[str] = Counter()
    for i in range(N_DRAWS):
        augmenter(clip[:50], context(f"u{i}"), counts)
    assert counts["one"] / N_DRAWS == pytest.approx(0.5, abs=SHARE_ATOL)
    assert min(counts[each.name] for each in many) > 0


def test_a_condition_that_a_clip_cannot_have_gives_way_and_is_counted(
    clip: Any, context: Contexts
) -> None:
    settings = Augmentation(conditions_probability=1)
    augmenter = with_choices(
        settings,
        Choice("never", (condition("never", refuse), condition("neither", refuse))),
        Choice("double", (condition("double", double),)),
    )
    counts: Counter[str] = Counter()
    for i in range(50):
        assert np.array_equal(augmenter(clip, context(f"u{i}"), counts), clip * 2)
    assert counts["double"] == 50
    assert counts["never: not applicable"] == counts["neither: not applicable"] > 0


def test_clips_that_no_condition_fits_are_counted(clip: Any, context: Contexts) -> None:
    settings = Augmentation(conditions_probability=1)
    augmenter = with_choices(settings, Choice("never", (condition("never", refuse),)))
    counts: Counter[str] = Counter()
    assert augmenter(clip, context(), counts) is clip
    assert counts == {"never: not applicable": 1, NONE_APPLICABLE: 1}


def test_gain_comes_first_then_rawboost_then_the_condition(clip: Any, context: Contexts) -> None:
    seen: list[Wave] = []

    def listen(wave: Wave, _context: Context) -> Wave:
        seen.append(wave)
        return wave

    settings = Augmentation(gain_db=(-6.0, -6.0), rawboost="2", conditions_probability=1)
    with_choices(settings, Choice("listen", (condition("listen", listen),)))(
        clip, context(), Counter()
    )
    quiet = gain(clip, -6.0)
    expected = rawboost(quiet, 2, context().random("rawboost"), sample_rate_hz=16_000)
    assert np.array_equal(seen[0], expected)


def test_samples_that_are_not_finite_are_an_error_with_both_names(
    clip: Any, context: Contexts
) -> None:
    def broken(wave: Wave, _context: Context) -> Wave:
        return wave * np.float32("nan")

    settings = Augmentation(conditions_probability=1)
    augmenter = with_choices(settings, Choice("broken", (condition("broken", broken),)))
    with pytest.raises(AudioError, match="utt7: the condition broken gave NaN"):
        augmenter(clip, context("utt7"), Counter())


def test_a_family_with_a_condition_that_is_not_here_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codecs = [each for each in all_conditions() if each.family == "codec"]
    here = replace(codecs[0], unavailable=None)
    lacking = replace(codecs[1], unavailable="FFmpeg has no encoder")
    monkeypatch.setattr(module, "select", lambda _names: (here, lacking))
    with pytest.raises(EnvironmentLacks, match=f"1 of 2 .* {lacking.name}") as caught:
        Augmenter(Augmentation(conditions=("codec",)))
    assert caught.value.fix == f"name those that are: {here.name}"


@pytest.mark.parametrize("family", ["noise", "reverberation", "clipping", "gain", "resampling"])
def test_families_that_need_no_encoder_are_available_everywhere(family: str) -> None:
    assert Augmenter(Augmentation(conditions=(family,))).changes_anything
