"""The repository keeps the shape that its documents promise."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import aasist_deploy
from aasist_deploy import errors

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "aasist_deploy"
LINKS = {"export", "engines"}
MAX_LINES = 400
SKIPPED_FOLDERS = {
    ".git", ".venv", ".gpu", ".whl", "build", "dist", "demo", "results",
    ".mypy_cache", ".pytest_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis",
    "__pycache__",
}  # fmt: skip


def text_files() -> list[Path]:
    found = []
    for path in REPOSITORY.rglob("*"):
        parts = path.relative_to(REPOSITORY).parts
        if SKIPPED_FOLDERS & set(parts) or path.is_symlink() or not path.is_file():
            continue
        if path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".sh", ".json", ".j2", ".csv"}:
            found.append(path)
    return [*found, REPOSITORY / "Makefile", REPOSITORY / ".ci" / "run"]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(LINKS))
def test_root_folders_are_relative_links_into_the_package(name: str) -> None:
    link = REPOSITORY / name
    if not (REPOSITORY / ".git").exists() and not link.exists():
        pytest.skip("an unpacked source archive has no links")
    assert link.is_symlink()
    assert link.readlink() == Path("aasist_deploy", name)


def test_nothing_imports_through_the_links() -> None:
    for path in text_files():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else names
            tops = {name.partition(".")[0] for name in names}
            assert not tops & (LINKS | {"trainer"}), path


def test_no_file_of_the_package_is_long() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES, path


def test_no_file_names_a_package_host() -> None:
    hosts = ["py" + "pi.org", "python" + "hosted", "download.py" + "torch", "registry.npm" + "js"]
    flags = ["--index" + "-url", "--extra-index" + "-url", "--find" + "-links"]
    for path in text_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not [word for word in hosts + flags if word in text], path


def test_every_error_class_is_in_the_drawn_tree_with_its_exit_code() -> None:
    tree = (errors.__doc__ or "").splitlines()
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if not issubclass(kind, errors.AasistDeployError):
            continue
        rows = [i for i, line in enumerate(tree) if re.search(rf"(^|\s){name}(\s|$)", line)]
        assert rows, name
        above = " ".join(tree[: rows[0] + 1])
        assert f"exit code {kind.exit_code}" in above
        for base in kind.__bases__:
            if issubclass(base, errors.AasistDeployError):
                assert base.__name__ in above


def test_all_is_what_the_package_exports() -> None:
    documented = (REPOSITORY / "docs" / "embedding.md").read_text(encoding="utf-8")
    for name in aasist_deploy.__all__:
        assert hasattr(aasist_deploy, name)
        assert f"`{name}`" in documented
    public = {
        name
        for name, value in vars(aasist_deploy).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public | {"__version__"} == set(aasist_deploy.__all__)


def test_constraints_pin_every_declared_dependency_and_name_no_place() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.]+", pin) for pin in pins)
    pinned = {normal(pin.partition("==")[0]) for pin in pins}
    content = pyproject()
    groups = [x for g in content["dependency-groups"].values() for x in g if isinstance(x, str)]
    extras = [x for extra in content["project"]["optional-dependencies"].values() for x in extra]
    declared = [*content["project"]["dependencies"], *extras, *groups]
    declared += content["build-system"]["requires"]
    for requirement in declared:
        assert normal(re.split(r"[<>=~! \[;]", requirement)[0]) in pinned, requirement


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_extra_is_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for extra in pyproject()["project"]["optional-dependencies"]:
        assert re.search(rf"[\[,`]{extra}[\],`]", readme), extra


def test_every_backend_has_an_extra_of_its_name() -> None:
    from aasist_deploy.engines import BACKENDS

    extras = pyproject()["project"]["optional-dependencies"]
    for name, backend in BACKENDS.items():
        assert backend.extra == name
        assert name in extras
        assert backend.module == f"aasist_deploy.engines.{name}"


def test_ci_runs_the_readme_commands() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert "make demo" in script
    assert "make test" in script
    assert "set -euo pipefail" in script
