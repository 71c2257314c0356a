"""The other end of a worker: starts it, asks it, and says why it does not answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import IO, Any, Final, Self

from aasist_deploy import errors
from aasist_deploy.errors import AasistDeployError, EnvironmentLacks

# numpy's libraries of linear algebra read these when they are loaded, and not again.
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# The import path is handed on, so that the child finds this package where the parent found it.
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from aasist_deploy.bench.worker import main; main()"
)
_GRACE_S: Final = 10.0


class WorkerProcess:
    """A worker in a fresh Python.

    Args:
        name: Of what lives in it, for messages.
        threads: Of the libraries that take their number of threads from the environment.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in close
        self._process = subprocess.Popen(  # noqa: S603  # this Python, and a program of ours
            [sys.executable, "-c", _PROGRAM, json.dumps([*map(str, sys.path)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            encoding="utf-8",
            env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))},
        )

    def ask(self, do: str, **values: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
        """Send one request and wait for its answer.

        Raises:
            AasistDeployError: what the worker raised, of the same class.
            EnvironmentLacks: the runtime failed in its own words, or the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise EnvironmentLacks(self._why_it_ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" not in answer:
            return answer
        kind = getattr(errors, answer["error"], None) if answer["error"] else None
        if isinstance(kind, type) and issubclass(kind, AasistDeployError):
            raise kind(answer["message"], fix=answer["fix"])
        raise EnvironmentLacks(f"{self.name} failed: {answer['message']}")

    def close(self) -> None:
        """End the process; a second call does nothing."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if code == -9:
            ended += " (the system does this when memory runs out)"
        self._said.seek(0)
        said = self._said.read().decode("utf-8", errors="replace").strip().splitlines()
        return f"The process of {self.name} {ended}" + (f": {said[-1]}" if said else "") + "."
