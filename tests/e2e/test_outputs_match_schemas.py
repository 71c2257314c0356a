"""What the verbs write for programs is what docs/schemas says."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from typer.testing import CliRunner

from aasist_deploy.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMAS = REPOSITORY / "docs" / "schemas"
DEMO_CLIPS = REPOSITORY / "examples" / "demo_clips"
CLIPS = [DEMO_CLIPS / "human-numbers.flac", DEMO_CLIPS / "flite-slt-1.flac"]


def check(value: object, name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(value)


def run(*arguments: object, exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == exit_code, (done.output, done.exception)
    return done.stdout


@pytest.fixture(scope="module")
def results(small_onnx: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    run("eval", small_onnx(), "--dataset", "manifest", "--root", DEMO_CLIPS, "--out", folder)
    return folder


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda p: p.name)
def test_schema_is_valid_and_listed(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
    assert f"schemas/{path.name}" in (REPOSITORY / "docs" / "outputs.md").read_text()


def test_report_json(results: Path) -> None:
    report = json.loads((results / "report.json").read_text())
    check(report, "report")
    check(report["model"], "contract")


def test_the_documented_report_is_an_instance() -> None:
    text = (REPOSITORY / "docs" / "report-json.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    check(json.loads(example), "report")


def test_scores_txt_are_four_columns_that_metrics_reads_back(results: Path) -> None:
    lines = [line.split(" ") for line in (results / "scores.txt").read_text().splitlines()]
    assert {len(line) for line in lines} == {4}
    assert {key for _, _, key, _ in lines} == {"bonafide", "spoof"}
    printed = run("metrics", results / "scores.txt", "--bootstrap", 1000, "--json")
    output: dict[str, Any] = json.loads(printed)
    check(output, "metrics")
    report = json.loads((results / "report.json").read_text())
    for name in ("eer_percent", "eer_threshold", "attacks", "n_bonafide", "n_spoof"):
        assert output[name] == report[name]


def test_jsonl_rows(small_onnx: Callable[..., Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.flac"
    broken.write_text("no audio")
    output = run("score", small_onnx(), *CLIPS, broken, "--format", "jsonl", exit_code=1)
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["error"] is None for row in rows] == [True, True, False]
    assert [row["path"] for row in rows] == [str(p) for p in (*CLIPS, broken)]
    assert rows[0]["seconds"] == pytest.approx(4.02, abs=0.01)  # of the file, not of the window
    for row in rows:
        check(row, "score-row")


def test_csv_rows_hold_the_same_columns(small_onnx: Callable[..., Path], tmp_path: Path) -> None:
    rows_file = tmp_path / "rows.csv"
    run("score", small_onnx(), *CLIPS, "-o", rows_file)
    with rows_file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "score", "error", "seconds"]
    assert all(float(row["score"]) and not row["error"] for row in rows)


def test_documented_rows_are_instances() -> None:
    text = (REPOSITORY / "docs" / "outputs.md").read_text()
    (examples,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    for line in examples.splitlines():
        check(json.loads(line), "score-row")


@pytest.mark.parametrize("n_samples", [16_000, None])
def test_inspect_json(small_onnx: Callable[..., Path], n_samples: int | None) -> None:
    shown = json.loads(run("inspect", small_onnx(n_samples=n_samples), "--json"))
    check(shown, "contract")


def test_metadata_is_text_as_it_is_and_json_otherwise(small_onnx: Callable[..., Path]) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    stored = {p.key: p.value for p in onnx.load(small_onnx()).metadata_props}
    schema = json.loads((SCHEMAS / "contract.schema.json").read_text())
    assert stored.keys() == schema["properties"].keys()
    documented = (REPOSITORY / "docs" / "contract.md").read_text()
    as_text = {name for name in stored if f"| `{name}` | text |" in documented}
    read = {k: v if k in as_text else json.loads(v) for k, v in stored.items()}
    check(read, "contract")
