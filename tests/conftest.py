"""Fixtures that several test folders use."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published weights, real audio and reference outputs beside the checkout."""
    path = REPOSITORY.parent / "shared"
    if not (path / "golden").is_dir():
        pytest.skip("needs the published weights and ASVspoof audio in ../shared")
    return path
