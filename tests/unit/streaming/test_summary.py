from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aasist_deploy.streaming.envelope import MAX_BINS, Envelope, ScoreCourse
from aasist_deploy.streaming.rows import WindowRow, decision
from aasist_deploy.streaming.summary import Aggregate, Segment, Segments, audacity_label


def row(
    index: int, score: float | None, *, threshold: float | None = 0.0, **other: Any
) -> WindowRow:
    return WindowRow(
        start_s=float(index),
        end_s=index + 4.0,
        score=score,
        index=index,
        decision=decision(score, threshold),
        **other,
    )


def segments_of(rows: list[WindowRow]) -> list[Segment]:
    finder = Segments()
    found = [segment for each in rows if (segment := finder.add(each))]
    last = finder.close()
    return [*found, last] if last else found


def test_neighbours_on_one_side_are_one_segment() -> None:
    low, high = segments_of([row(0, -1.0), row(1, -3.0), row(2, 0.0), row(3, 2.0)])
    assert (low.start_s, low.end_s, low.decision, low.n_windows) == (0.0, 5.0, "spoof", 2)
    assert (low.mean, low.min, low.max) == (-2.0, -3.0, -1.0)
    assert (high.start_s, high.end_s, high.decision) == (2.0, 7.0, "bonafide")


def test_windows_without_score_and_gaps_end_a_segment() -> None:
    gap = WindowRow(start_s=2.0, end_s=2.5, error="gap: lost", is_gap=True)
    found = segments_of([row(0, -1.0), row(1, None, speech=0.0), row(2, -1.0), gap, row(3, -1.0)])
    assert [(s.start_s, s.n_windows) for s in found] == [(0.0, 1), (2.0, 1), (3.0, 1)]
    assert segments_of([row(0, -1.0, threshold=None)]) == []


def test_label_line_is_that_of_audacity() -> None:
    (segment,) = segments_of([row(1, -1.256)])
    assert audacity_label(segment) == "1.000000\t5.000000\tspoof -1.26\n"


def test_aggregates_are_those_of_all_scores() -> None:
    scores = np.random.default_rng(0).standard_normal(200)
    figures = Aggregate()
    for index, score in enumerate(scores.tolist()):
        figures.add(row(index, score))
    figures.add(row(200, None, speech=0.1))
    figures.add(WindowRow(start_s=300.0, end_s=None, error="damaged"))
    got = figures.to_dict()
    assert (got["n_windows"], got["n_scored"], got["n_gated"], got["n_errors"]) == (201, 200, 1, 1)
    assert got["n_spoof"] == int((scores < 0).sum())
    assert got["mean"] == pytest.approx(scores.mean())
    assert (got["min"], got["min_start_s"]) == (scores.min(), float(scores.argmin()))
    assert (got["max"], got["max_start_s"]) == (scores.max(), float(scores.argmax()))
    assert got["mean_of_5_lowest"] == pytest.approx(np.sort(scores)[:5].mean())
    assert got["mean_of_5_highest"] == pytest.approx(np.sort(scores)[-5:].mean())


def test_without_a_score_there_are_no_aggregates() -> None:
    got = Aggregate().to_dict()
    assert got["n_windows"] == 0
    assert {got[key] for key in ("mean", "min", "max", "min_start_s", "mean_of_5_lowest")} == {None}


@pytest.mark.parametrize("n_samples", [1, 63, 1_000, 64 * MAX_BINS, 300_000])
@pytest.mark.parametrize("push", [1_000, 65_537])
def test_envelope_is_the_lowest_and_highest_of_its_parts(n_samples: int, push: int) -> None:
    wave = (np.random.default_rng(0).standard_normal(n_samples) / 4).astype(np.float32)
    envelope = Envelope(16_000)
    for start in range(0, n_samples, push):
        envelope.add(wave[start : start + push])
    starts, low, high = envelope.arrays()
    assert 0 < len(starts) <= MAX_BINS
    size = 64 if len(starts) == 1 else round(float(starts[1]) * 16_000)
    parts = [wave[s : s + size] for s in range(0, n_samples, size)]
    np.testing.assert_array_equal(low, [part.min() for part in parts])
    np.testing.assert_array_equal(high, [part.max() for part in parts])


def test_a_gap_is_nothing_in_the_envelope() -> None:
    envelope = Envelope(16_000)
    envelope.add(np.full(640, 0.5, np.float32))
    envelope.skip(640 / 16_000)
    envelope.add(np.full(640, -0.5, np.float32))
    _, low, _ = envelope.arrays()
    assert np.isnan(low[10:20]).all()
    assert (low[:10].tolist(), low[20:].tolist()) == ([0.5] * 10, [-0.5] * 10)


@pytest.mark.parametrize("n_rows", [1, MAX_BINS, MAX_BINS + 1, 5 * MAX_BINS + 3])
def test_course_of_scores_is_bounded_and_keeps_extremes(n_rows: int) -> None:
    scores = np.random.default_rng(0).standard_normal(n_rows)
    course = ScoreCourse()
    for index, score in enumerate(scores.tolist()):
        course.add(row(index, None if index == 2 else score))
    got = course.arrays()
    assert len(got["mean"]) <= MAX_BINS
    kept = np.delete(scores, 2) if n_rows > 2 else scores
    assert (np.nanmin(got["min"]), np.nanmax(got["max"])) == (kept.min(), kept.max())
    assert (got["start_s"][0], got["end_s"][-1]) == (0.0, n_rows - 1 + 4.0)
    per_bin = -(-n_rows // len(got["mean"]))
    assert got["mean"][-1] == pytest.approx(scores[(n_rows - 1) // per_bin * per_bin :].mean())
