"""The first command of the README, with the tools of this environment."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO_CLIPS = REPOSITORY / "examples" / "demo_clips"
N_CLIPS = 28


def make(target: str, *variables: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    if not Path(sys.executable).with_name("aasist-deploy").exists():
        pytest.skip("needs aasist-deploy installed beside this Python")
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "AASIST_DEPLOY"))
    }
    return subprocess.run(
        ["make", "--no-print-directory", target, f"BIN={Path(sys.executable).parent}", *variables],
        cwd=REPOSITORY,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def check_figures(people: list[float], engines: list[float]) -> None:
    """What examples/demo_clips/README.md says of the scores of published AASIST."""
    assert len(people) + len(engines) == N_CLIPS
    assert min(people) > max(engines)  # an EER of 0
    assert sum(score < 1.49 for score in people) == 5
    assert min(people) == pytest.approx(0.20, abs=0.005)
    assert max(engines) == pytest.approx(-0.28, abs=0.005)


def test_scores_of_the_demo_clips_are_those_of_their_document(
    exported: Callable[..., Path],
) -> None:
    with open_engine(exported()) as engine:
        scores = {
            path.name: float(engine.score(fit_length(read_audio(path).wave)[None])[0])
            for path in sorted(DEMO_CLIPS.glob("*.flac"))
        }
    people = [score for name, score in scores.items() if name.startswith("human")]
    check_figures(people, [s for name, s in scores.items() if not name.startswith("human")])


@pytest.mark.slow
@pytest.mark.long  # the next is the same demonstration of two clips
@pytest.mark.timeout(900)  # a minute of two quiet cores
def test_demo_with_a_mirror(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    mirror = str(shared / "models" / "clovaai")
    done = make("demo-steps", f"DEMO={tmp_path}", AASIST_DEPLOY_MIRROR=mirror)
    assert done.returncode == 0, done.stderr
    assert "parity                        │ holds" in done.stdout
    assert f"{tmp_path}/report.html" in done.stdout.splitlines()[-1]
    with (tmp_path / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == N_CLIPS
    assert not any(row["error"] for row in rows)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["eer_percent"] == 0
    people = [float(r["score"]) for r in rows if Path(r["path"]).name.startswith("human")]
    engines = [float(r["score"]) for r in rows if not Path(r["path"]).name.startswith("human")]
    check_figures(people, engines)


@pytest.fixture
def few_clips(tmp_path: Path) -> Path:
    """Two clips of the demonstration, one of each class, with their manifest."""
    folder = tmp_path / "clips"
    folder.mkdir()
    header, *rows = (DEMO_CLIPS / "manifest.csv").read_text().splitlines()
    chosen = [next(row for row in rows if f",{label}" in row) for label in ("bonafide", "spoof")]
    (folder / "manifest.csv").write_text("\n".join([header, *chosen]) + "\n")
    for row in chosen:
        shutil.copy(DEMO_CLIPS / row.split(",")[0], folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute of two quiet cores
def test_demo_without_network_and_mirror_takes_the_weights_of_the_package(
    few_clips: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    closed = "http://127.0.0.1:9"  # the discard port: nothing listens there
    proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), closed)
    variables = (f"DEMO={tmp_path}", f"DEMO_CLIPS={few_clips}")
    done = make("demo-steps", *variables, AASIST_DEPLOY_MIRROR="", **proxies)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()[0]
    assert said.startswith("The published weights cannot be had (")
    assert "aasist-l-mini of this package, which errs far more often" in said
    assert "parity                        │ holds" in done.stdout
    assert not (tmp_path / "aasist.onnx").exists()
    with (tmp_path / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2
    assert not any(row["error"] for row in rows)


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make(f"{tmp_path}/venv/ready", f"VENV={tmp_path}/venv", f"PYTHON={old}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("Python 3.11 or newer is needed")
    assert not (tmp_path / "venv").exists()
