"""The example of a network of one's own, by the commands of its README, in their order."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "examples" / "custom_model"
DEMO_CLIPS = REPOSITORY / "examples" / "demo_clips"
SPLITS = {"train": 4, "dev": 2, "eval": 2}  # clips of each class


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program, *arguments = shlex.split(command)
    assert program == "aasist-deploy"
    return subprocess.run(
        [sys.executable, "-c", "from aasist_deploy.cli import main; main()", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example where the README says, and a small corpus of demo clips."""
    pytest.importorskip("torch", reason="needs the extra train")
    pytest.importorskip("tensorboardX", reason="needs the extra train")
    pytest.importorskip("onnxscript", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    place = tmp_path_factory.mktemp("custom")
    (place / "examples").symlink_to(REPOSITORY / "examples")
    corpus = place / "corpus"
    corpus.mkdir()
    with (DEMO_CLIPS / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = ["path,label,split"]
    for label in ("bonafide", "spoof"):
        clips = iter(row["path"] for row in rows if row["label"] == label)
        for split, count in SPLITS.items():
            for _ in range(count):
                name = next(clips)
                shutil.copy(DEMO_CLIPS / name, corpus / name)
                lines.append(f"{name},{label},{split}")
    (corpus / "manifest.csv").write_text("\n".join(lines) + "\n")
    return place


@pytest.mark.slow
def test_commands_of_its_readme_train_export_compare_score_and_evaluate_it(folder: Path) -> None:
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (aasist-deploy .+)$", text, re.MULTILINE)
    assert [command.split()[1] for command in commands] == [
        "train", "export", "parity", "score", "eval",
    ]  # fmt: skip
    done = {}
    for command in commands:
        verb = command.split()[1]
        done[verb] = run(command, folder)
        assert done[verb].returncode == 0, (command, done[verb].stderr)
    assert "dev EER" in done["train"].stderr
    assert re.search(r"parity +│ holds", done["parity"].stdout)
    with (folder / "run" / "scores.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * sum(SPLITS.values())
    report = json.loads((folder / "run" / "results" / "report.json").read_text())
    assert report["dataset"]["split"] == "eval"
    assert report["dataset"]["n_trials"] == 2 * SPLITS["eval"]


@pytest.mark.slow
def test_weights_do_not_run_the_code_that_they_record(folder: Path) -> None:
    if not (folder / "run" / "best.safetensors").exists():
        trained = run(
            "aasist-deploy train examples/custom_model/recipe.toml --root corpus --out run", folder
        )
        assert trained.returncode == 0, trained.stderr
    refused = run("aasist-deploy export run/best.safetensors -o run/other.onnx", folder)
    assert refused.returncode == 2
    assert "--code" in refused.stderr
    assert "network.py:SmallCnn" in refused.stderr
    assert not (folder / "run" / "other.onnx").exists()


def test_network_of_the_example_is_short() -> None:
    assert len((EXAMPLE / "network.py").read_text().splitlines()) < 60
