"""A process that decodes files: `python -m aasist_deploy.pipeline.decode_worker DESCRIPTOR BYTES`.

It reads requests on standard input, puts samples into memory that it shares with its parent, and
answers on standard output. It ends when its input does, so it never outlives its parent.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from dataclasses import asdict

import numpy as np

from aasist_deploy.errors import AudioError
from aasist_deploy.pipeline.children import input_from, receive, send
from aasist_deploy.pipeline.stages import Wanted, sound_of


def serve(descriptor: int, n_bytes: int) -> None:
    """Answer requests until there are no more."""
    # Whoever sends this to many processes at once: the parent decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory = np.frombuffer(mmap.mmap(descriptor, n_bytes), np.float32)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    send(answers, {"ready": os.getpid()})
    while (request := receive(requests)) is not None:
        source = input_from(request, requests)
        try:
            for piece in sound_of(source, Wanted(**request["wanted"])):
                memory[: len(piece.samples)] = piece.samples
                about = piece.about
                send(
                    answers,
                    {
                        "n": len(piece.samples),
                        "joined": piece.joined,
                        "about": about and asdict(about),
                    },
                )
                if about is None:
                    go_on = receive(requests)
                    if go_on is None:
                        return
                    if not go_on["more"]:
                        break
        except AudioError as error:
            send(answers, {"error": str(error), "fix": error.fix})


if __name__ == "__main__":
    try:
        serve(int(sys.argv[1]), int(sys.argv[2]))
    except BrokenPipeError:  # the parent has ended, and nobody is there to be told
        os._exit(1)
