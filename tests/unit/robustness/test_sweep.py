from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.degradations import Condition, select
from aasist_deploy.degradations.base import NotApplicableError
from aasist_deploy.errors import AudioError, TrialsError, UsageError
from aasist_deploy.pipeline import window_of
from aasist_deploy.robustness import balanced, sweep
from aasist_deploy.robustness.sweep import scores_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.trials import Dataset

LEVELS = {"good1": -20.0, "good2": -23.0, "good3": -26.0, "bad1": -29.0, "bad2": -32.0}
DRIFT_ATOL = 1e-4  # float32 scores of -30 dB


def named(report: Any) -> dict[str, Any]:
    return {one.name: one.figures for one in report.conditions}


def test_drift_of_an_engine_that_hears_loudness_is_the_gain(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    report = sweep(loudness_engine(), dataset(LEVELS), select(["gain-6dB", "gain+12dB"]))
    figures = named(report)
    for name, gain_db in (("gain-6dB", -6), ("gain+12dB", 12)):
        one = figures[name]
        assert (one.n, one.n_unchanged, one.n_failed) == (5, 0, 0)
        assert one.mean_drift_bonafide == pytest.approx(gain_db, abs=DRIFT_ATOL)
        assert one.mean_drift_spoof == pytest.approx(gain_db, abs=DRIFT_ATOL)
        assert one.max_abs_drift == pytest.approx(abs(gain_db), abs=DRIFT_ATOL)
        assert one.rank_correlation == pytest.approx(1.0)
        assert (one.eer_percent, one.eer_change) == (0.0, 0.0)  # the order stays, the level moves
    assert report.clean["eer_percent"] == 0.0
    # Clean scores lie 3 dB apart and the threshold halfway between -26 and -29.
    assert report.threshold == pytest.approx(-27.5, abs=DRIFT_ATOL)
    assert (figures["gain-6dB"].flips_to_spoof, figures["gain-6dB"].flips_to_bonafide) == (2, 0)
    assert figures["gain-6dB"].pmiss_percent == pytest.approx(200 / 3)
    assert (figures["gain+12dB"].flips_to_spoof, figures["gain+12dB"].flips_to_bonafide) == (0, 2)
    assert report.worst()["drift"] == "gain+12dB"


def test_identity_gives_no_drift_at_all_and_is_really_scored_again(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    engine = loudness_engine()
    report = sweep(engine, dataset(LEVELS), select(["control"]), batch=3)
    one = named(report)["identity"]
    assert one.mean_abs_drift == one.max_abs_drift == 0.0
    assert (one.flips, one.eer_change) == (0, 0.0)
    assert one.rank_correlation == pytest.approx(1.0)
    assert (one.n, one.n_unchanged, one.max_drift_utterance) == (5, 5, None)
    assert engine.batches == [3, 3, 3, 1]  # five clips twice, in full batches across trials
    assert report.worst() == {"eer": None, "flips": None, "drift": None}


def test_window_that_stays_the_same_is_not_scored_again(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    engine = loudness_engine()
    report = sweep(engine, dataset(LEVELS), select(["length-2s", "padding"]))
    assert sum(engine.batches) == 5  # clips of one second, a window of one second
    assert {one.n_unchanged for one in named(report).values()} == {5}
    assert {one.max_abs_drift for one in named(report).values()} == {0.0}


@pytest.mark.parametrize("batch", [1, 4])
def test_order_threads_and_batches_do_not_change_a_score(
    batch: int, loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    trials = dataset(LEVELS)
    turned = replace(trials, trials=trials.trials[::-1])
    conditions = select(["noise", "reverberation", "lead-0.5s-noise"])
    first = list(scores_of(loudness_engine(), trials, conditions, batch=8, threads=1))
    second = list(scores_of(loudness_engine(), turned, conditions, batch=batch, threads=3))
    assert [one.utterance for one in first] == list(LEVELS)
    assert [one.utterance for one in second] == list(LEVELS)[::-1]
    for one, other in zip(first, second[::-1], strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        assert one.clean == other.clean


def test_part_of_the_trials_with_the_whole_pool_gets_the_same_babble(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    trials = dataset(LEVELS)
    conditions = select(["babble-0dB"])
    whole = list(scores_of(loudness_engine(), trials, conditions))
    part = replace(trials, trials=trials.trials[1:2])
    (alone,) = scores_of(loudness_engine(), part, conditions, pool=trials)
    np.testing.assert_array_equal(alone.scores, whole[1].scores)
    assert np.isfinite(alone.scores).all()


def test_babble_is_of_other_bona_fide_speakers(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    trials = dataset({**LEVELS, "good4": -20.0})
    people = {"good1": "ann", "good2": "ann", "good3": "bob", "good4": "cy"}
    trials = replace(
        trials, trials=tuple(replace(t, speaker=people.get(t.utterance)) for t in trials.trials)
    )
    heard: list[int] = []

    def listen(wave: Any, context: Any) -> Any:
        heard.extend(len(context.others(count)) for count in (2, 4))
        assert context.others(4) is context.others(4)  # decoded once for all ratios
        return wave

    condition = Condition(name="x", family="noise", meaning="", apply=listen)
    sweep(loudness_engine(), replace(trials, trials=trials.trials[:1]), [condition], pool=trials)
    assert heard == [2, 3]  # bob and cy, and then ann's other clip; never the clip itself


def test_what_fails_is_counted_apart_from_what_does_not_apply(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    def broken(wave: Any, context: Any) -> Any:
        if context.utterance == "bad1":
            raise AudioError("the coder broke")
        if context.utterance == "good1":
            raise NotApplicableError("too short for it")
        return wave * np.float32(np.nan if context.utterance == "good2" else 2.0)

    trials = dataset({**LEVELS, "bad9": -30.0})
    trials.trials[-1].path.write_text("no audio")
    conditions = [
        Condition(name="broken", family="codec", meaning="", apply=broken),
        *select(["gain+6dB"]),
    ]
    report = sweep(loudness_engine(), trials, conditions)
    one = named(report)["broken"]
    assert (one.n, one.n_not_applicable, one.n_failed) == (2, 1, 2)
    assert one.first_note == "too short for it"
    assert one.mean_abs_drift == pytest.approx(20 * np.log10(2), abs=DRIFT_ATOL)
    assert (report.clean["n"], report.clean["n_failed"], report.n_failed) == (5, 1, 3)
    assert [(one["utterance"], one["condition"]) for one in report.failures] == [
        ("bad9", "clean"),
        ("good2", "broken"),
        ("bad1", "broken"),
    ]
    assert "NaN or infinite samples" in report.failures[1]["error"]
    assert named(report)["gain+6dB"].n == 5


def test_score_that_is_not_finite_is_a_failure(
    fake_engine: Any, dataset: Callable[..., Dataset]
) -> None:
    class Deaf(fake_engine):  # type: ignore[misc]
        def _run(self, waves: Any) -> dict[str, Any]:
            power = np.mean(waves**2, axis=1)
            return {"score": np.where(power < 5e-4, np.nan, power).astype(np.float32)}

    trials = dataset({"good1": -20.0, "good2": -30.0, "bad1": -22.0, "bad2": -40.0})
    report = sweep(
        Deaf(n_samples=16_000, min_samples=16_000), trials, select(["gain+12dB", "gain-24dB"])
    )
    assert report.clean["n_failed"] == 1  # -40 dB
    assert named(report)["gain+12dB"].n == 3
    assert (named(report)["gain-24dB"].n, named(report)["gain-24dB"].n_failed) == (0, 3)
    assert named(report)["gain-24dB"].mean_abs_drift is None
    assert "the model's score is nan" in str(report.failures)


def test_unavailable_condition_is_in_the_report_with_its_reason(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    (gain,) = select(["gain-6dB"])
    lost = replace(gain, name="lost", unavailable="no encoder")
    report = sweep(loudness_engine(), dataset(LEVELS), [lost, gain])
    assert [(one.status, one.reason) for one in report.conditions] == [
        ("unavailable", "no encoder"),
        ("measured", None),
    ]
    assert (named(report)["lost"].n, named(report)["lost"].n_failed) == (0, 0)
    assert report.n_failed == 0


def test_variable_length_model_scores_the_whole_clip(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    engine = loudness_engine(n_samples=None, min_samples=8_000, max_samples=20_000)
    report = sweep(engine, dataset(LEVELS), select(["lead-0.5s-zero", "pad-zero", "length-1s"]))
    figures = named(report)
    # Eight thousand zeros before 16,000 samples; 20,000 of these 24,000 are taken.
    assert figures["lead-0.5s-zero"].mean_abs_drift > 10 * np.log10(20 / 16)
    assert figures["pad-zero"].n_not_applicable == 5
    assert figures["length-1s"].n_unchanged == 5
    assert set(engine.batches) == {1}


def test_window_is_the_one_that_score_takes(loudness_engine: Callable[..., Any]) -> None:
    fixed, free = (
        loudness_engine(n_samples=5, min_samples=5),
        loudness_engine(n_samples=None, min_samples=4, max_samples=6),
    )
    clips = [np.arange(n, dtype=np.float32) for n in (3, 5, 7)]
    assert [window_of(c, fixed.contract).tolist() for c in clips] == [
        [0, 1, 2, 0, 1],
        [0, 1, 2, 3, 4],
        [0, 1, 2, 3, 4],
    ]
    assert [window_of(c, free.contract).tolist() for c in clips] == [
        [0, 1, 2, 0],
        [0, 1, 2, 3, 4],
        [0, 1, 2, 3, 4, 5],
    ]


def test_limit_takes_half_of_each_class_evenly(dataset: Callable[..., Dataset]) -> None:
    trials = dataset(
        {f"good{i}": -20.0 for i in range(6)} | {f"bad{i}": -20.0 for i in range(10)}, 0.1
    )

    def names(limit: int) -> list[str]:
        return [trial.utterance for trial in balanced(trials, limit).trials]

    assert names(4) == ["good1", "good4", "bad2", "bad7"]
    assert len(names(14)) == 14
    assert sum(name.startswith("good") for name in names(14)) == 6  # all there are
    assert names(99) == names(16) == [trial.utterance for trial in trials.trials]
    assert len(names(5)) == 5
    assert len(names(1)) == 1


def test_missing_audio_and_wrong_conditions_are_refused_before_scoring(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    trials, engine = dataset(LEVELS), loudness_engine()
    with pytest.raises(UsageError, match="different names"):
        sweep(engine, trials, [])
    with pytest.raises(UsageError, match="different names"):
        sweep(engine, trials, [*select(["gain-6dB"]), *select(["gain-6dB"])])
    trials.trials[0].path.unlink()
    with pytest.raises(TrialsError, match="1 of 5"):
        sweep(engine, trials, select(["gain"]))
    assert engine.batches == []


def test_trials_are_prepared_only_a_little_ahead(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    prepared = []

    def note(wave: Any, context: Any) -> Any:
        prepared.append(context.utterance)
        return wave

    trials = dataset({f"good{i}": -20.0 for i in range(20)}, 0.1)
    conditions = [Condition(name="x", family="gain", meaning="", apply=note)]
    for n_done, _ in enumerate(
        scores_of(loudness_engine(), trials, conditions, batch=1, threads=2), start=1
    ):
        assert len(prepared) <= n_done + 4
    assert len(prepared) == 20


def test_babble_leaves_out_clips_that_cannot_be_read(
    loudness_engine: Callable[..., Any], dataset: Callable[..., Dataset]
) -> None:
    trials = dataset(LEVELS)
    trials.trials[2].path.write_text("no audio")  # of the three bona fide clips
    report = sweep(loudness_engine(), trials, select(["babble-5dB"]))
    one = named(report)["babble-5dB"]
    # Spoofs have two clips to mix; the two bona fide clips have each other alone.
    assert (one.n, one.n_not_applicable, report.clean["n_failed"]) == (2, 2, 1)
    assert "babble needs two other clips; there are 1" in str(one.first_note)
