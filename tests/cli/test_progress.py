from __future__ import annotations

from aasist_deploy.cli.common import progress_bar


def test_time_remaining_is_told_when_a_step_takes_more_than_a_minute() -> None:
    now = 0.0
    with progress_bar("training", 8) as progress:
        progress.get_time = lambda: now
        (task,) = progress.tasks
        for _ in range(3):
            now += 75.0
            progress.advance(task.id)
        assert task.time_remaining == 5 * 75
