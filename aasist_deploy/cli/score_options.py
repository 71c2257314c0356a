"""Options of scoring many files, and what they mean together."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aasist_deploy.cli.common import stderr
from aasist_deploy.engines.base import usable_cores
from aasist_deploy.errors import UsageError
from aasist_deploy.journal import read_journal
from aasist_deploy.pipeline import DECODE_WORKERS, InThreads, WindowRule
from aasist_deploy.pipeline.isolated import InProcesses, can_isolate
from aasist_deploy.pipeline.parquet import work_file
from aasist_deploy.pipeline.ray_process import RayProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aasist_deploy.pipeline import Decoders
    from aasist_deploy.scores import RowFormat

DecodeIn = Literal["threads", "processes"]

# Starting a process of decoding takes 0.4 s of a core, in which some hundred files are decoded;
# from here on it is little, and long runs are those that one bad file must not end.
PROCESSES_FROM = 256

ListOption = Annotated[
    list[str] | None,
    typer.Option(
        "--list", help="File that lists inputs, one a line, or - for stdin; may be repeated."
    ),
]
RootOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of audio. The inputs are then protocols of ASVspoof 2019, 2021 or 5, or lists "
        "of utterances, whose files lie there."
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on where the run that wrote the output ended, whatever ended it. An output that "
        "is not there yet is begun.",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(help="Score every n-th input only, as i/n, e.g. 2/8; `merge` puts them together."),
]
OnErrorOption = Annotated[
    Literal["report", "fail"],
    typer.Option(
        help="What a file that cannot be scored does: report (a row with its error, exit code 1 at "
        "the end), or fail (end the run there)."
    ),
]
WindowsOption = Annotated[
    str, typer.Option(help="Which windows of a file: first (as the benchmarks do), all, or N.")
]
HopOption = Annotated[
    float | None,
    typer.Option(help="Seconds from one window to the next. Default: half a window."),
]
AggregateOption = Annotated[
    str,
    typer.Option(
        help="Score of a file from those of its windows: mean, max, min, top-K (mean of the K "
        "highest, the most bona fide) or bottom-K (the most spoofed)."
    ),
]
WindowScoresOption = Annotated[
    bool,
    typer.Option("--window-scores", help="Also write the score of every window (csv, jsonl)."),
]
DecodeWorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Files decoded at once. Default: 4, or fewer with fewer cores."),
]
DecodeInOption = Annotated[
    DecodeIn | None,
    typer.Option(
        help="Where files are decoded. In processes, a file that crashes a decoder costs only its "
        f"row. Default: processes from {PROCESSES_FROM} files on, where starting them is little."
    ),
]

EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(
        help="Where the pipeline runs: local (this process), or ray, a Ray cluster (extra ray); "
        "the output is the same to the byte."
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        help="Cluster of --engine ray, as HOST:PORT or auto, on one of its machines. Default: one "
        "that is begun on this machine for this run."
    ),
]
ScorersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Engines of --engine ray. Default: one for each machine of the cluster, or each GPU.",
    ),
]


def ray_scorer(
    model: Path,
    backend: str,
    options: Mapping[str, Any],
    *,
    address: str | None,
    scorers: int | None,
    decode_tasks: int | None,
) -> RayProcess:
    """Engines on a Ray cluster, connected to or begun here.

    Raises:
        UsageError: the model needs code that only this machine has.
        EnvironmentLacks: Ray is not installed, or there is no such cluster.
    """
    if options.get("code"):
        raise UsageError(
            "--code lies on this machine, and the engines run on others.",
            fix="export the checkpoint and score the exported file",
        )
    on_gpu = (
        backend == "trt"
        or options.get("provider", "cpu") != "cpu"
        or str(options.get("device", "cpu")).startswith("cuda")
    )
    return RayProcess(
        model,
        backend,
        options,
        address=address,
        n_cpus=decode_tasks or max(2, usable_cores()),
        scorers=scorers,
        on_gpu=on_gpu,
        decode_tasks=decode_tasks,
    )


def refuse_local(address: str | None, scorers: int | None) -> None:
    """Refuse options of a cluster without one.

    Raises:
        UsageError: one was given.
    """
    for option, value in (("--ray-address", address), ("--scorers", scorers)):
        if value is not None:
            raise UsageError(f"{option} belongs to --engine ray.", fix="add --engine ray")


def window_rule_of(windows: str, hop: float | None, aggregate: str) -> WindowRule:
    """The rule that the options say.

    Raises:
        UsageError: they say none.
    """
    if windows in ("first", "all"):
        n_windows = 1 if windows == "first" else None
    elif windows.isdecimal() and int(windows) >= 1:
        n_windows = int(windows)
    else:
        raise UsageError(f"--windows is '{windows}'; it must be first, all, or a number from 1.")
    return WindowRule(n_windows=n_windows, hop_s=hop, aggregate=aggregate)


def n_decode_workers(workers: int | None) -> int:
    """How many files are decoded at once."""
    return workers or max(1, min(DECODE_WORKERS, usable_cores()))


def require_isolation(*, fix: str) -> None:
    """Refuse decoding in processes where they could share no memory.

    Raises:
        UsageError: this is no Linux.
    """
    if not can_isolate():
        raise UsageError(
            "Decoding in processes needs memfd_create, which this system does not have.", fix=fix
        )


@contextmanager
def decoders_for(
    n_files: int | None, workers: int | None, where: DecodeIn | None
) -> Iterator[tuple[Decoders, int]]:
    """Decoders and how many work at once.

    Raises:
        UsageError: processes are wanted on a system that has no memory to share with them.
    """
    n_workers = n_decode_workers(workers)
    if where == "processes":
        require_isolation(fix="--decode-in threads")
    if where is None:
        many = n_files is None or n_files >= PROCESSES_FROM
        where = "processes" if many and can_isolate() else "threads"
    decoders: Decoders = InProcesses(n_workers) if where == "processes" else InThreads()
    try:
        yield decoders, n_workers
    finally:
        decoders.close()


def list_inputs(
    inputs: list[str] | None, lists: list[str] | None, root: Path | None = None
) -> list[str]:
    """All that was named, files first.

    Raises:
        UsageError: a list of paths together with the folder of a protocol's utterances.
    """
    if root is not None and lists:
        raise UsageError(
            "--list names paths; --root says where the utterances of a protocol lie.",
            fix="give the protocol as an input, without --list",
        )
    return [*(inputs or []), *("-" if one == "-" else f"@{Path(one)}" for one in lists or [])]


def refuse_combinations(
    output: Path | None,
    row_format: RowFormat,
    *,
    resume: bool,
    sharded: bool,
    window_scores: bool,
) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: they do not.
    """
    for option, given in (("--resume", resume), ("--shard", sharded)):
        if given and output is None:
            raise UsageError(f"{option} needs a file that can be gone on with.", fix="-o FILE")
    for option, given in (("--shard", sharded), ("--window-scores", window_scores)):
        if given and row_format == "txt":
            raise UsageError(
                f"{option} does not go with txt, which has a line for scored files only, and the "
                "score alone.",
                fix="use csv; `aasist-deploy convert` makes txt of it",
            )


@contextmanager
def saying_how_to_go_on(output: Path | None) -> Iterator[None]:
    """After Ctrl-C, say what the output holds."""
    try:
        yield
    except KeyboardInterrupt:
        found = output and (read_journal(output) or read_journal(work_file(output)))
        if found:
            stderr.print(
                f"stopped: {output} holds {found[1].n_inputs} rows; the same command with --resume "
                "goes on",
                markup=False,
            )
        raise
