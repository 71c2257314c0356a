from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from aasist_deploy.cli.project import FILE_NAME, Project, load_project
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def configured(folder: Path, text: str) -> Path:
    (folder / FILE_NAME).write_text(text)
    return folder


def test_without_a_file_nothing_is_set(tmp_path: Path) -> None:
    assert load_project(tmp_path) == Project()


def test_all_keys_are_read(tmp_path: Path) -> None:
    text = """
        model = "aasist"
        backend = "onnx"
        dataset = "asvspoof2019-la"
        root = "data/LA"
        split = "dev"
        out = "results"
        threads = 2
        batch = 4
        compat = "official"
    """
    project = load_project(configured(tmp_path, text))
    assert project == Project(
        model="aasist",
        backend="onnx",
        dataset="asvspoof2019-la",
        root=str(tmp_path / "data" / "LA"),
        split="dev",
        out=str(tmp_path / "results"),
        threads=2,
        batch=4,
        compat="official",
    )
    assert None not in {getattr(project, f.name) for f in fields(Project)}


def test_file_of_a_folder_above_is_found_and_its_paths_start_there(tmp_path: Path) -> None:
    configured(tmp_path, 'root = "LA"\nout = "/elsewhere"\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    project = load_project(below)
    assert project.root == str(tmp_path / "LA")
    assert project.out == "/elsewhere"


def test_nearest_file_wins(tmp_path: Path) -> None:
    configured(tmp_path, 'split = "dev"')
    below = tmp_path / "a"
    below.mkdir()
    configured(below, 'split = "train"')
    assert load_project(below).split == "train"


def test_model_is_a_path_when_that_file_exists(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").touch()
    assert load_project(configured(tmp_path, 'model = "mine.onnx"')).model == str(
        tmp_path / "mine.onnx"
    )
    assert load_project(configured(tmp_path, 'model = "aasist-l"')).model == "aasist-l"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('modle = "aasist"', "unknown key 'modle'; known are: model, backend"),
        ("[eval]\nsplit = 'dev'", "unknown key 'eval'"),
        ("threads = '2'", "must be of type int"),
        ("threads = true", "must be of type int"),
        ("threads = 0", "threads is 0; it must be 1 or more"),
        ("batch = -3", "batch is -3; it must be 1 or more"),
        ("split = 7", "must be of type str"),
        ("split = ", "cannot be read"),
    ],
)
def test_mistake_in_the_file_is_refused_with_its_path(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        load_project(configured(tmp_path, text))
    assert str(tmp_path / FILE_NAME) in str(raised.value)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        load_project(tmp_path)
