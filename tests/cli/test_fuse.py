from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from aasist_deploy.calibration import fit_affine
from aasist_deploy.cli import app
from aasist_deploy.errors import MetricError, ScoresError, UsageError
from aasist_deploy.scores import read_scores

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["fuse", *(os.fspath(argument) for argument in arguments)])


def write_system(path: Path, scores: NDArray[np.float64], *, labelled: bool = True) -> Path:
    """The first half bona fide; lines in an order of their own."""
    n = len(scores) // 2
    lines = []
    for i, score in enumerate(scores.tolist()):
        key = ("- bonafide " if i < n else "A01 spoof ") if labelled else ""
        lines.append(f"u{i} {key}{score!r}\n")
    order = np.random.default_rng(len(path.name)).permutation(len(lines))
    path.write_text("".join(lines[i] for i in order))
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    random = np.random.default_rng(0)
    mean = np.repeat([1.0, -1.0], 400)
    made = {}
    for which in ("dev", "eval"):
        for name, scale in (("A", 0.2), ("B", 30.0)):
            scores = scale * random.normal(mean, 1.4)
            made[f"{which}{name}"] = write_system(tmp_path / f"{which}{name}.txt", scores)
    return made


def test_fused_scores_are_better_llrs_than_those_of_each_system(
    files: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "fused.txt"
    fit: list[str | Path] = ["--fit", files["devA"], "--fit", files["devB"]]
    for mode in ([], ["--mean"]):
        result = run(files["evalA"], files["evalB"], *fit, "-o", output, *mode, "--json")
        assert result.exit_code == 0, result.output
        parsed = json.loads(result.stdout)
        of = parsed["figures"]["trials"]
        assert of["fused"]["eer_percent"] < min(s["eer_percent"] for s in of["systems"]) - 2
        assert of["fused"]["cllr"] < min(s["cllr"] for s in of["systems"])
        assert of["fused"]["cllr"] < of["fused"]["min_cllr"] + 0.05
        assert parsed["fusion"]["method"] == ("mean" if mode else "logistic")
        table = read_scores(output)
        a, b = (read_scores(files[name]) for name in ("evalA", "evalB"))
        assert table.utterances == a.utterances
        of_b = dict(zip(b.utterances, b.scores.tolist(), strict=True))
        weights, offset = parsed["fusion"]["weights"], parsed["fusion"]["offset"]
        expected = weights[0] * a.scores + weights[1] * np.array([of_b[u] for u in a.utterances])
        np.testing.assert_allclose(table.scores, expected + offset, rtol=1e-12, atol=1e-12)
        assert table.is_bonafide is not None
        assert table.attacks is not None
        assert set(table.attacks) == {"-", "A01"}


def test_one_system_is_calibrated(files: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "llr.txt"
    result = run(files["evalA"], "--fit", files["devA"], "-o", output)
    assert result.exit_code == 0, result.output
    dev, trials = read_scores(files["devA"]), read_scores(files["evalA"])
    assert dev.is_bonafide is not None
    expected = fit_affine(dev.scores, dev.is_bonafide).llr(trials.scores)
    np.testing.assert_allclose(read_scores(output).scores, expected, rtol=1e-9, atol=1e-9)
    assert "evalA.txt" in result.stdout
    assert "800 trials" in result.stdout


def test_trials_without_truth_are_fused_to_two_columns(tmp_path: Path) -> None:
    scores = np.repeat([1.0, -1.0], 20) + np.random.default_rng(1).normal(size=40)
    dev = write_system(tmp_path / "dev.txt", scores)
    trials = write_system(tmp_path / "eval.txt", scores, labelled=False)
    output = tmp_path / "fused.txt"
    result = run(trials, "--fit", dev, "-o", output, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["figures"]["trials"] is None
    assert all(len(line.split()) == 2 for line in output.read_text().splitlines())
    assert read_scores(output).is_bonafide is None
    assert run(trials, "--fit", dev, "-o", output).exit_code == 0


def test_truth_of_the_fit_may_come_from_a_protocol(tmp_path: Path) -> None:
    scores = np.repeat([1.0, -1.0], 20) + np.random.default_rng(1).normal(size=40)
    dev = write_system(tmp_path / "dev.txt", scores, labelled=False)
    output, protocol = tmp_path / "fused.txt", tmp_path / "protocol.txt"
    protocol.write_text(
        "".join(f"s u{i} - {'- bonafide' if i < 20 else 'A01 spoof'}\n" for i in range(40))
    )
    arguments = (dev, "--fit", dev, "-o", output)
    assert isinstance(run(*arguments).exception, MetricError)
    assert not output.exists()
    assert run(*arguments, "--fit-protocol", protocol).exit_code == 0


def test_systems_on_other_trials_are_refused_with_names(
    files: dict[str, Path], tmp_path: Path
) -> None:
    lines = files["evalB"].read_text().splitlines(keepends=True)
    files["evalB"].write_text("".join(line for line in lines if not line.startswith("u7 ")))
    fit: list[str | Path] = ["--fit", files["devA"], "--fit", files["devB"]]
    output = tmp_path / "fused.txt"
    error = run(files["evalA"], files["evalB"], *fit, "-o", output).exception
    assert isinstance(error, ScoresError)
    assert "1 are not in the second ('u7')" in str(error)
    assert not output.exists()


def test_one_file_to_fit_on_is_needed_for_each_system(
    files: dict[str, Path], tmp_path: Path
) -> None:
    error = run(
        files["evalA"], files["evalB"], "--fit", files["devA"], "-o", tmp_path / "x.txt"
    ).exception
    assert isinstance(error, UsageError)
    assert "2 score files to fuse and 1 to fit on" in str(error)


def test_input_is_not_written_over(files: dict[str, Path]) -> None:
    before = files["evalA"].read_text()
    result = run(files["evalA"], "--fit", files["devA"], "-o", files["evalA"])
    assert isinstance(result.exception, UsageError)
    assert "would be lost" in str(result.exception)
    assert files["evalA"].read_text() == before


def test_reversed_system_is_pointed_out(files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("devB", "evalB"):
        table = read_scores(files[name])
        order = np.argsort([int(u[1:]) for u in table.utterances])
        write_system(files[name], -table.scores[order])
    arguments = (files["evalA"], files["evalB"], "--fit", files["devA"], "--fit", files["devB"])
    result = run(*arguments, "-o", tmp_path / "x.txt")
    assert result.exit_code == 0, result.output
    assert "a weight is negative" in result.stderr
    assert isinstance(run(*arguments, "-o", tmp_path / "y.txt", "--mean").exception, MetricError)


def test_help_shows_an_example() -> None:
    assert "aasist-deploy fuse A.txt B.txt" in run("--help").stdout
