"""From a recipe and real clips to an exported, evaluated model, by the commands of the user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.audio import fit_length
from aasist_deploy.errors import AasistDeployError
from aasist_deploy.models import load_checkpoint
from aasist_deploy.trainer import StepDone, load_recipe, train
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
VERB = [sys.executable, "-c", "from aasist_deploy.cli import main; main()"]
# A network of the published kind that trains on real clips within seconds.
SMALL: dict[str, Any] = {
    "nb_samp": 16_000,
    "filts": [70, [1, 4], [4, 4], [4, 6], [6, 6]],
    "gat_dims": [6, 4],
}


def verb(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*VERB, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def sets(**values: Any) -> list[str]:
    return [
        word
        for key, value in values.items()
        for word in ("--set", f"{key.replace('__', '.')}={json.dumps(value)}")
    ]


@pytest.mark.slow
def test_a_recipe_becomes_an_evaluated_model(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    root, out = shared / "data" / "LA_mini", tmp_path / "run"
    done = verb(
        "train", "aasist-l", "--root", root, "--out", out, "--device", "cpu",
        *sets(
            epochs=4, batch_size=8, limit_train=32, limit_dev=24, workers=0, tensorboard=False,
            optimizer__lr=2e-3, log_every_steps=1, **SMALL,
        ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "EER" in done.stdout
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert all(row["dev_min_tdcf"] is not None for row in epochs)

    done = verb("export", out / "best.safetensors", "-o", out / "best.onnx")
    assert done.returncode == 0, done.stderr
    results = tmp_path / "results"
    done = verb(
        "eval", out / "best.onnx", "--dataset", "asvspoof2019-la", "--root", root,
        "--split", "eval", "--out", results,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((results / "report.json").read_text())["dataset"]["n_trials"] == 29
    (results / "report.html").unlink()
    done = verb("report", results, "--players", "2")
    assert done.returncode == 0, done.stderr
    assert (results / "report.html").read_text().count("<audio") == 2


def test_one_epoch_from_published_weights_keeps_eager_and_exported_alike(
    shared: Path, published_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    pytest.importorskip("onnxscript", reason="needs the extra export")
    from aasist_deploy.export import ExportOptions, export_onnx

    root = shared / "data" / "LA_mini"
    recipe = load_recipe(
        "aasist-l",
        [
            f'data.root="{root}"', f'training.init="{published_checkpoint("AASIST-L")}"',
            "epochs=1", "batch_size=2", "limit_train=4", "limit_dev=4", "workers=0",
            "tensorboard=false", "swa=false", "device=cpu", "data.crop_samples=16000",
        ],
    )  # fmt: skip
    events: list[Any] = []
    result = train(recipe, tmp_path / "run", on_event=events.append)
    assert len([event for event in events if isinstance(event, StepDone)]) == 2
    checkpoint = load_checkpoint(result.best)
    before = load_checkpoint(published_checkpoint("AASIST-L"))
    assert checkpoint.config == before.config
    changed = checkpoint.model.state_dict()["out_layer.weight"]
    assert not changed.equal(before.model.state_dict()["out_layer.weight"])

    path = tmp_path / "tuned.onnx"
    export_onnx(checkpoint, path, ExportOptions(batch=3))  # traced in half the time
    dev = load_dataset("asvspoof2019-la", root, "dev").trials[:3]
    waves = np.stack([fit_length(soundfile.read(t.path, dtype="float32")[0]) for t in dev])
    import torch

    with torch.no_grad():
        eager = checkpoint.model(torch.from_numpy(waves))[1][:, 1].numpy()
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (exported,) = session.run(["score"], {session.get_inputs()[0].name: waves})
    # The tolerance of the parity tests of published weights.
    np.testing.assert_allclose(exported, eager, atol=1e-4)


def test_training_on_one_class_says_so(tmp_path: Path) -> None:
    clips = load_dataset("manifest", REPOSITORY / "examples" / "demo_clips", "all").trials
    spoofs = [trial.path for trial in clips if trial.label == "spoof"][:8]
    for path in spoofs:  # paths of a manifest stay under its folder
        (tmp_path / path.name).symlink_to(path)
    manifest = tmp_path / "spoofs.csv"
    manifest.write_text("path,label\n" + "".join(f"{path.name},spoof\n" for path in spoofs))
    recipe = load_recipe(
        "aasist-l",
        [f'data.root="{manifest}"', "data.dataset=manifest", "train_split=all", "dev_split=all"],
    )
    with pytest.raises(AasistDeployError, match="0 bona fide and 8 spoof"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
