"""On the GPU machine: unpacks archives as they arrive and runs the stages that have what they need.

    python3 -m benchmarks.gpu.worker UNTIL      (seconds since 1970; started by call.py)

It goes on between calls, so that the GPU works while the next load travels. Orders are files in
~/orders: again.STAGE, stop.STAGE and skip.STAGE. Its state is ~/out/worker.json.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from benchmarks.gpu.stages import HOME, OUT, SOURCE, STAGES, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LOADS: Final = HOME / "loads"
ORDERS: Final = HOME / "orders"
TURN: Final = HOME / "gpu-turn"
SPARE_S: Final = 6.0  # left at the end for what is running to write its report
ENDED: Final = ("done", "failed", "skipped", "stopped", "no time")
POLL_S: Final = 0.2


class Worker:
    """The state of archives and stages, and what changes it."""

    def __init__(self, until: float, stages: Sequence[Stage] = STAGES) -> None:
        self.until = until
        self.stages = {stage.name: stage for stage in stages}
        self.state: dict[str, dict[str, Any]] = {n: {"status": "waiting"} for n in self.stages}
        self.archives: dict[str, str] = {}
        self.running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        self._turn: Any = None
        self._lock = threading.RLock()
        for folder in (OUT, LOADS, ORDERS):
            folder.mkdir(parents=True, exist_ok=True)

    def work(self) -> None:
        """Until the time is up."""
        threading.Thread(target=self._receive, daemon=True).start()
        while time.time() < self.until - SPARE_S:
            self._obey()
            self._reap()
            self._start_what_can()
            time.sleep(POLL_S)
        for name in list(self.running):
            self._end(name, "no time")
        for name, state in self.state.items():
            if state["status"] == "waiting":
                self._set(name, "no time")

    def _start_what_can(self) -> None:
        busy = any(not self.stages[name].background for name in self.running)
        for name, stage in self.stages.items():
            if self.state[name]["status"] != "waiting" or (busy and not stage.background):
                continue
            if any(self.state[a]["status"] not in ENDED for a in stage.after if a in self.state):
                continue
            if any(self.archives.get(need) != "unpacked" for need in stage.needs):
                continue
            if not stage.wanted():
                self._set(name, "skipped")
                continue
            left = self.until - SPARE_S - time.time()
            if left < min(15.0, stage.limit_s):
                self._set(name, "no time")
                continue
            if not stage.background:
                if not self._take_turn():
                    continue  # a stage in the background is timing: a matter of seconds
                busy = True
            self._start(stage)

    def _start(self, stage: Stage) -> None:
        env = {**os.environ, "PYTHONPATH": f"{SOURCE}:{HOME / 'bench' / 'site'}"}
        env |= {"PYTHONUNBUFFERED": "1", "OUT": str(OUT), "GPU_TURN": str(TURN)}
        if not stage.background:
            env["GPU_TURN_TAKEN"] = "1"
        log = (OUT / f"{stage.name}.log").open("wb")
        process = subprocess.Popen(
            ["bash", "-c", stage.command],
            cwd=SOURCE,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        self.running[stage.name] = (process, time.time())
        self._set(stage.name, "running")

    def _take_turn(self) -> bool:
        """Hold the GPU for one stage alone, unless one in the background holds it now."""
        turn = TURN.open("w")
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            turn.close()
            return False
        self._turn = turn
        return True

    def _reap(self) -> None:
        for name, (process, start) in list(self.running.items()):
            if process.poll() is not None:
                self._end(name, "done" if process.returncode == 0 else "failed")
            elif time.time() - start > self.stages[name].limit_s:
                self._end(name, "stopped")

    def _end(self, name: str, status: str) -> None:
        process, start = self.running.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not self.stages[name].background and self._turn is not None:
            self._turn.close()
            self._turn = None
        seconds = round(time.time() - start, 1)
        self._set(name, status, seconds=seconds, exit_code=process.returncode)

    def _obey(self) -> None:
        for order in sorted(ORDERS.iterdir()):
            order.unlink()
            kind, _, name = order.name.partition(".")
            if name not in self.stages:
                continue
            if kind in ("stop", "again") and name in self.running:
                self._end(name, "stopped")
            if kind == "again":
                self._set(name, "waiting")
            elif kind == "skip" and self.state[name]["status"] == "waiting":
                self._set(name, "skipped")

    def _receive(self) -> None:
        """Unpack every archive whose pieces have all come."""
        while True:
            for name, facts in self._facts().items():
                pieces = [LOADS / f"{name}.{i:03d}" for i in range(facts["pieces"])]
                here = [piece for piece in pieces if piece.is_file()]
                known = self.archives.get(name, "")
                if known == "unpacked" or known.startswith("failed") or not here:
                    continue
                if len(here) < len(pieces):
                    self._archive(name, f"{len(here)} of {len(pieces)} pieces")
                    continue
                try:
                    unpack(name, pieces, facts["sha256"])
                    self._archive(name, "unpacked")
                except Exception as error:  # noqa: BLE001  # said in the state, whatever it is
                    traceback.print_exc()
                    self._archive(name, f"failed: {error}")
            time.sleep(POLL_S)

    @staticmethod
    def _facts() -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads((LOADS / "loads.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts

    def _archive(self, name: str, status: str) -> None:
        if self.archives.get(name) != status:
            with self._lock:
                self.archives[name] = status
                self._save()

    def _set(self, name: str, status: str, **more: Any) -> None:  # noqa: ANN401
        with self._lock:
            self.state[name] = {"status": status, "at": time.strftime("%H:%M:%S"), **more}
            self._save()

    def _save(self) -> None:
        content = {"until": self.until, "stages": self.state, "archives": self.archives}
        part = OUT / "worker.json.part"
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        part.replace(OUT / "worker.json")


def unpack(name: str, pieces: Sequence[Path], sha256: str) -> None:
    """Put an archive together, check it, and unpack it to ~/NAME."""
    digest = hashlib.sha256()
    for chunk in _chunks(pieces):
        digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise ValueError(f"the pieces of {name} are not what was packed")
    first = next(_chunks(pieces))
    packed = first.startswith(b"\xfd7zXZ\x00")
    part, folder = HOME / f"{name}.part", HOME / name
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    decode = "xz -dc -T0 |" if packed and shutil.which("xz") else ""
    flag = "J" if packed and not decode else ""
    command = f"set -o pipefail; {decode} tar x{flag}f - -C '{part}'"
    with subprocess.Popen(["bash", "-c", command], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for chunk in _chunks(pieces):
            process.stdin.write(chunk)
        process.stdin.close()
    if process.returncode != 0:
        raise ValueError(f"tar ended with {process.returncode}")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _chunks(pieces: Sequence[Path]) -> Iterator[bytes]:
    for piece in pieces:
        with piece.open("rb") as stream:
            while chunk := stream.read(2**22):
                yield chunk


def only_one() -> Any:  # noqa: ANN401
    """Hold the lock of the one worker, or end."""
    lock = (HOME / "worker.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit("a worker is running") from None
    return lock


if __name__ == "__main__":
    held = only_one()
    Worker(float(sys.argv[1])).work()
