"""The process that speaks to a Ray cluster: `python -m aasist_deploy.pipeline.ray_child`.

Its parent, `aasist_deploy.pipeline.ray_process`, says on standard input what to open and score, and
gives inputs one by one when it is asked; answers go to standard output. It ends when its input
does, so it never outlives its parent.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from aasist_deploy.errors import AasistDeployError
from aasist_deploy.pipeline.children import error_text, input_from, receive, send
from aasist_deploy.pipeline.windows import WindowRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aasist_deploy.inputs import AudioInput
    from aasist_deploy.pipeline.batches import Scorer
    from aasist_deploy.pipeline.rows import ScoredFile

_NOTICE_S: Final = 2.0  # from the parent's end until this process sees it, unless it waits for Ray
_END_S: Final = 30.0  # from then on until a cluster that was begun here has ended


class _Talk:
    """What is said with the parent.

    Attributes:
        is_over: Set once the parent is known to have ended.
    """

    def __init__(self, questions: BinaryIO, answers: BinaryIO) -> None:
        self._questions, self._answers = questions, answers
        self._lock = threading.Lock()  # Ray tells of the cluster in threads of its own
        self.is_over = threading.Event()

    def say(self, message: dict[str, Any]) -> None:
        try:
            with self._lock:
                send(self._answers, message)
        except OSError:
            self.is_over.set()
            raise

    def hear(self) -> dict[str, Any] | None:
        message = receive(self._questions)
        if message is None:
            self.is_over.set()
        return message

    def sources(self) -> Iterator[AudioInput]:
        """The inputs, each asked for when it is needed."""
        while True:
            self.say({"wanted": True})
            given = self.hear()
            if given is None:
                raise BrokenPipeError
            if "end" in given:
                return
            yield input_from(given, self._questions)


class _ToParent(logging.Handler):
    """Our log, whose handlers are the parent's."""

    def __init__(self, talk: _Talk) -> None:
        super().__init__()
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # whoever speaks next will see
            self._talk.say({"log": record.getMessage(), "level": record.levelno})


def serve(talk: _Talk) -> None:
    """Connect to the cluster, or begin one, and score what the parent gives."""
    asked = talk.hear()
    if asked is None:
        return
    ours = logging.getLogger("aasist_deploy")
    ours.setLevel(asked["log_level"])
    ours.addHandler(_ToParent(talk))
    ours.propagate = False
    try:
        from aasist_deploy.pipeline.ray_connection import ray_cluster

        with ray_cluster(asked["address"], n_cpus=asked["n_cpus"]):
            from aasist_deploy.pipeline.on_ray import RayScorer

            scorer = RayScorer(
                Path(asked["model"]),
                asked["backend"],
                asked["options"],
                scorers=asked["scorers"],
                on_gpu=asked["on_gpu"],
                decode_tasks=asked["decode_tasks"],
            )
            talk.say(
                {
                    "contract": scorer.contract.to_dict(),
                    "backend": scorer.backend,
                    "device": scorer.device,
                    "best_batch": scorer.best_batch,
                }
            )
            while (order := talk.hear()) is not None:
                try:
                    _score(scorer, order, talk)
                    talk.say({"done": True})
                except AasistDeployError as error:
                    talk.say({"refused": error_text(error)})
    except AasistDeployError as error:
        talk.say({"refused": error_text(error)})


def _score(scorer: Scorer, order: dict[str, Any], talk: _Talk) -> None:
    os.chdir(order["folder"])
    groups = scorer.groups(
        talk.sources(),
        rule=WindowRule(**order["rule"]),
        batch=order["batch"],
        before=order["before"],
    )
    with closing(groups):
        for group in groups:
            talk.say({"rows": [_facts(row) for row in group]})


def _facts(row: ScoredFile) -> dict[str, Any]:
    """A row without its file, which the parent knows."""
    facts = asdict(row)
    del facts["path"]
    return facts


def _end_with_parent(questions: BinaryIO, talk: _Talk) -> None:
    """End this process soon after its parent, also while it waits for Ray."""
    if not hasattr(select, "poll"):  # Windows: it ends when it next speaks
        return
    poll = select.poll()
    poll.register(questions, 0)  # that nobody writes any more is always told
    poll.poll()
    if talk.is_over.wait(_NOTICE_S):
        time.sleep(_END_S)
    os._exit(1)


def main() -> None:
    """Run until the parent has nothing more to say."""
    # Whoever sends this to many processes at once: the parent decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    talk = _Talk(questions, answers)
    threading.Thread(target=_end_with_parent, args=(questions, talk), daemon=True).start()
    try:
        serve(talk)
    except BrokenPipeError:  # the parent has ended, and nobody is there to be told
        os._exit(1)


if __name__ == "__main__":
    main()
