from __future__ import annotations

import doctest
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def test_examples_in_the_metrics_document_give_what_it_says() -> None:
    result = doctest.testfile(str(DOCUMENT), module_relative=False)
    assert result.attempted >= 8
    assert result.failed == 0
