from __future__ import annotations

import csv
import json
import math
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from aasist_deploy.calibration import Calibration
from aasist_deploy.cli import app
from aasist_deploy.contract import ModelContract, read_contract, write_contract
from aasist_deploy.engines import open_engine
from aasist_deploy.errors import (
    CheckFailed,
    MetricError,
    ModelFileError,
    OutputError,
    UsageError,
)
from aasist_deploy.onnx_file import parse_onnx, with_metadata
from tests.contracts import N_SAMPLES
from tests.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from pathlib import Path


def run(verb: str, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [verb, *(os.fspath(argument) for argument in arguments)])


def score_lines(shift: float = 4.0, n: int = 300, seed: int = 0) -> str:
    """Scores 3 x + shift of LLRs x that are calibrated by construction."""
    random = np.random.default_rng(seed)
    lines = []
    for i in range(2 * n):
        key, mean = ("bonafide", 2.0) if i < n else ("spoof", -2.0)
        lines.append(f"s{seed}_{i} - {key} {3 * random.normal(mean, 2.0) + shift!r}\n")
    return "".join(lines)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "dev.txt"
    path.write_text(score_lines())
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose score is ten times the mean of the wave, with metadata of another tool."""
    path = write_tiny_model(
        tmp_path / "model.onnx",
        metadata={"author": "another tool"},
        config={"note": "ünï"},
        checkpoint_sha256="ab" * 32,
    )
    read_contract(path)
    return path


def wave_file(path: Path, level: float) -> Path:
    import soundfile

    soundfile.write(path, np.full(N_SAMPLES, level, np.float32), 16_000, subtype="FLOAT")
    return path


# --- figures -------------------------------------------------------------------------------------


def test_calibrate_recovers_the_parameters_and_lowers_cllr(scores: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.txt"
    held.write_text(score_lines(seed=1))
    result = run("calibrate", scores, "--held", held, "--far", "0.05", "--miss", "0.05", "--json")
    assert result.exit_code == 0, result.output
    parsed = json.loads(result.stdout)
    assert parsed["calibration"]["scale"] == pytest.approx(1 / 3, rel=0.15)
    assert parsed["calibration"]["offset"] == pytest.approx(-4 / 3, abs=0.4)
    assert parsed["calibration"]["scores_sha256"] == sha256(scores.read_bytes()).hexdigest()
    for trials in ("fit", "held"):
        before, after = parsed[trials]["before"], parsed[trials]["after"]
        assert after["cllr"] < before["cllr"]
        assert after["act_dcf"] < before["act_dcf"]
        assert after["eer_percent"] == pytest.approx(before["eer_percent"])
    assert set(parsed["thresholds"]) >= {"eer", "far(0.05)", "miss(0.05)"}
    assert parsed["output"] is None


def test_calibrate_prints_counts_with_their_bounds(scores: Path) -> None:
    result = run("calibrate", scores, "--far", "0.001")
    assert result.exit_code == 0, result.output
    assert "LLR = 0.3" in result.stdout
    assert "fit, before" in result.stdout
    assert "0/300 <0.99%" in result.stdout
    assert "far(0.001): 0 of 300 spoofed trials" in result.stderr.replace("\n", " ")


def test_protocol_gives_the_truth(tmp_path: Path) -> None:
    path, protocol = tmp_path / "scores.txt", tmp_path / "protocol.txt"
    path.write_text("u1 1.0\nu2 0.0\n")
    protocol.write_text("s u1 - - bonafide\ns u2 - A07 spoof\n")
    assert run("calibrate", path, "--protocol", protocol).exit_code == 0
    assert isinstance(run("calibrate", path).exception, MetricError)


def test_reversed_scores_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "reversed.txt"
    path.write_text("u1 bonafide 0\nu2 spoof 1\nu3 spoof 2\n")
    error = run("calibrate", path).exception
    assert isinstance(error, MetricError)
    assert "polarity" in str(error.fix)


@pytest.mark.parametrize(
    "option",
    ["--prior-spoof=1", "--prior-spoof=nan", "--cost-miss=0", "--cost-fa=inf", "--cost-fa=nan"],
)
def test_costs_out_of_range_are_refused(option: str, scores: Path) -> None:
    result = run("calibrate", scores, option)
    assert result.exit_code == 2 or isinstance(result.exception, MetricError)


# --- the model -----------------------------------------------------------------------------------


def test_calibrated_copy_changes_nothing_but_the_metadata(
    scores: Path, model: Path, tmp_path: Path
) -> None:
    original, copy = model.read_bytes(), tmp_path / "calibrated.onnx"
    result = run("calibrate", scores, "--model", model, "-o", copy, "--far", "0.01", "--json")
    assert result.exit_code == 0, result.output
    parsed = json.loads(result.stdout)
    assert model.read_bytes() == original
    contract, file = read_contract(copy)  # the hash of the graph still holds
    before, _ = read_contract(model)
    assert contract.calibration == parsed["calibration"]
    assert contract.thresholds == parsed["thresholds"]
    assert contract.graph_sha256 == before.graph_sha256
    assert file.metadata["author"] == "another tool"
    assert parsed["output"] == os.fspath(copy)
    old, new = onnx.load(model), onnx.load(copy)
    onnx.checker.check_model(new)
    for proto in (old, new):
        del proto.metadata_props[:]
    assert old == new
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "calibrated.onnx",
        "dev.txt",
        "model.onnx",
    ]


def test_in_place_keeps_the_mode_and_can_be_repeated(scores: Path, model: Path) -> None:
    model.chmod(0o640)
    assert run("calibrate", scores, "--model", model, "--in-place").exit_code == 0
    first = model.read_bytes()
    assert run("calibrate", scores, "--model", model, "--in-place").exit_code == 0
    assert model.read_bytes() == first
    assert model.stat().st_mode & 0o777 == 0o640
    assert read_contract(model)[0].calibration is not None


def test_link_to_a_model_stays_a_link(scores: Path, model: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.onnx"
    link.symlink_to(model)
    assert run("calibrate", scores, "--model", link, "--in-place").exit_code == 0
    assert link.is_symlink()
    assert read_contract(model)[0].calibration is not None


def test_llr_is_the_same_from_contract_engine_and_every_row_format(
    scores: Path, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    assert run("calibrate", scores, "--model", model, "--in-place").exit_code == 0
    waves = np.array([[-0.6], [0.0], [0.7]], np.float32).repeat(N_SAMPLES, axis=1)
    files = [wave_file(tmp_path / f"{i}.wav", wave[0]) for i, wave in enumerate(waves)]
    held = read_contract(model)[0].calibration
    assert held is not None
    with open_engine(model) as engine:
        llr, probability = engine.llr(waves), engine.p_spoof(waves)
        np.testing.assert_array_equal(Calibration.from_dict(held).llr(engine.score(waves)), llr)
    rows: dict[str, list[dict[str, Any]]] = {}
    for suffix in ("csv", "jsonl"):
        output = tmp_path / f"rows.{suffix}"
        result = run("score", model, *files, "-o", output)
        assert result.exit_code == 0, result.output
        with output.open(newline="") as file:
            rows[suffix] = (
                list(csv.DictReader(file))
                if suffix == "csv"
                else [json.loads(line) for line in file]
            )
    for of_format in rows.values():
        assert list(of_format[0]) == [
            "path",
            "score",
            "error",
            "seconds",
            "llr",
            "p_spoof",
            "window",
        ]
        np.testing.assert_allclose([float(row["llr"]) for row in of_format], llr, rtol=1e-6)
        np.testing.assert_allclose(
            [float(row["p_spoof"]) for row in of_format], probability, rtol=1e-6
        )
        for row in of_format:
            expected = held["scale"] * float(row["score"]) + held["offset"]
            assert float(row["llr"]) == pytest.approx(expected, rel=1e-12)
            assert float(row["p_spoof"]) == pytest.approx(1 / (1 + math.exp(expected)), rel=1e-12)


def test_parquet_holds_the_llr_too(scores: Path, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    assert run("calibrate", scores, "--model", model, "--in-place").exit_code == 0
    output = tmp_path / "rows.parquet"
    result = run("score", model, wave_file(tmp_path / "a.wav", 0.1), "-o", output)
    assert result.exit_code == 0, result.output
    (row,) = parquet.read_table(output).to_pylist()
    assert row["p_spoof"] == pytest.approx(1 / (1 + math.exp(row["llr"])))


def test_row_with_an_error_has_neither_llr_nor_probability(
    scores: Path, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    assert run("calibrate", scores, "--model", model, "--in-place").exit_code == 0
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio")
    result = run("score", model, bad, "--format", "jsonl")
    assert result.exit_code == 1
    row = json.loads(result.stdout)
    assert row["error"]
    assert row["score"] is row["llr"] is row["p_spoof"] is None


def test_rows_of_a_model_without_calibration_say_no_probability(
    model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    result = run("score", model, wave_file(tmp_path / "a.wav", 0.1))
    assert result.stdout.splitlines()[0] == "path,score,error,seconds,window"


def test_calibration_that_does_not_hold_is_not_stored(
    scores: Path, model: Path, tmp_path: Path
) -> None:
    held, output = tmp_path / "held.txt", tmp_path / "calibrated.onnx"
    # Held scores that are LLRs as they are: every change makes them worse.
    held.write_text(
        "".join(
            f"h{i} - {key} {x!r}\n"
            for i, (key, x) in enumerate(
                (key, float(x))
                for key, mean in (("bonafide", 2.0), ("spoof", -2.0))
                for x in np.random.default_rng(5).normal(mean, 2.0, 200)
            )
        )
    )
    result = run("calibrate", scores, "--held", held, "--model", model, "-o", output, "--json")
    assert isinstance(result.exception, CheckFailed)
    assert not output.exists()
    parsed = json.loads(result.stdout)
    assert parsed["holds"] is False
    assert parsed["output"] is None
    assert "does not hold on them" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "x.onnx"], "no model to store"),
        (["--in-place"], "no model to store"),
        (["--model", "MODEL"], "needs one of -o and --in-place"),
        (["--model", "MODEL", "-o", "x.onnx", "--in-place"], "needs one of -o and --in-place"),
        (["--model", "MODEL", "-o", "MODEL"], "is the model itself"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], message: str, scores: Path, model: Path
) -> None:
    before = model.read_bytes()
    given = [os.fspath(model) if option == "MODEL" else option for option in options]
    error = run("calibrate", scores, *given).exception
    assert isinstance(error, UsageError)
    assert message in str(error)
    assert model.read_bytes() == before


def test_scores_of_another_checkpoint_are_refused(
    scores: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    scores = scores.rename(folder / "scores.txt")
    report = folder / "report.json"
    report.write_text(json.dumps({"model": {"checkpoint_sha256": "cd" * 32}}))
    error = run("calibrate", scores, "--model", model, "--in-place").exception
    assert isinstance(error, UsageError)
    assert "cdcdcdcdcdcd" in str(error)
    assert "abababababab" in str(error)
    for content in ({"model": {"checkpoint_sha256": "ab" * 32}}, {"other": "tool"}):
        report.write_text(json.dumps(content))
        assert run("calibrate", scores, "--model", model, "--in-place").exit_code == 0


def test_model_without_a_contract_is_refused(scores: Path, model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    del proto.metadata_props[:]
    model.write_bytes(proto.SerializeToString())
    error = run("calibrate", scores, "--model", model, "-o", tmp_path / "x.onnx").exception
    assert isinstance(error, ModelFileError)


def test_place_that_cannot_be_written_leaves_nothing(
    scores: Path, model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "none" / "calibrated.onnx"
    error = run("calibrate", scores, "--model", model, "-o", output).exception
    assert isinstance(error, OutputError)
    assert not output.parent.exists()


def test_contract_of_another_graph_is_not_written(model: Path, tmp_path: Path) -> None:
    contract, file = read_contract(model)
    other = ModelContract.from_metadata({**contract.to_metadata(), "graph_sha256": "0" * 64}, model)
    with pytest.raises(ModelFileError, match="graph 000000000000"):
        write_contract(other, file, tmp_path / "x.onnx")


def test_metadata_is_replaced_whole_and_the_rest_kept(model: Path) -> None:
    file = parse_onnx(model.read_bytes(), model)
    long = {"": "", "a": "x" * 70_000, "ünï": "\n"}
    changed = parse_onnx(with_metadata(file, long), model)
    assert changed.metadata == long
    assert changed.graph_sha256 == file.graph_sha256
    again = with_metadata(changed, file.metadata)
    assert parse_onnx(again, model).metadata == file.metadata
    assert len(again) == len(file.content)


def test_help_shows_an_example() -> None:
    assert "aasist-deploy calibrate dev.txt" in run("calibrate", "--help").stdout
