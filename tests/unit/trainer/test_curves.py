from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from aasist_deploy.errors import OutputError
from aasist_deploy.trainer.curves import best_epoch, draw, smoothed

if TYPE_CHECKING:
    from pathlib import Path


def log_of(path: Path, n_epochs: int = 4, per_epoch: int = 10, **changed: Any) -> Path:
    """A log whose dev EER in percent is 4, 3, 2, ... and whose values can be changed."""
    lines = []
    for epoch in range(1, n_epochs + 1):
        first = (epoch - 1) * per_epoch + 1
        for step in range(first, first + per_epoch):
            row = {"kind": "step", "epoch": epoch, "step": step, "loss": 1 / step, "lr": 1e-4}
            lines.append(row | {k: v for k, v in changed.items() if k in row})
        row = {
            "kind": "epoch", "epoch": epoch, "step": epoch * per_epoch, "dev_loss": 0.5 / epoch,
            "dev_eer_percent": float(n_epochs + 1 - epoch), "dev_min_tdcf": 0.1 / epoch,
        }  # fmt: skip
        lines.append(row | {k: v for k, v in changed.items() if k in {*row, "best"}})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, with what they hold."""
    figures: list[Figure] = []
    save = Figure.savefig

    def saved(figure: Figure, *args: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    return figures


Series = tuple[list[float], list[float]]


def lines_of(figure: Figure) -> dict[str, dict[str, Series]]:
    """Panel -> line -> its x and y."""
    panels: dict[str, dict[str, Series]] = {}
    for axes in figure.axes:
        lines = panels.setdefault(axes.get_ylabel(), {})
        for line in axes.lines:
            x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            lines[str(line.get_label())] = (x.tolist(), y.tolist())
    return panels


def test_every_figure_of_the_log_is_drawn_at_its_step(tmp_path: Path, drawn: list[Figure]) -> None:
    draw(log_of(tmp_path / "log.jsonl"), tmp_path / "curves.png")
    panels = lines_of(drawn[0])
    assert list(panels) == ["Loss", "Dev EER, %", "Dev min t-DCF", "Learning rate"]
    steps = [float(step) for step in range(1, 41)]
    assert panels["Loss"]["train, each step"] == (steps, [1 / step for step in steps])
    assert panels["Loss"]["dev"] == ([10.0, 20.0, 30.0, 40.0], [0.5, 0.25, 0.5 / 3, 0.125])
    curve = next(iter(panels["Dev EER, %"].values()))
    assert curve == ([10.0, 20.0, 30.0, 40.0], [4.0, 3.0, 2.0, 1.0])
    assert next(iter(panels["Learning rate"].values())) == (steps, [1e-4] * 40)


def test_training_loss_is_there_when_hardly_a_step_is_logged(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    log = log_of(tmp_path / "log.jsonl", n_epochs=3, per_epoch=6)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    kept = [row for row in rows if row["kind"] == "epoch" or row["step"] == 10]
    for row in kept:
        if row["kind"] == "epoch":
            row["train_loss"] = 0.9 / row["epoch"]
    log.write_text("".join(json.dumps(row) + "\n" for row in kept))
    draw(log, tmp_path / "curves.png")
    panels = lines_of(drawn[0])
    assert panels["Loss"]["train, mean of each epoch"] == ([6.0, 12.0, 18.0], [0.9, 0.45, 0.3])
    assert "train, smoothed" not in panels["Loss"]
    rates = next(axes for axes in drawn[0].axes if axes.get_ylabel() == "Learning rate")
    rate = next(line for line in rates.lines if np.array_equal(line.get_xdata(), [10]))
    assert rate.get_marker() == "o"  # a line through one point cannot be seen


def test_picture_is_a_png_that_is_neither_small_nor_empty(tmp_path: Path) -> None:
    draw(log_of(tmp_path / "log.jsonl"), tmp_path / "curves.png")
    pixels = imread(tmp_path / "curves.png")
    assert pixels.shape[0] > 800
    assert pixels.shape[1] > 800
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "log.jsonl"]


def test_best_epoch_is_marked_in_every_panel_and_named(tmp_path: Path, drawn: list[Figure]) -> None:
    draw(log_of(tmp_path / "log.jsonl"), tmp_path / "curves.png")
    (figure,) = drawn
    assert figure.get_suptitle() == "Best epoch 4: dev EER 1.00 %, min t-DCF 0.0250"
    for lines in lines_of(figure).values():
        assert [40, 40] in [x for x, _ in lines.values()]


def test_best_epoch_is_what_the_run_chose_else_the_first_lowest_eer() -> None:
    rows: list[dict[str, Any]] = [
        {"epoch": 1, "dev_eer_percent": 2.0},
        {"epoch": 2, "dev_eer_percent": 1.0},
        {"epoch": 3, "dev_eer_percent": 1.0},
    ]
    assert best_epoch(rows) == rows[1]
    assert best_epoch([rows[0] | {"best": True}, rows[1] | {"best": False}])["epoch"] == 1  # type: ignore[index]
    assert best_epoch([row | {"best": True} for row in rows])["epoch"] == 3  # type: ignore[index]
    assert best_epoch([{"epoch": 1, "dev_eer_percent": None}]) is None


def test_panels_without_figures_are_left_out(tmp_path: Path, drawn: list[Figure]) -> None:
    draw(log_of(tmp_path / "log.jsonl", dev_min_tdcf=None), tmp_path / "curves.png")
    assert list(lines_of(drawn[0])) == ["Loss", "Dev EER, %", "Learning rate"]
    (tmp_path / "step.jsonl").write_text('{"kind": "step", "epoch": 1, "step": 1, "loss": null}\n')
    draw(tmp_path / "step.jsonl", tmp_path / "step.png")
    assert list(lines_of(drawn[1])) == ["Loss"]


def test_values_that_are_missing_leave_gaps_in_nothing_else(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    log = log_of(tmp_path / "log.jsonl", n_epochs=1, per_epoch=4)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows[1]["loss"] = None  # a NaN
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw(log, tmp_path / "curves.png")
    x, y = lines_of(drawn[0])["Loss"]["train, each step"]
    assert (x, y) == ([1, 3, 4], [1, 1 / 3, 1 / 4])


def test_smoothing_keeps_a_constant_and_halves_at_its_span() -> None:
    assert smoothed(np.full(50, 3.0), 7) == pytest.approx(np.full(50, 3.0))
    assert smoothed(np.array([4.0, 0.0]), 2) == pytest.approx([4.0, 4 / 3])  # weights 1/2 and 1
    noise = np.random.default_rng(0).normal(size=2000)
    assert smoothed(noise, 50)[100:].std() < 0.2 * noise.std()


def test_settings_and_figures_of_the_process_are_left_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    draw(log_of(tmp_path / "log.jsonl"), tmp_path / "curves.png")
    assert dict(mpl.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_log_without_rows_or_absent_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(OutputError, match="has no rows to draw"):
        draw(tmp_path / "log.jsonl", tmp_path / "curves.png")
    with pytest.raises(OutputError, match=r"absent\.jsonl cannot be read"):
        draw(tmp_path / "absent.jsonl", tmp_path / "curves.png")


def test_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        draw(log_of(tmp_path / "log.jsonl"), tmp_path / "absent" / "curves.png")
