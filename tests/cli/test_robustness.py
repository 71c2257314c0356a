from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from aasist_deploy.cli import app
from aasist_deploy.degradations.conditions import IDENTITY
from aasist_deploy.errors import CheckFailed, EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Loud:
    """Stands in for `open_engine`: the score is the peak of the window."""

    def __init__(self, fake_engine: Any) -> None:
        class Engine(fake_engine):  # type: ignore[misc]
            def _run(self, waves: Any) -> dict[str, Any]:
                return {"score": np.abs(waves).max(axis=1)}

        self.engine_class = Engine

    def __call__(self, *_arguments: object, **_options: object) -> Any:
        return self.engine_class(n_samples=16_000, min_samples=16_000)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    lines = ["path,label"]
    time = np.arange(16_000) / 16_000
    for name, level in {"a": 0.4, "b": 0.3, "c": 0.1, "d": 0.05}.items():
        tone = level * np.sin(2 * np.pi * 300 * time)
        soundfile.write(tmp_path / f"{name}.wav", tone, 16_000, subtype="FLOAT")
        lines.append(f"{name}.wav,{'bonafide' if level > 0.2 else 'spoof'}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "model.onnx").write_bytes(b"opened by nobody")
    return tmp_path


@pytest.fixture
def run(clips: Path, fake_engine: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(clips)
    # The package's attribute of that name is the verb, not the module.
    module = import_module("aasist_deploy.cli.robustness")
    monkeypatch.setattr(module, "open_engine", Loud(fake_engine))

    def invoke(*arguments: str) -> Result:
        given = ["robustness", "model.onnx", "--dataset", "manifest", "--root", os.fspath(clips)]
        return CliRunner().invoke(app, [*given, "--out", "out", *arguments])

    return invoke


def test_table_has_a_line_for_each_condition_and_says_the_worst(
    run: Callable[..., Result], clips: Path
) -> None:
    result = run("--conditions", "control,gain-24dB,gain+6dB")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith(" ")]
    by_name = {line[0]: line[1:] for line in lines}
    assert by_name["identity"] == ["4", "0.00", "+0.00", "+0.00", "1.000", "0", "0.00", "+0.00"]
    assert by_name["gain-24dB"][:2] == ["4", "0.20"]  # 15/16 of the mean of the four peaks
    assert by_name["gain-24dB"][5] == "2"
    assert "flips most: gain-24dB (quieter by 24 dB, without clipping)" in result.stdout
    assert "clean: EER 0.00 %, decisions at 0.2" in result.stdout
    assert "4 trials of manifest, clean and under 3 conditions" in result.stderr
    assert "written: out/robustness.json" in result.stdout
    assert (clips / "out" / "robustness.json").is_file()


def test_json_is_the_file(run: Callable[..., Result], clips: Path) -> None:
    result = run("--conditions", "gain", "--limit", "2", "--threshold", "0.15", "--json")
    printed = json.loads(result.stdout)
    assert printed == json.loads((clips / "out" / "robustness.json").read_text())
    assert (printed["dataset"]["n_trials"], printed["dataset"]["n_selected"]) == (4, 2)
    assert printed["threshold"] == {"value": 0.15, "source": "given"}
    assert {one["family"] for one in printed["conditions"]} == {"gain"}


def test_limits_decide_the_exit_code(run: Callable[..., Result], clips: Path) -> None:
    assert run("--conditions", "gain", "--max-eer-increase", "0").exit_code == 0
    result = run("--conditions", "gain", "--max-flips", "1", "--json")
    assert isinstance(result.exception, CheckFailed)
    assert result.exception.exit_code == 1
    assert "gain-24dB flips 2 decisions, over 1" in str(result.exception)
    assert json.loads(result.stdout)["breaches"]
    assert json.loads((clips / "out" / "robustness.json").read_text())["limits"]["max_flips"] == 1


@pytest.mark.parametrize("limit", ["--max-eer-increase", "--max-flips"])
def test_limit_that_cannot_be_measured_does_not_hold(
    run: Callable[..., Result], limit: str
) -> None:
    result = run("--conditions", "gain", "--limit", "1", limit, "3")
    assert isinstance(result.exception, CheckFailed)
    assert "not known" in str(result.exception)


@pytest.mark.parametrize("option", ["--max-eer-increase", "--threshold"])
def test_numbers_that_compare_with_nothing_are_wrong_usage(
    run: Callable[..., Result], option: str
) -> None:
    assert isinstance(run(option, "nan").exception, UsageError)


def test_clip_that_cannot_be_read_is_said_and_exits_with_one(
    run: Callable[..., Result], clips: Path
) -> None:
    (clips / "d.wav").write_text("no audio")
    result = run("--conditions", "gain")
    assert result.exit_code == 1
    assert "error: d, clean:" in result.stderr
    assert "1 scores are missing" in result.stderr


def test_unavailable_conditions_are_said_under_the_table(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = replace(IDENTITY, name="lost", family="codec", unavailable="no encoder lost")
    monkeypatch.setattr(
        "aasist_deploy.degradations.conditions.all_conditions", lambda: (IDENTITY, lost)
    )
    result = run("--conditions", "codec,control")
    assert result.exit_code == 0
    assert "not here: lost: no encoder lost" in result.stdout
    refused = run("--conditions", "lost")
    assert isinstance(refused.exception, EnvironmentLacks)


def test_list_needs_no_model_and_shows_what_cannot_be_had() -> None:
    result = CliRunner().invoke(app, ["robustness", "--list"])
    assert result.exit_code == 0
    assert "gain-24dB" in result.stdout
    as_json = CliRunner().invoke(app, ["robustness", "--list", "--json", "--conditions", "codec"])
    listed = json.loads(as_json.stdout)["conditions"]
    assert {one["family"] for one in listed} == {"codec"}
    assert all(one["unavailable"] or "encoder" in one["parameters"] for one in listed)


def test_what_is_missing_and_what_is_unknown_is_wrong_usage(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = run("--conditions", "echo").exception
    assert isinstance(unknown, UsageError)
    monkeypatch.chdir(tmp_path)
    missing = CliRunner().invoke(app, ["robustness"]).exception
    assert isinstance(missing, UsageError)
    assert "--dataset is missing" in str(missing)


def test_help_shows_an_example() -> None:
    text = CliRunner().invoke(app, ["robustness", "--help"]).stdout
    assert "aasist-deploy robustness aasist --dataset asvspoof2019-la" in text
