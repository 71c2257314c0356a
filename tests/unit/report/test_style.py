"""Colours that can be read, in every theme of the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aasist_deploy import report
from aasist_deploy.report._curves import style_of

STYLE = (Path(report.__file__).parent / "base.html.j2").read_text(encoding="utf-8")
TEXT_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, level AA
LINE_CONTRAST = 3.0  # WCAG 2.2, 1.4.11


def themes() -> dict[str, dict[str, str]]:
    """Theme -> its variables; print falls back to the light ones."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    light, dark, paper = (dict(re.findall(r"--(\w+): (#[0-9a-f]+)", block)) for block in blocks)
    return {"light": light, "dark": dark, "print": light | paper}


def luminance(color: str) -> float:
    digits = color.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    linear = []
    for start in (0, 2, 4):
        value = int(digits[start : start + 2], 16) / 255
        linear.append(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_of_black_on_white_is_21() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21.0)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
@pytest.mark.parametrize("text", ["ink", "muted", "alert", "bonafide"])
def test_text_is_legible_on_paper(theme: str, text: str) -> None:
    colors = themes()[theme]
    assert contrast(colors[text], colors["paper"]) >= TEXT_CONTRAST


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_number_is_legible_on_the_strongest_heat(theme: str) -> None:
    colors = themes()[theme]
    assert contrast(colors["ink"], colors["heat"]) >= TEXT_CONTRAST


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
@pytest.mark.parametrize("line", ["s1", "s2", "s3", "s4", "s5", "s6", "bonafide", "spoof"])
def test_lines_stand_out_from_paper(theme: str, line: str) -> None:
    colors = themes()[theme]
    assert contrast(colors[line], colors["paper"]) >= LINE_CONTRAST


def test_no_two_of_twelve_systems_have_the_same_line() -> None:
    assert len({style_of(index, 12) for index in range(12)}) == 12


def test_up_to_six_systems_differ_by_dashes_alone() -> None:
    assert len({style_of(index, 6)[1] for index in range(6)}) == 6
