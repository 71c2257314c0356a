from __future__ import annotations

import json
from typing import Any


def test_findings_are_printed(cli: Any) -> None:
    result = cli("doctor")
    assert result.code == 0
    for word in ("onnx", "torch", "export", "works", "aasist_deploy"):
        assert word in result.out


def test_json_holds_findings_and_versions(cli: Any) -> None:
    report = json.loads(cli("doctor", "--json").out)
    assert {"name", "works", "detail"} == set(report["findings"][0])
    assert {"onnx", "torch", "export"} <= {finding["name"] for finding in report["findings"]}
    assert {"aasist_deploy", "python", "numpy"} <= set(report["environment"])
