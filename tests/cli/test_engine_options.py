"""What belongs to which backend, and what the project says in place of the command line."""

from __future__ import annotations

from typing import Any

import pytest

from aasist_deploy.cli.engine_options import OWNERS, EngineChoice
from aasist_deploy.cli.project import Project
from aasist_deploy.engines import BACKENDS
from aasist_deploy.errors import UsageError

GIVEN: dict[str, Any] = {
    "precision": "bf16",
    "hint": "throughput",
    "provider": "cuda",
    "device": "cuda:1",
    "code": "net.py:Net",
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("option", GIVEN)
def test_an_option_is_taken_by_its_backends_and_refused_by_others(
    option: str, backend: str
) -> None:
    choice = EngineChoice(backend=backend, **{option: GIVEN[option]})
    if backend in OWNERS[option].backends:
        plain = EngineChoice(backend=backend).options_of(backend)
        assert choice.options_of(backend) != plain
        return
    with pytest.raises(UsageError) as raised:
        choice.options_of(backend)
    said = f"--{option} {GIVEN[option]} belongs to {OWNERS[option].whose}; this is {backend}."
    assert str(raised.value) == said
    assert raised.value.fix == OWNERS[option].fix


@pytest.mark.parametrize(
    ("backend", "left"),
    [
        ("openvino", {"precision", "hint"}),
        ("onnx", {"provider"}),
        ("torch", {"device", "code"}),
        ("trt", {"device"}),
    ],
)
def test_in_a_run_of_several_backends_each_gets_its_own(backend: str, left: set[str]) -> None:
    choice = EngineChoice(**GIVEN)
    assert choice.given().keys() == GIVEN.keys()
    assert choice.only_of(backend).given().keys() == left
    choice.only_of(backend).options_of(backend)


def test_the_command_line_goes_before_the_project() -> None:
    project = Project(backend="torch", threads=3)
    assert EngineChoice().or_of(project) == EngineChoice(backend="torch", threads=3)
    said = EngineChoice(backend="onnx", threads=1, provider="cuda")
    assert said.or_of(project) == said
