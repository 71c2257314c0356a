"""Ray on machines apart: do they score together, and what if one of them is lost?

    sudo python -m benchmarks.ray_machines -o REPORT.json --work DIR

Each "machine" is a set of Linux namespaces on this one: an address on a wire of its own, processes,
/tmp and shared memory that no other one sees; the folder with the files is what they share. Each
scenario begins a cluster, scores the same files with a model that takes no time, loses something
half way, and compares the output with that of a local run, byte for byte. A run that ends with an
error is given again with `--resume`, on one machine. Needs root, `ip`, `unshare` and `nsenter`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aasist_deploy.journal import journal_of
from benchmarks.common import Report
from benchmarks.kill_resume import make_files, rows_in
from benchmarks.many_files import children_of
from tests.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

N_FILES: Final = 3_000
N_MACHINES: Final = 3
WIRE: Final = "aasist-wire"
# The first process of a machine: it takes in what others leave behind.
INIT: Final = """
import os, time
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.2)
"""
SETUP: Final = (
    "mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm"
    ' && hostname "$1" && ip link set lo up && exec "$2" -c "$3"'
)
APART: Final = "unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc"
THERE: Final = "nsenter -n -m -p -i -u -t"


def ip(*words: str) -> None:
    """Call `ip`."""
    subprocess.run(["ip", *words], check=True)


class Machine:
    """Network, processes, /tmp and shared memory of their own, with an address on the wire.

    Args:
        number: Its place in the cluster; 0 is the head.
    """

    def __init__(self, number: int) -> None:
        self.name, self.address = f"aasist-host-{number}", f"10.86.0.{number + 1}"
        self._port = f"port{number}"
        ip("netns", "add", self.name)
        ip(
            "link",
            "add",
            self._port,
            "netns",
            WIRE,
            "type",
            "veth",
            "peer",
            "eth0",
            "netns",
            self.name,
        )
        ip("-n", WIRE, "link", "set", self._port, "master", "switch", "up")
        ip("-n", self.name, "address", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.name, "link", "set", "eth0", "up")
        words = ["ip", "netns", "exec", self.name, *APART.split()]
        words += ["sh", "-c", SETUP, "sh", self.name, sys.executable, INIT]
        self._started = subprocess.Popen(words)
        while not (children := children_of(self._started.pid)):
            time.sleep(0.01)
        self._first = children[0]
        while "-c\0\nimport os" not in Path(f"/proc/{self._first}/cmdline").read_text("utf-8"):
            time.sleep(0.01)

    def begin(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command on this machine."""
        return subprocess.Popen(
            [*THERE.split(), str(self._first), f"--wd={Path.cwd()}", *command],
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def join(self, head: Machine) -> None:
        """Become a machine of the cluster, with one core."""
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats"]
        role = ["--head", "--port=6379", "--include-dashboard=false"]
        if self is not head:
            role = [f"--address={head.address}:6379"]
        given = [f"--node-ip-address={self.address}", "--num-cpus=1"]
        started = self.begin([*ray, *role, *given, "--object-store-memory=157286400"])
        said = started.communicate(timeout=120)[1]
        if started.returncode:
            raise RuntimeError(f"ray start on {self.name}: {said[-800:]}")

    def processes(self) -> Iterator[int]:
        """All that run here."""
        if self._started.poll() is not None:
            return
        mine = Path(f"/proc/{self._first}/ns/pid").readlink()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if Path(path, "ns/pid").readlink() == mine:
                    yield int(path.name)
            except OSError:
                continue  # it has ended

    def cpu_s(self) -> float:
        """Seconds of processor time of this machine so far; 0 when it is off."""
        ticks = 0
        for pid in self.processes():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            ticks += sum(int(field) for field in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pull_cable(self) -> None:
        """Nothing reaches this machine any more, nor leaves it."""
        ip("-n", WIRE, "link", "set", self._port, "down")

    def power_off(self) -> None:
        """End all processes at once."""
        self._started.kill()
        self._started.wait()

    def lose(self, program: str) -> None:
        """End one program of Ray."""
        for pid in self.processes():
            try:
                name = Path(f"/proc/{pid}/comm").read_text("utf-8").strip()
            except OSError:
                continue
            if name == program:
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Take it away."""
        self.power_off()
        ip("netns", "delete", self.name)


@dataclass(frozen=True)
class Scenario:
    """What is lost half way, and on which machine the command runs."""

    name: str
    asks: int
    lose: Callable[[list[Machine]], None] | None = None


SCENARIOS: Final = (
    Scenario("nothing lost", 0),
    Scenario("nothing lost, the command not on the head", 1),
    Scenario("cable of a worker pulled", 0, lambda machines: machines[2].pull_cable()),
    Scenario("power of a worker off", 0, lambda machines: machines[2].power_off()),
    Scenario("power of the head off", 1, lambda machines: machines[0].power_off()),
    Scenario("cable of the head pulled", 1, lambda machines: machines[0].pull_cable()),
    Scenario("raylet of the asking machine killed", 0, lambda machines: machines[0].lose("raylet")),
)


def score(folder: Path, output: Path, *more: str) -> list[str]:
    """The command."""
    program = "from aasist_deploy.cli import main; main()"
    given = ["score", str(folder / "tiny.onnx"), "--list", str(folder / "all.txt"), "--resume"]
    options = ["-o", str(output), "--backend", "onnx", "--threads", "1", *more]
    return [sys.executable, "-c", program, *given, *options]


def try_out(report: Report, folder: Path, scenario: Scenario, limit_s: float) -> None:
    """One scenario, one row of the report."""
    output = folder / "rows.csv"
    for path in (output, journal_of(output)):
        path.unlink(missing_ok=True)
    with ExitStack() as stack:
        ip("netns", "add", WIRE)
        stack.callback(ip, "netns", "delete", WIRE)
        ip("-n", WIRE, "link", "add", "switch", "type", "bridge")
        ip("-n", WIRE, "link", "set", "switch", "up")
        machines = []
        for number in range(N_MACHINES):
            machines.append(Machine(number))
            stack.callback(machines[-1].close)
        for machine in machines:
            machine.join(machines[0])
        began = time.monotonic()
        address = f"{machines[0].address}:6379"
        command = score(folder, output, "--engine", "ray", "--ray-address", address)
        process = machines[scenario.asks].begin(command)
        if scenario.lose is not None:
            while process.poll() is None and rows_in(output) < N_FILES // 3:
                time.sleep(0.05)
            lost_at = rows_in(output)
            scenario.lose(machines)
        else:
            lost_at = None
        try:
            said = process.communicate(timeout=limit_s)[1]
        except subprocess.TimeoutExpired:
            machines[scenario.asks].power_off()
            said = process.communicate()[1]
        seconds = round(time.monotonic() - began, 1)
        cpu_s = [round(machine.cpu_s(), 1) for machine in machines]
        lines = rows_in(output)
    resumed = None
    if process.returncode != 1:  # the bad files
        resumed = subprocess.run(score(folder, output), capture_output=True, check=False).returncode
    report.row(
        scenario=scenario.name,
        lines_when_lost=lost_at,
        exit_code=process.returncode,
        seconds=seconds,
        lines=lines,
        cpu_s=cpu_s,
        said=[line for line in said.splitlines() if "cannot be decoded" not in line][-8:],
        resumed_exit_code=resumed,
        same_bytes=output.read_bytes() == (folder / "whole.csv").read_bytes(),
    )


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the files, not in /tmp"
    )
    parser.add_argument("--only", default="", help="scenarios with this in their names")
    parser.add_argument("--limit", type=float, default=240, help="seconds that a run may take")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # machines are taken away then, too
    packages = ("aasist-deploy", "ray", "onnxruntime", "soundfile")
    report = Report(options.output.resolve(), packages, files=N_FILES, machines=N_MACHINES)
    folder = options.work.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_tiny_model(folder / "tiny.onnx")
    make_files(folder, N_FILES)
    subprocess.run(score(folder, folder / "whole.csv"), capture_output=True, check=False)
    for scenario in SCENARIOS:
        if options.only in scenario.name:
            with report.step(scenario.name):
                try_out(report, folder, scenario, options.limit)


if __name__ == "__main__":
    main()
