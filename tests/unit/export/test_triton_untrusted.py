"""Model repositories of models that mean harm, and in folders that others prepared."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tritonclient", reason="needs Triton's schema, of the package tritonclient")

from aasist_deploy.contract import ModelContract, read_contract, write_contract
from aasist_deploy.errors import ModelFileError, OutputError, UsageError
from aasist_deploy.export import triton_bundle
from aasist_deploy.export.triton_bundle import write_triton_repository
from aasist_deploy.export.triton_config import TritonOptions
from aasist_deploy.onnx_file import read_onnx_file, with_metadata
from aasist_deploy.plan_file import json_path
from tests.tiny_models import write_tiny_model
from tests.unit.export.fake_triton import read_config
from tests.unit.export.test_triton_bundle import plan_of
from tests.unit.export.three_outputs import write_three_outputs


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


def changed(model: Path, **changes: Any) -> Path:
    """The model with another contract, as whoever has the file can write it."""
    contract, file = read_contract(model)
    write_contract(replace(contract, **changes), file, model)
    return model


EVIL_LINE = 'model_operations { op_library_filename: "/tmp/evil.so" }'  # a library that is loaded


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", '"\n', "\\\n", "\v", "\f", "\x85", "\u2028"])
def test_a_model_whose_name_has_lines_is_refused(end: str, tiny: Path, tmp_path: Path) -> None:
    file = read_onnx_file(tiny)
    name = f"AASIST{end}{EVIL_LINE}{end}#"
    tiny.write_bytes(with_metadata(file, {**file.metadata, "architecture": name}))
    with pytest.raises(ModelFileError, match=r"architecture is .* must be one line"):
        write_triton_repository(tiny, tmp_path / "repo", name="tiny")
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize("end", ["", '"', "\\", '\\"', "#", "\\n", "'"])
def test_no_text_of_a_model_becomes_a_line_of_its_configuration(
    end: str, tiny: Path, tmp_path: Path
) -> None:
    (path,) = write_triton_repository(tiny, tmp_path / "plain", name="tiny")
    model = changed(tiny, architecture=f"AASIST{end} {EVIL_LINE} {end}")
    (other,) = write_triton_repository(model, tmp_path / "repo", name="tiny")
    assert read_config(other) == read_config(path)
    lines = other.read_text().splitlines()
    assert len(lines) == len(path.read_text().splitlines())
    assert not any(one.startswith("model_operations") for one in lines)


@pytest.mark.parametrize(
    "labels",
    [("spoof", ""), ("spoof\u202e", "bonafide"), ("spoof\u200f",)],
)
def test_labels_that_are_no_lines_are_refused(
    labels: tuple[Any, ...], tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=r"class_order is \["):
        write_triton_repository(changed(tiny, class_order=labels), tmp_path / "repo", name="tiny")
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "/tmp/x", "..", "", "-x", "x\n", 'x"', "x" * 101])
def test_a_name_is_one_folder_and_one_word(name: str, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no name for a model of Triton"):
        write_triton_repository(tiny, tmp_path / "repo", name=name)
    assert [one.name for one in tmp_path.iterdir()] == ["tiny.onnx"]


def test_links_in_the_repository_are_not_written_through(tiny: Path, tmp_path: Path) -> None:
    secret, repository = tmp_path / "secret", tmp_path / "repo"
    secret.write_text("mine")
    plan = plan_of(tiny, tmp_path / "tiny.plan")
    names = [
        f"tiny/{one}" for one in ("1/model.onnx", "config.pbtxt", "labels.txt", "contract.json")
    ]
    names += ["tiny-trt/1/model.plan", str(json_path(Path("tiny-trt/1/model.plan")))]
    for name in names:
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).symlink_to(secret)
    write_triton_repository(tiny, repository, name="tiny", plan=plan)
    assert secret.read_text() == "mine"
    assert not any((repository / name).is_symlink() for name in names)
    assert (repository / "tiny" / "1" / "model.onnx").read_bytes() == tiny.read_bytes()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("linked", "versions/1"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).symlink_to(elsewhere)
        with pytest.raises(OutputError, match="is a link"):
            write_triton_repository(tiny, repository, name=name.partition("/")[0])
    assert list(elsewhere.iterdir()) == []


def test_what_was_checked_is_what_is_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are put in others' places between the check and the writing."""
    model, plan = tiny.read_bytes(), plan_of(tiny, tmp_path / "tiny.plan")
    plan_bytes, described = plan.read_bytes(), json_path(plan).read_bytes()
    true_check = triton_bundle._check_same

    def late(*given: Any) -> None:
        true_check(*given)
        for path in (tiny, plan, json_path(plan)):
            path.write_bytes(b"another")

    monkeypatch.setattr(triton_bundle, "_check_same", late)
    repository = tmp_path / "repo"
    write_triton_repository(tiny, repository, name="tiny", plan=plan)
    assert (repository / "tiny" / "1" / "model.onnx").read_bytes() == model
    place = repository / "tiny-trt" / "1" / "model.plan"
    assert (place.read_bytes(), json_path(place).read_bytes()) == (plan_bytes, described)


def test_files_have_the_permissions_of_the_umask_and_are_no_programs(
    tiny: Path, tmp_path: Path
) -> None:
    tiny.chmod(0o777)
    before = os.umask(0o027)
    try:
        write_triton_repository(tiny, tmp_path / "repo", name="tiny")
    finally:
        os.umask(before)
    found = {one.name: one.stat().st_mode & 0o777 for one in (tmp_path / "repo").rglob("*")}
    assert found == {
        "tiny": 0o750, "1": 0o750, "model.onnx": 0o640, "config.pbtxt": 0o640,
        "labels.txt": 0o640, "contract.json": 0o640,
    }  # fmt: skip


def test_numbers_that_triton_cannot_hold_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="instances is 2147483648"):
        TritonOptions(instances=2**31)
    with pytest.raises(UsageError, match="max_delay_us is -1"):
        TritonOptions(max_delay_us=-1)
    plan = plan_of(tiny, tmp_path / "large.plan", profiles=((1, 8, 2**40),))
    with pytest.raises(ModelFileError, match="batches of 1099511627776"):
        write_triton_repository(tiny, tmp_path / "repo", name="tiny", plan=plan)
    any_length = write_three_outputs(tmp_path / "any.onnx", n_samples=None)
    changed(any_length, min_samples=10**12)
    with pytest.raises(ModelFileError, match="8 windows of 1000000000000 samples at once"):
        write_triton_repository(any_length, tmp_path / "repo", name="tiny")
    changed(tiny, n_samples=801, min_samples=801)
    with pytest.raises(ModelFileError, match=r"takes \[800\] samples, its contract says \[801\]"):
        write_triton_repository(tiny, tmp_path / "repo", name="tiny")
    assert not (tmp_path / "repo").exists()


def test_half_a_character_in_a_contract_is_written(tiny: Path, tmp_path: Path) -> None:
    model = changed(tiny, config={"note": "\ud800"}, tools={"x": "ü"})
    (path,) = write_triton_repository(model, tmp_path / "repo", name="tiny")
    said = json.loads((path.parent / "contract.json").read_text(encoding="ascii"))
    assert ModelContract.from_dict(said, path).config == {"note": "\ud800"}
