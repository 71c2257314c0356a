"""What the verbs write for programs is what docs/schemas says."""

from __future__ import annotations

import csv
import json
import re
import shutil
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


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up scores of eight trials of each class, some on the wrong side of the others."""
    trials = [(f"b{i} - bonafide", i / 4) for i in range(8)]
    trials += [(f"s{i} A1 spoof", i / 4 - 1.5) for i in range(8)]
    path = tmp_path_factory.mktemp("labelled") / "dev.txt"
    path.write_text("".join(f"{names} {score}\n" for names, score in trials))
    return path


@pytest.fixture(scope="module")
def calibrated(small_onnx: Callable[..., Path], labelled: Path) -> tuple[Path, dict[str, Any]]:
    """A calibrated model, and what `calibrate --json` printed of it."""
    place = labelled.with_name("calibrated.onnx")
    printed = run(
        "calibrate", labelled, "--held", labelled, "--far", 0.2, "--miss", 0.2,
        "--model", small_onnx(), "-o", place, "--json",
    )  # fmt: skip
    return place, json.loads(printed)


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda p: p.name)
def test_schema_is_valid_and_listed(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
    assert f"schemas/{path.name}" in (REPOSITORY / "docs" / "outputs.md").read_text()


def test_report_json(results: Path) -> None:
    report = json.loads((results / "report.json").read_text())
    check(report, "report")
    check(report["model"], "contract")


@pytest.mark.parametrize("part", ["", "dataset", "model", "backend", "polarity", "confidence"])
def test_schema_of_the_report_knows_every_key_that_eval_writes(results: Path, part: str) -> None:
    value = json.loads((results / "report.json").read_text())
    schema = json.loads((SCHEMAS / "report.schema.json").read_text())
    contract = json.loads((SCHEMAS / "contract.schema.json").read_text())
    known = {
        "": schema["properties"],
        "model": contract["properties"],
        "backend": schema["properties"]["backend"]["oneOf"][1]["properties"],
        "confidence": {
            **schema["$defs"]["confidence"]["oneOf"][1]["properties"],
            **{name: {} for name in value if name in schema["properties"]},
        },
    }
    properties = known[part] if part in known else schema["properties"][part]["properties"]
    assert (value[part] if part else value).keys() <= properties.keys()


def test_every_key_of_the_report_is_documented() -> None:
    schema = json.loads((SCHEMAS / "report.schema.json").read_text())
    text = (REPOSITORY / "docs" / "report-json.md").read_text()
    named = set(re.findall(r"`(\w+)`", text)) | set(re.findall(r"^## (\w+)$", text, re.MULTILINE))
    assert schema["properties"].keys() <= named
    assert schema["properties"]["dataset"]["properties"].keys() <= named


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
    assert list(rows[0]) == ["path", "score", "error", "seconds", "window"]
    assert all(float(row["score"]) and not row["error"] for row in rows)


def test_rows_of_a_calibrated_model(
    calibrated: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.flac"
    broken.write_text("no audio")
    output = run("score", calibrated[0], CLIPS[0], broken, "--format", "jsonl", exit_code=1)
    rows = [json.loads(line) for line in output.splitlines()]
    assert [list(row) for row in rows] == [
        ["path", "score", "error", "seconds", "llr", "p_spoof", "window"]
    ] * 2
    assert [row["llr"] is None for row in rows] == [False, True]
    for row in rows:
        check(row, "score-row")
    del rows[0]["p_spoof"]
    with pytest.raises(jsonschema.ValidationError):
        check(rows[0], "score-row")


def test_documented_rows_are_instances() -> None:
    text = (REPOSITORY / "docs" / "outputs.md").read_text()
    of_score, of_windows = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    for examples, name in ((of_score, "score-row"), (of_windows, "window-row")):
        for line in examples.splitlines():
            check(json.loads(line), name)


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


def test_calibrate_json_and_the_contract_of_the_calibrated_model(
    calibrated: tuple[Path, dict[str, Any]],
) -> None:
    place, printed = calibrated
    check(printed, "calibrate")
    assert printed["held"] is not None
    shown = json.loads(run("inspect", place, "--json"))
    check(shown, "contract")
    assert shown["calibration"] == printed["calibration"]
    assert shown["thresholds"] == printed["thresholds"]
    documented = (REPOSITORY / "docs" / "contract.md").read_text()
    assert all(f"`{name}`" in documented for name in shown["calibration"])
    shown["calibration"]["scale"] = 0.0
    with pytest.raises(jsonschema.ValidationError):
        check(shown, "contract")


def test_scan_rows_segments_and_figures(
    calibrated: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.flac"
    broken.write_text("no audio")
    rows, segments = tmp_path / "rows.jsonl", tmp_path / "segments.jsonl"
    printed = run(
        "scan", calibrated[0], CLIPS[0], broken, "--hop-s", 0.5, "-o", rows, "--threshold", "eer",
        "--segments", segments, "--json", exit_code=1,
    )  # fmt: skip
    result = json.loads(printed)
    check(result, "scan")
    schema = json.loads((SCHEMAS / "scan.schema.json").read_text())
    assert result.keys() == schema["properties"].keys()
    of_file = schema["properties"]["files"]["items"]["properties"]
    assert all(file.keys() == of_file.keys() for file in result["files"])
    documented = (REPOSITORY / "docs" / "outputs.md").read_text()
    assert all(f"`{key}`" in documented for key in (*result, *of_file))
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [line["error"] is None for line in lines] == [True] * (len(lines) - 1) + [False]
    for line in lines:
        check(line, "window-row")
    for line in segments.read_text().splitlines():
        check(json.loads(line), "segment-row")
    del lines[0]["llr"]
    with pytest.raises(jsonschema.ValidationError):
        check(lines[0], "window-row")


def test_stream_rows(small_onnx: Callable[..., Path]) -> None:
    pytest.importorskip("webrtcvad", reason="needs the extra vad")
    printed = run(
        "stream", small_onnx(), CLIPS[0], "--hop-s", 0.5, "--vad", "--vad-min-speech", 0.7
    )
    lines = [json.loads(line) for line in printed.splitlines()]
    assert {line["score"] is None for line in lines} == {True, False}
    for line in lines:
        check(line, "window-row")


def test_fuse_json_with_and_without_the_truth(labelled: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.txt"
    bare.write_text("u1 0.5\nu2 -0.5\n")
    for scores, known in ((labelled, True), (bare, False)):
        out = tmp_path / "fused.txt"
        printed = json.loads(run("fuse", scores, "--fit", labelled, "-o", out, "--json"))
        check(printed, "fuse")
        assert (printed["figures"]["trials"] is not None) is known


def test_convert_json(labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    printed = json.loads(run("convert", labelled, "-o", out, "--to", "jsonl", "--json"))
    check(printed, "convert")
    assert printed["n_scores"] == 16


def test_track_2_json(tmp_path: Path) -> None:
    key, scores, without = (tmp_path / name for name in ("key.tsv", "all.tsv", "sasv.tsv"))
    key.write_text(
        "spk\tfilename\tcm-label\tasv-label\ns1\tu1\tbonafide\ttarget\n"
        "s2\tu1\tbonafide\tnontarget\ns1\tu2\tspoof\tspoof\n"
    )
    header = "spk\tfilename\tcm-score\tasv-score\tsasv-score\n"
    scores.write_text(f"{header}s1\tu1\t2\t1\t3\ns2\tu1\t2\t-1\t1\ns1\tu2\t-2\t0.5\t-1.5\n")
    without.write_text(f"{header}s1\tu1\t-\t-\t3\ns2\tu1\t-\t-\t1\ns1\tu2\t-\t-\t-1.5\n")
    for path, has_parts in ((scores, True), (without, False)):
        printed = json.loads(run("metrics", path, "--sasv-key", key, "--json"))
        check(printed, "metrics-sasv")
        assert (printed["t_eer_note"] is None) is has_parts


def test_metrics_json_of_a_comparison(labelled: Path) -> None:
    printed = json.loads(
        run("metrics", labelled, "--compare", labelled, "--bootstrap", 20, "--fixed-asv", "--json")
    )
    check(printed, "metrics")
    assert printed["comparison"]["min_tdcf_2021"]["difference"] == 0


def test_robustness_json(small_onnx: Callable[..., Path], tmp_path: Path) -> None:
    printed = run(
        "robustness", small_onnx(), "--dataset", "manifest", "--root", DEMO_CLIPS, "--limit", 4,
        "--conditions", "control,gain,codec", "--max-eer-increase", 100, "--out", tmp_path,
        "--json",
    )  # fmt: skip
    written = json.loads((tmp_path / "robustness.json").read_text())
    assert json.loads(printed) == written
    check(written, "robustness")
    schema = json.loads((SCHEMAS / "robustness.schema.json").read_text())
    assert written.keys() == schema["properties"].keys()
    of_one = schema["properties"]["conditions"]["items"]["properties"]
    assert all(one.keys() == of_one.keys() for one in written["conditions"])
    check(written["model"], "contract")


def test_report_json_of_several_folders(results: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(results, other)
    page = tmp_path / "both.html"
    printed = run("report", results, other, "-o", page, "--bootstrap", 20, "--json")
    check(json.loads(printed), "comparison")
    check(json.loads(run("report", other, "--json")), "report")
