"""A run on a Ray cluster, asked for from a process of its own.

When the head of a cluster is lost, or the Ray of this machine, Ray ends the process that speaks to
it without a word (seen with 2.60, with exit code 1, which of our commands would mean that all is
done and some rows hold errors). So that process is another one than the one that writes rows, and
its end is an error like any other.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn, Self, cast

from aasist_deploy.contract import ModelContract
from aasist_deploy.errors import EnvironmentLacks
from aasist_deploy.pipeline.children import (
    environment,
    error_of,
    how_it_ended,
    input_facts,
    receive,
    send,
)
from aasist_deploy.pipeline.rows import ScoredFile

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from aasist_deploy.inputs import Address, AudioInput
    from aasist_deploy.pipeline.windows import WindowRule

log = logging.getLogger(__name__)

_COMMAND: Final = (sys.executable, "-m", "aasist_deploy.pipeline.ray_child")
_END_S: Final = 30.0  # until a cluster that was begun for the run has ended


class RayProcess:
    """Scores files on a Ray cluster; see `Scorer`. Use it as a context manager, or close it.

    Args:
        model: Model file on this machine; it is sent to the cluster.
        backend: What opens it.
        options: Of `open_engine`.
        address: `HOST:PORT` of the cluster's head or "auto", from one of its machines; None to
            begin one on this machine.
        n_cpus: Decoding tasks at a time of a cluster that is begun here.
        scorers: How many engines; by default one for each GPU, or for each machine.
        on_gpu: Whether an engine needs a GPU.
        decode_tasks: Tasks of decoding at a time; by default as many as the cluster has cores.
        command: What speaks to the cluster.

    Raises:
        AasistDeployError: as `ray_cluster` and `RayScorer` raise it.
        EnvironmentLacks: Ray ended the process that speaks to it.
    """

    def __init__(
        self,
        model: Path,
        backend: str,
        options: Mapping[str, Any],
        *,
        address: str | None = None,
        n_cpus: int | None = None,
        scorers: int | None = None,
        on_gpu: bool = False,
        decode_tasks: int | None = None,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # our own program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C of the terminal is for this process
            env=environment(),
        )
        try:
            opened = self._opened(
                {
                    "model": str(model),
                    "backend": backend,
                    "options": dict(options),
                    "address": address,
                    "n_cpus": n_cpus,
                    "scorers": scorers,
                    "on_gpu": on_gpu,
                    "decode_tasks": decode_tasks,
                    "log_level": log.getEffectiveLevel(),
                }
            )
            self.contract = ModelContract.from_dict(opened["contract"], model)
        except BaseException:
            self.close()
            raise
        self.backend: str = opened["backend"]
        self.device: str = opened["device"]
        self.best_batch: int = opened["best_batch"]

    def __enter__(self) -> Self:
        """It is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def groups(
        self, sources: Iterable[AudioInput], *, rule: WindowRule, batch: int, before: int = 0
    ) -> Generator[list[ScoredFile], None, None]:
        """See `Scorer`. When it is ended early, nothing more can be scored.

        Raises:
            AasistDeployError: as `RayScorer.groups` raises it.
            EnvironmentLacks: Ray ended the process that speaks to it.
        """
        unread, under_way = iter(sources), deque["Path | Address"]()
        order = {"rule": asdict(rule), "batch": batch, "before": before}
        done = False
        try:
            self._say({**order, "folder": str(Path.cwd())})
            while not done:
                answer = self._answer()
                if "rows" in answer:
                    yield [
                        ScoredFile(
                            **{**row, "window_scores": tuple(row["window_scores"])},
                            path=under_way.popleft(),
                        )
                        for row in answer["rows"]
                    ]
                elif "wanted" in answer:
                    if (source := next(unread, None)) is None:
                        self._say({"end": True})
                    else:
                        under_way.append(source.path)
                        self._say(input_facts(source), source.content or b"")
                else:
                    done = True
                    if "refused" in answer:
                        raise error_of(answer["refused"])
        finally:
            if not done:
                self.close()

    def close(self) -> None:
        """End the process, and a cluster that was begun for it; a second call does nothing."""
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                cast("BinaryIO", stream).close()
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _opened(self, order: Mapping[str, Any]) -> dict[str, Any]:
        self._say(order)
        opened = self._answer()
        if "refused" in opened:
            raise error_of(opened["refused"])
        return opened

    def _say(self, message: Mapping[str, Any], content: bytes = b"") -> None:
        try:
            send(cast("BinaryIO", self._process.stdin), message, content)
        except (OSError, ValueError):
            self._lost()

    def _answer(self) -> dict[str, Any]:
        while True:
            try:
                answer = receive(cast("BinaryIO", self._process.stdout))
            except ValueError:  # closed
                answer = None
            if answer is None:
                self._lost()
            if "log" not in answer:
                return answer
            log.log(answer["level"], "%s", answer["log"])

    def _lost(self) -> NoReturn:
        self.close()
        raise EnvironmentLacks(
            "The process that speaks to the Ray cluster has ended "
            f"({how_it_ended(self._process.returncode)}). If it said no reason above, the "
            "cluster's head is lost, or the Ray of this machine.",
            fix="give the same command with --resume once the cluster is well, or without "
            "--engine ray",
        )
