from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.audio import Gap
from aasist_deploy.calibration import Calibration
from aasist_deploy.streaming.each_window import EachWindowScorer
from aasist_deploy.streaming.rows import RowRules, StreamRows, WindowRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LOUD = np.full(1_600, 0.25, np.float32)  # the fake engine says 2.5


@pytest.fixture
def rows_of(fake_engine: Any) -> Callable[..., StreamRows]:
    def make(hop: int = 400, meter: Any = None, **rules: Any) -> StreamRows:
        return StreamRows(lambda _: EachWindowScorer(fake_engine(), hop), RowRules(**rules), meter)

    return make


def test_a_window_has_its_place_score_and_what_follows_from_it(
    rows_of: Callable[..., StreamRows],
) -> None:
    rows = rows_of(calibration=Calibration(scale=2.0, offset=-1.0), threshold=2.0)
    first, second, third = rows.push(LOUD)
    assert (first.start_s, second.start_s, third.end_s) == (0.0, 0.025, 0.1)
    assert first.score == pytest.approx(2.5)
    assert first.llr == pytest.approx(4.0)
    assert first.p_spoof == pytest.approx(1 / (1 + np.exp(4.0)))
    assert first.decision == "bonafide"
    assert first.error is None
    (low,) = rows_of(threshold=2.51).push(LOUD[:800])
    assert low.decision == "spoof"


def test_no_window_spans_a_gap_and_time_goes_on_over_it(
    rows_of: Callable[..., StreamRows],
) -> None:
    rows = rows_of()
    before = rows.push(LOUD)
    gap = rows.push(Gap(0.5, "input overflow"))
    after = rows.push(-LOUD)
    assert [row.score for row in before] == pytest.approx([2.5] * 3)
    (row,) = gap
    assert (row.start_s, row.end_s, row.score, row.is_gap) == (0.1, 0.6, None, True)
    assert row.error == "gap: input overflow; 0.500 s is missing"
    # A window over both sides would have a score between the two.
    assert [row.score for row in after] == pytest.approx([-2.5] * 3)
    assert after[0].start_s == pytest.approx(0.6)
    assert [row.stretch for row in (*before, *gap, *after)] == [0, 0, 0, 0, 1, 1, 1]
    assert rows.position_s == pytest.approx(0.7)


def test_what_is_too_short_beside_a_gap_is_said_and_not_tiled(
    rows_of: Callable[..., StreamRows],
) -> None:
    rows = rows_of()
    short, gap = [*rows.push(LOUD[:100]), *rows.push(Gap(None, "overflow"))]
    assert short.score is None
    assert short.error == "0.006 s beside a gap are shorter than a window of 0.050 s"
    assert gap.error == "gap: overflow; an unknown time is missing"
    assert gap.start_s == gap.end_s == 100 / 16_000
    assert rows.push(LOUD[:100]) == []
    (end,) = rows.finish()
    assert end.error is not None
    assert "beside a gap" in end.error


def test_gap_behind_a_gap_has_one_row_each(rows_of: Callable[..., StreamRows]) -> None:
    rows = rows_of()
    rows.push(LOUD)
    assert len(rows.push(Gap(0.1, "a"))) == len(rows.push(Gap(0.1, "b"))) == 1
    assert rows.finish() == []


def test_a_short_stream_without_a_gap_is_tiled(rows_of: Callable[..., StreamRows]) -> None:
    rows = rows_of()
    rows.push(LOUD[:100])
    (row,) = rows.finish()
    assert row.score == pytest.approx(2.5)
    assert (row.start_s, row.end_s) == (0.0, 100 / 16_000)
    assert rows.unscored_s == 0.0


def test_seconds_in_no_window_of_their_own(rows_of: Callable[..., StreamRows]) -> None:
    rows = rows_of()
    rows.push(LOUD[:100])
    assert rows.unscored_s == 100 / 16_000
    rows.push(LOUD[:1_000])  # 1,100: windows at 0; the next ends at 1,200
    assert rows.unscored_s == 300 / 16_000


class Meter:
    """Half of each window is speech, but in the second none."""

    def push(self, samples: NDArray[np.float32]) -> None: ...

    def speech(self, start: int, end: int) -> float:
        assert end - start == 800
        return 0.0 if start == 400 else 0.5


def test_windows_with_too_little_speech_are_gated_and_say_so(
    rows_of: Callable[..., StreamRows],
) -> None:
    kept, gated, again = rows_of(meter=Meter, min_speech=0.2, threshold=0.0).push(LOUD)
    assert [row.speech for row in (kept, gated, again)] == [0.5, 0.0, 0.5]
    assert (gated.score, gated.error, gated.decision, gated.gated) == (None, None, None, True)
    assert kept.score == again.score == pytest.approx(2.5)
    assert not kept.gated
    assert all(row.score is not None for row in rows_of(meter=Meter, min_speech=0).push(LOUD))


def test_a_score_that_is_no_number_is_an_error(fake_engine: Any) -> None:
    class Broken(fake_engine):  # type: ignore[misc]
        def _run(self, waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            return {"score": np.full(len(waves), np.nan, np.float32)}

    rows = StreamRows(lambda _: EachWindowScorer(Broken(), 800), RowRules(threshold=0.0))
    row: WindowRow = rows.push(LOUD)[0]
    assert (row.score, row.decision) == (None, None)
    assert row.error == "the model's score is nan"
