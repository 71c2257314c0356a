"""Results as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from aasist_deploy.metrics import MetricsSummary


def summary_table(summary: MetricsSummary, caption: str) -> Table:
    """The pooled figures, then each attack; as many digits as the official package in its mode."""
    digits = 9 if summary.compat == "official" else 4
    table = Table(caption=Text(caption), caption_justify="left")
    table.add_column("trials")
    for header in ("EER %", "min t-DCF 2019", "bona fide", "spoof"):
        table.add_column(header, justify="right")
    tdcf = summary.min_tdcf_2019
    table.add_row(
        "all",
        f"{summary.eer.eer * 100:.{digits}f}",
        f"{tdcf.value:.{max(6, digits)}f}" if tdcf else "no ASV scores",
        str(summary.n_bonafide),
        str(summary.n_spoof),
        end_section=True,
    )
    for name, attack in summary.attacks.items():
        table.add_row(
            Text(name),
            f"{attack.eer.eer * 100:.{digits}f}",
            "",
            str(summary.n_bonafide),
            str(attack.n_spoof),
        )
    return table
