"""Do the published scores of real clips come out by every way that files and rows can take?

    python -m benchmarks.score_routes --root LA --golden DIR --name AASIST --model M.onnx -o X.json

Every clip of the splits goes through the command line, and through a server in a process of
its own, as a user sends it. A route passes when each clip has one row, in its place, without an
error, within named bounds of the published code's logits (`DIR/NAME.LA_mini.npz`) and of the
published scores, and when what the documents promise of the local run's bytes or digits holds. The
exit code is 1 when one does not. `--add` keeps the rows of a report that is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.common import Report
from benchmarks.routes import SPLITS, Found, Routes

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOLDEN_ATOL: Final = 1e-4  # as tests/parity/test_onnx_golden.py
# The published code gives 4.3e-6 on the same clips, and 3.6e-3 for AASIST-L, whose public score
# file was made on other hardware.
PUBLISHED_ATOL: Final = {"AASIST": 1e-4, "AASIST-L": 5e-3}
# ONNX Runtime computes batches of other sizes in another order; as tests/parity/test_served.py.
BATCH_ATOL: Final = {"onnx": 4e-6, "openvino": 0.0}
PACKAGES: Final = (
    "aasist-deploy", "onnxruntime", "openvino", "soundfile", "soxr", "numpy", "pyarrow", "ray",
    "fastapi", "uvicorn",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What scores of a model must be, by utterance."""

    golden: dict[str, float]
    published: dict[str, float]
    published_atol: float

    @classmethod
    def read(cls, name: str, root: Path, golden: Path) -> Reference:
        """Of a published model."""
        with np.load(golden / f"{name}.LA_mini.npz") as file:
            logits = dict(zip(file["utt"].astype(str), file["logits"][:, 1].tolist(), strict=True))
        lines = (root / f"published_scores.{name}.eval.txt").read_text(encoding="utf-8")
        rows = [line.split() for line in lines.splitlines()]
        return cls(
            golden=logits,
            published={row[0]: float(row[3]) for row in rows},
            published_atol=PUBLISHED_ATOL[name],
        )

    def judge(
        self, found: Found, names: list[str], local: Found, promise: str, batch_atol: float
    ) -> dict[str, Any]:
        """Facts of a route, and whether it passes."""
        rows = dict(zip(found.names, found.scores, strict=True))
        counts = Counter(found.names)
        mine = in_order_of(found, names)
        golden = np.abs(mine - [self.golden[name] for name in names])
        public = np.abs(
            [rows[name] - self.published[name] for name in rows if name in self.published]
        )
        apart = np.abs(mine - in_order_of(local, names))
        facts: dict[str, Any] = {
            "rows": len(found.names),
            "missing": sum(name not in counts for name in names),
            "doubled": sum(n > 1 for n in counts.values()),
            "in_order": found.names == names,
            "errors": int(np.isnan(found.scores).sum()),
            "exit_codes": found.exit_codes,
            "max_from_golden": float(golden.max()),
            "published": len(public),
            "max_from_published": float(public.max()),
            "scores_that_differ_from_local": int((apart > 0).sum()),
            "max_from_local": float(apart.max()),
            "same_bytes_as_local": None
            if found.content is None
            else found.content == local.content,
            "promise": promise,
        }
        kept = {
            "bytes": facts["same_bytes_as_local"] is True,
            "digits": facts["max_from_local"] == 0.0,
            "batches": facts["max_from_local"] <= batch_atol,
        }[promise]
        facts["passes"] = bool(
            facts["in_order"]
            and not facts["errors"]
            and set(found.exit_codes) == {0}
            and facts["max_from_golden"] <= GOLDEN_ATOL
            and facts["max_from_published"] <= self.published_atol
            and kept
        )
        return facts | found.facts


def in_order_of(found: Found, names: list[str]) -> NDArray[np.float64]:
    """Scores in the order of some names; NaN where there is none."""
    rows = dict(zip(found.names, found.scores, strict=True))
    return np.array([rows.get(name, np.nan) for name in names])


def main() -> None:
    """Measure, write the report, say whether all is well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="a folder like LA of ASVspoof")
    parser.add_argument("--golden", type=Path, required=True, help="NAME.LA_mini.npz lies there")
    parser.add_argument("--name", required=True, choices=sorted(PUBLISHED_ATOL))
    parser.add_argument("--model", type=Path, required=True, help="the exported file")
    parser.add_argument("--backend", default="openvino", choices=sorted(BATCH_ATOL))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--splits", default=",".join(SPLITS), help="whose clips")
    parser.add_argument("--only", default="", help="routes whose names hold this, and the first")
    parser.add_argument("--add", action="store_true", help="keep the rows of the report")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    name, file = options.name, options.model
    reference = Reference.read(name, options.root, options.golden)
    before = json.loads(options.output.read_bytes()) if options.add else {"rows": []}
    report = Report(options.output, PACKAGES, note=options.note)
    report.content["earlier_commands"] = [
        *before.get("earlier_commands", []),
        *([before["command"]] if options.add else []),
    ]
    report.content["rows"] += before["rows"]
    report.save()
    given = ["--backend", options.backend, "--threads", str(options.threads)]
    batch_atol = BATCH_ATOL[options.backend]
    with tempfile.TemporaryDirectory() as folder:
        places = (Path(folder), options.root.resolve(), file.resolve())
        ways = Routes(*places, given, options.splits.split(","))
        names = [clip.stem for clip in ways.clips]
        first, *others = ways.all()
        local = first.run()
        for route in [first, *(one for one in others if options.only in one.name)]:
            about = {"model": name, "backend": options.backend, "route": route.name}
            with report.step(json.dumps(about)):
                start = time.perf_counter()
                found = local if route is first else route.run()
                facts = reference.judge(found, names, local, route.promise, batch_atol)
                took = None if route is first else round(time.perf_counter() - start, 1)
                report.row(**about, clips=len(names), **facts, seconds=took)
    report.fact("routes_that_pass", sum(row["passes"] for row in report.content["rows"]))
    report.fact("routes", len(report.content["rows"]) + len(report.content["errors"]))
    sys.exit(report.content["routes_that_pass"] != report.content["routes"])


if __name__ == "__main__":
    main()
