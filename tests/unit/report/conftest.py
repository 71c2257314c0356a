"""Pages of made-up evaluations, and what a browser would make of them."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aasist_deploy.metrics import eer
from aasist_deploy.report import write_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, their attributes and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        if tag in {"td", "th", "text"}:
            self.text.append(" ")

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def _report_of(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64], **changes: Any
) -> dict[str, Any]:
    found = eer(bonafide, spoof)
    report: dict[str, Any] = {
        "schema": "aasist-deploy/report/1",
        "created": "2026-01-02T03:04:05Z",
        "command": "aasist-deploy eval --model model.onnx",
        "eer_percent": found.eer * 100,
        "eer_threshold": found.threshold,
        "min_tdcf_2019": 0.0275,
        "min_tdcf_2019_note": None,
        "n_bonafide": len(bonafide),
        "n_spoof": len(spoof),
        "attacks": {"A07": {"eer_percent": found.eer * 100, "n_spoof": len(spoof)}},
        "polarity": {"reversed": False, "negated_eer_percent": 90.0, "message": None},
        "compat": "corrected",
        "asv": {"threshold": 1.6, "pfa": 0.02, "pmiss": 0.02, "pmiss_spoof": 0.68},
        "dataset": {
            "name": "asvspoof2019-la",
            "split": "eval",
            "root": "/data/LA",
            "protocol": "/data/LA/protocol.txt",
            "asv_scores": None,
            "n_trials": len(bonafide) + len(spoof),
        },
        "model": {"architecture": "AASIST", "precision": "fp32", "n_samples": 64_600},
        "backend": {"name": "onnx", "device": "CPU", "details": {"threads": 2}},
        "timing": {"seconds": 10.0, "trials_per_second": 2.9, "audio_seconds": 117.0},
        "audio": {"n_second_decoder": 3, "n_resampled": 0, "n_tiled": 20, "n_cut": 9},
        "failures": [],
        "environment": {"aasist_deploy": "0.1.0", "python": "3.11.7"},
    }
    return report | changes


def _write(
    tmp_path: Path,
    bonafide: NDArray[np.float64],
    spoof: NDArray[np.float64],
    *,
    utterances: list[str] | None = None,
    trial_attacks: list[str] | None = None,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> Page:
    n_all = len(bonafide) + len(spoof)
    _, page = write_report(
        _report_of(bonafide, spoof, **changes),
        scores=np.concatenate([bonafide, spoof]),
        is_bonafide=np.arange(n_all) < len(bonafide),
        attacks=trial_attacks or ["-"] * len(bonafide) + ["A07"] * len(spoof),
        utterances=utterances or [f"LA_E_{index:07d}" for index in range(n_all)],
        out_dir=tmp_path / "report",
        **(options or {}),
    )
    return Page(page.read_text(encoding="utf-8"))


@pytest.fixture
def overlapping() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    generator = np.random.default_rng(7)
    return generator.normal(2, 1, 100), generator.normal(-1, 1, 200)


@pytest.fixture(scope="session")
def report_of() -> Callable[..., dict[str, Any]]:
    """(bona fide scores, spoof scores, keys to change) -> a report.json without added keys."""
    return _report_of


@pytest.fixture(scope="session")
def page_of() -> Callable[[str], Page]:
    """HTML -> its elements and text; fails when tags do not close."""
    return Page


@pytest.fixture(scope="session")
def write() -> Callable[..., Page]:
    """(folder, bona fide scores, spoof scores, keys to change) -> the page that was written."""
    return _write
