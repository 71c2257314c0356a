"""README, docs and the files beside them agree with the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

import aasist_deploy
from aasist_deploy.cli import app
from aasist_deploy.cli.project import load_project

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CLI = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("examples/**/*.md"),
     *REPOSITORY.glob("benchmarks/**/*.md")]
)  # fmt: skip
VERBS = {
    name: {option for parameter in command.params for option in parameter.opts}
    for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
}


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_document_is_linked_from_the_readme() -> None:
    for document in REPOSITORY.glob("docs/*.md"):
        assert f"(docs/{document.name})" in README


def test_the_first_two_commands_are_demo_and_test() -> None:
    code = re.findall(r"^    (\S.*)$", README, re.MULTILINE)
    assert code[:2] == ["make demo", "make test"]
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def test_commands_of_the_readme_exist() -> None:
    used = set(re.findall(r"^    aasist-deploy (\w+)", README, re.MULTILINE))
    assert used >= {"export", "score", "eval", "metrics", "parity"}
    assert used <= VERBS.keys()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_is_documented(verb: str) -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL))
    assert verb in sections
    for option in VERBS[verb]:
        if option.startswith("--"):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", sections[verb]), option


def test_documented_options_exist() -> None:
    known = {option for options in VERBS.values() for option in options}
    known |= {"--help", "--debug", "--version", "--verbose"}
    assert set(re.findall(r"`(--[a-z-]+)`", CLI)) <= known


def test_changelog_has_this_version() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{aasist_deploy.__version__}]" in changelog


def test_the_example_project_file_is_read_and_shows_every_key() -> None:
    folder = REPOSITORY / "examples"
    project = load_project(folder)
    given = tomllib.loads((folder / "aasist-deploy.toml").read_text())
    assert given.keys() == set(type(project).__slots__)
    assert project.root == str(folder / "LA")


def test_five_lines_of_python_in_the_readme_are_those_of_the_example() -> None:
    example = (REPOSITORY / "examples" / "embed.py").read_text()
    for line in (
        "from aasist_deploy import open_engine",
        "from aasist_deploy.audio import fit_length, read_audio",
        'backend="onnx") as engine:',
    ):
        assert line in README
        assert line in example
