from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.cli import _VERBS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAVY = (
    *("torch", "onnx", "onnxscript", "onnxruntime", "matplotlib", "av", "pyarrow", "jinja2"),
    *("fastapi", "uvicorn", "prometheus_client"),
)
BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ImportError(f"blocked import of {{name}}")

sys.meta_path.insert(0, Blocker())
"""


def python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *[os.fspath(one) for one in arguments]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"},
    )


MAIN = "from aasist_deploy.cli import main; main()"


def test_help_of_every_verb_has_an_example_and_needs_no_runtime() -> None:
    code = BLOCKER + (
        "from aasist_deploy.cli import app\n"
        "from typer.testing import CliRunner\n"
        "for verb in sys.argv[1:]:\n"
        "    result = CliRunner().invoke(app, [verb, '--help'])\n"
        "    print('====', verb, result.exit_code)\n"
        "    print(result.output)\n"
    )
    result = python(code, *_VERBS)
    assert result.returncode == 0, result.stderr
    pages = result.stdout.split("==== ")[1:]
    assert len(pages) == len(_VERBS) > 13
    for verb, page in zip(_VERBS, pages, strict=True):
        assert page.startswith(f"{verb} 0")
        assert f"aasist-deploy {verb}" in page.partition("Example")[2]


def test_help_and_version_of_the_whole_need_no_runtime() -> None:
    result = python(BLOCKER + MAIN, "--help")
    assert result.returncode == 0, result.stderr
    for verb in _VERBS:
        assert verb in result.stdout
    assert python(BLOCKER + MAIN, "--version").stdout == "0.1.0\n"


def test_metrics_and_inspect_need_no_runtime(tmp_path: Path) -> None:
    scores = tmp_path / "scores.txt"
    scores.write_text("u1 - bonafide 2\nu2 A01 spoof 1\nu3 A01 spoof 0\n")
    result = python(BLOCKER + MAIN, "metrics", scores, "--json")
    assert result.returncode == 0, result.stderr
    assert '"eer_percent": 0.0' in result.stdout
    result = python(BLOCKER + MAIN, "inspect", scores)
    assert result.returncode == 2
    assert "not an ONNX model" in result.stderr


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, aasist_deploy\n"
        f"print([name for name in {HEAVY!r} + ('requests', 'typer', 'rich') "
        "if name in sys.modules])"
    )
    assert python(code).stdout == "[]\n"


def test_command_line_loads_nothing_heavy_before_it_is_needed() -> None:
    code = f"import sys, aasist_deploy.cli\nprint([n for n in {HEAVY!r} if n in sys.modules])"
    assert python(code).stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explode"], "No such command 'explode'"),
        (["score"], "Missing argument"),
        (["export", "x.pth"], "Missing option"),
        (["eval", "--turbo"], "No such option"),
        (["score", "m.onnx", "a.wav", "--batch", "0"], "--batch"),
        (["metrics", "none.txt"], "does not exist"),
    ],
)
def test_wrong_usage_exits_with_two(
    arguments: list[str], message: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "100")
    result = cli(*arguments)  # which refuses a traceback
    assert result.code == 2
    assert message in result.err


def test_debug_shows_the_traceback() -> None:
    result = python(MAIN, "--debug", "inspect", "none.onnx")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ModelFileError" in result.stderr
