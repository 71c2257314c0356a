from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
import soundfile
from typer.testing import CliRunner, Result

from aasist_deploy.cli import app
from aasist_deploy.errors import ScoresError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [os.fspath(argument) for argument in arguments])


@pytest.fixture(scope="module")
def evaluated(
    small_onnx: Callable[..., Path],
    noise: Callable[..., NDArray],  # type: ignore[type-arg]
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """Two folders that eval wrote, of one small dataset."""
    root = tmp_path_factory.mktemp("data")
    lines = ["path,label,attack,speaker"]
    for index, wave in enumerate(noise(12)):
        soundfile.write(root / f"{index}.wav", wave, 16_000)
        label = "bonafide,-" if index % 2 else f"spoof,A{index // 2 % 2}"
        lines.append(f"{index}.wav,{label},s{index // 3}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    folders = root / "first", root / "second"
    for folder, more in zip(folders, (["--players", "1"], ["--bootstrap", "0"]), strict=True):
        done = run(
            "eval", small_onnx(), "--dataset", "manifest", "--root", root, "--out", folder, *more
        )
        assert done.exit_code == 0, done.output
    return folders


def test_eval_writes_intervals_unless_told_not_to(evaluated: tuple[Path, Path]) -> None:
    first, second = (json.loads((f / "report.json").read_text()) for f in evaluated)
    assert first["confidence"]["n_bootstrap"] == 1000
    assert second["confidence"] is None
    assert first["decoding"] == []


def test_eval_embeds_audio_only_when_asked(evaluated: tuple[Path, Path]) -> None:
    assert (evaluated[0] / "report.html").read_text().count("<audio") == 1
    assert "<audio" not in (evaluated[1] / "report.html").read_text()


def test_one_folder_gets_its_page_again(evaluated: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run("report", evaluated[1], "-o", page)
    assert done.exit_code == 0, done.output
    assert f"report: {page}" in done.stdout
    assert page.read_text() == (evaluated[1] / "report.html").read_text()


def test_players_can_be_added_later(evaluated: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("report", evaluated[1], "-o", page, "--players", "2").exit_code == 0
    assert page.read_text().count("<audio") == 2


def test_two_folders_stand_side_by_side(evaluated: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "both.html"
    done = run("report", *evaluated, "-o", page, "--labels", "new,old", "--bootstrap", "50",
               "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [system["label"] for system in found["systems"]] == ["new", "old"]
    assert found["pairs"][0]["n_common"] == 12
    assert "new" in page.read_text()


def test_systems_without_a_class_in_common_are_refused(
    evaluated: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(evaluated[0], other)
    lines = (other / "scores.txt").read_text().splitlines()
    renamed = (f"x{line}" if " bonafide " in line else line for line in lines)
    (other / "scores.txt").write_text("\n".join(renamed) + "\n")
    done = run("report", evaluated[0], other, "--allow-different", "-o", tmp_path / "both.html")
    assert isinstance(done.exception, ScoresError)
    assert "share 0 bona fide and 6 spoofed trials" in str(done.exception)


def test_labels_must_be_one_for_each_folder(evaluated: tuple[Path, Path]) -> None:
    done = run("report", *evaluated, "--labels", "only")
    assert isinstance(done.exception, UsageError)
    assert "1 names; there are 2" in str(done.exception)


def test_players_of_several_systems_are_refused(evaluated: tuple[Path, Path]) -> None:
    assert isinstance(run("report", *evaluated, "--players", "3").exception, UsageError)


def test_folder_that_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    assert isinstance(run("report", tmp_path).exception, UsageError)
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "scores.txt").write_text("u bonafide 1\n")
    assert isinstance(run("report", tmp_path).exception, ScoresError)


def test_folder_must_exist(tmp_path: Path) -> None:
    assert run("report", tmp_path / "none").exit_code == 2


def test_help_shows_an_example() -> None:
    assert "aasist-deploy report results --players 10" in run("report", "--help").stdout
