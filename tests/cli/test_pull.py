"""`aasist-deploy pull`: the path on stdout and nothing else, errors as one line and a fix."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from aasist_deploy import published
from aasist_deploy.cli import app, main

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"weights " * 100


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A mirror folder of the made-up model "tiny"; the repository is not reachable."""
    model = published.PublishedModel(
        name="tiny",
        file="tiny.pth",
        repository="owner/project",
        commit="0" * 40,
        path="weights/tiny.pth",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        n_bytes=len(CONTENT),
        licence="none",
        model_config={},
    )
    monkeypatch.setitem(published.PUBLISHED, "tiny", model)
    monkeypatch.setattr(published, "DOWNLOAD_ROOT", "http://127.0.0.1:1")
    monkeypatch.setattr("aasist_deploy.download.BACKOFF_S", 0.0)
    monkeypatch.setenv(published.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(published.MIRROR_VARIABLE, raising=False)
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "tiny.pth").write_bytes(CONTENT)
    return folder


def test_stdout_is_the_path_alone(mirror: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pull", "tiny", "--mirror", str(mirror)])
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path}/cache/tiny.pth\n"
    assert result.stderr == ""


def test_json_says_what_was_pulled_from_where(mirror: Path, tmp_path: Path) -> None:
    cache = tmp_path / "elsewhere"
    arguments = ["pull", "tiny", "--mirror", str(mirror), "--cache", str(cache), "--json"]
    expected = {
        "name": "tiny",
        "path": str(cache / "tiny.pth"),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "source": str(mirror / "tiny.pth"),
        "bytes": len(CONTENT),
    }
    assert json.loads(CliRunner().invoke(app, arguments).stdout) == expected
    again = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert again == {**expected, "source": "cache"}
    forced = json.loads(CliRunner().invoke(app, [*arguments, "--force"]).stdout)
    assert forced == expected


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize(
    ("name", "exit_code", "words"),
    [
        (
            "nope",
            2,
            (
                "error: 'nope' is not the name of a model; known: aasist, aasist-l, tiny, "
                "aasist-l-mini."
            ),
        ),
        (
            "tiny",
            3,
            (
                "error: The weights of tiny are not in the cache, and 127.0.0.1 is not reachable "
                "from here (connection refused)."
            ),
        ),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    exit_code: int,
    words: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["aasist-deploy", "pull", name])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capfd.readouterr()
    assert caught.value.code == exit_code
    assert out == ""
    assert err.splitlines()[0] == words
    assert "Traceback" not in err


def test_help_names_the_models_and_shows_an_example() -> None:
    result = CliRunner().invoke(app, ["pull", "--help"], env={"COLUMNS": "200"})
    assert "aasist, aasist-l" in result.stdout
    assert "$(aasist-deploy pull aasist)" in result.stdout
