"""How long the metrics and their bootstrap intervals take at the size of ASVspoof 2021 DF.

    python -m benchmarks.bootstrap_speed -o benchmarks/results/$(date -I)-bootstrap.json

Scores are synthetic: two normal classes as large as those of DF (611,829 trials), with an equal
error rate near that of published systems there, and rounded to six decimals, so that some tie.
One process, one thread; CPU time is given beside wall time, because machines are shared.
"""

from __future__ import annotations

import argparse
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from aasist_deploy.metrics import ASVSPOOF5_ASV, Bootstrap, Unit, confidence, summarize
from benchmarks.common import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

N_BONAFIDE, N_SPOOF = 22_617, 589_212  # ASVspoof 2021 DF, all subsets
N_SPEAKERS = 93
UNITS: tuple[Unit, ...] = ("utterance", "speaker")
SEPARATIONS = (2.0, 4.0)  # equal error rates of about 16 % and 2.3 %


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("-n", "--n-bootstrap", type=int, default=1000)
    options = parser.parse_args()
    report = Report(options.out, ["numpy"], n_bonafide=N_BONAFIDE, n_spoof=N_SPOOF)
    random = np.random.default_rng(0)
    bonafide_speakers, spoof_speakers = (
        random.integers(0, N_SPEAKERS, n).astype(str).tolist() for n in (N_BONAFIDE, N_SPOOF)
    )
    for separation in SEPARATIONS:
        bonafide = random.normal(separation, 1, N_BONAFIDE).round(6)
        spoof = random.normal(0, 1, N_SPOOF).round(6)
        table = SimpleNamespace(
            scores=np.concatenate((bonafide, spoof)),
            is_bonafide=np.arange(N_BONAFIDE + N_SPOOF) < N_BONAFIDE,
            attacks=None,
        )
        with _timed(report, "all metrics", separation):
            summary = summarize(table, ASVSPOOF5_ASV)
        report.fact(f"eer_percent_at_{separation}", 100 * summary.eer.eer)
        for unit in UNITS:
            how = Bootstrap(n=options.n_bootstrap, unit=unit)
            with _timed(report, f"{how.n} replicates of all metrics by {unit}", separation):
                confidence(
                    bonafide,
                    spoof,
                    how,
                    speakers=(bonafide_speakers, spoof_speakers),
                    asv=ASVSPOOF5_ASV,
                )


@contextmanager
def _timed(report: Report, what: str, separation: float) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    report.row(
        what=what,
        separation=separation,
        wall_s=round(time.perf_counter() - wall, 2),
        cpu_s=round(time.process_time() - cpu, 2),
    )


if __name__ == "__main__":
    main()
