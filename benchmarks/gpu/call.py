"""On the GPU machine, in the repository root: one call. Takes in a load, waits, hands back reports.

    python3 benchmarks/gpu/call.py --load 0 --seconds 780 --wait torch --wait-s 60

The first call starts the worker, which goes on between calls until `--seconds` after it began.
What the reports hold so far is in $OUT/results.tar.gz after every call, and their newest rows are
printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.gpu.stages import HOME, OUT, SOURCE
from benchmarks.gpu.worker import ENDED, LOADS, ORDERS

CODE: Final = ("aasist_deploy", "benchmarks", "tests", "pyproject.toml")
PRINTED: Final = 9000  # characters of rows; the caller sees the last 12,000 of all output
RETURNED: Final = 15 * 2**20  # bytes of results.tar.gz


def main() -> None:
    """Take in, start, wait, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", action="append", default=[], help="folder of .gpu/loads")
    parser.add_argument("--seconds", type=float, default=780.0, help="life of a worker started now")
    parser.add_argument("--wait", default="", help="stages to wait for, with commas")
    parser.add_argument("--wait-s", type=float, default=0.0)
    for order in ("again", "stop", "skip"):
        parser.add_argument(f"--{order}", action="append", default=[], help="a stage")
    given = parser.parse_args()
    start = time.time()
    for folder in (OUT, LOADS, ORDERS, SOURCE):
        folder.mkdir(parents=True, exist_ok=True)
    copy_code()
    for load in given.load:
        take_in(Path(".gpu/loads") / load)
    for order in ("again", "stop", "skip"):
        for stage in getattr(given, order):
            (ORDERS / f"{order}.{stage}").touch()
    start_worker(start + given.seconds)
    obeyed = time.time() + 3
    while any(ORDERS.iterdir()) and time.time() < obeyed:
        time.sleep(0.1)
    wait([w for w in given.wait.split(",") if w], start + given.wait_s)
    pack_results()
    show()


def copy_code() -> None:
    """Jobs run in a copy: the tree here changes with every call."""
    for name in CODE:
        source = Path(name)
        if source.is_dir():
            shutil.copytree(source, SOURCE / name, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copyfile(source, SOURCE / name)


def take_in(load: Path) -> None:
    """Copy the pieces; a name appears only when its content is complete."""
    if not load.is_dir():
        raise SystemExit(f"{load} is not here: was it carried?")
    for file in sorted(load.iterdir(), key=lambda f: f.suffix == ".json"):
        part = LOADS / f"{file.name}.part"
        shutil.copyfile(file, part)
        part.replace(LOADS / file.name)


def start_worker(until: float) -> None:
    """Start the worker in a session of its own; one that runs already goes on."""
    with (OUT / "worker.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.worker", str(until)],
            cwd=SOURCE,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def state() -> dict[str, Any]:
    """What the worker last wrote."""
    try:
        content: dict[str, Any] = json.loads((OUT / "worker.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"stages": {}, "archives": {}}
    return content


def wait(stages: list[str], until: float) -> None:
    """Until the stages have ended or the time is up; without stages, until it is up."""
    while time.time() < until:
        now = state()["stages"]
        if stages and all(now.get(s, {}).get("status") in ENDED for s in stages):
            return
        time.sleep(0.5)


def pack_results() -> None:
    """All reports, logs and results so far, as one file."""
    out = os.environ.get("OUT")
    if not out:
        return
    target = Path(out) / "results.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        for path in sorted(OUT.rglob("*")):
            if path.is_file() and path.suffix != ".part" and path.stat().st_size < RETURNED:
                archive.add(path, path.relative_to(OUT))
    print(f"{target}: {target.stat().st_size / 2**20:.2f} MiB")


def show() -> None:
    """Rows that are new since the last call, errors, and last the state of everything."""
    seen_path = HOME / "seen.json"
    seen: dict[str, int] = json.loads(seen_path.read_text()) if seen_path.is_file() else {}
    lines: list[str] = []
    for path in sorted(OUT.glob("*.json"), key=lambda p: p.stat().st_mtime):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        for kind in ("rows", "errors"):
            entries = report.get(kind, [])
            key = f"{path.name}:{kind}"
            for entry in entries[seen.get(key, 0) :]:
                text = "  ".join(f"{k}={_short(v)}" for k, v in entry.items())
                lines.append(f"{path.stem}{' FAILED' * (kind == 'errors')}: {text[:330]}")
            seen[key] = len(entries)
    seen_path.write_text(json.dumps(seen))
    print("\n".join(lines)[-PRINTED:])
    now = state()
    for name, stage in now["stages"].items():
        print(f"{name}: {'  '.join(f'{k}={v}' for k, v in stage.items())}")
        if stage["status"] in ("failed", "stopped"):
            log = OUT / f"{name}.log"
            tail = log.read_text(errors="replace").splitlines()[-6:] if log.is_file() else []
            print("\n".join(f"    {line[:300]}" for line in tail))
    print("archives:", now["archives"], "| now", time.strftime("%H:%M:%S"))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
