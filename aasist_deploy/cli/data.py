"""`aasist-deploy data`: fetch a corpus, check that it is whole, and count what is in it."""

import shlex
from contextlib import contextmanager
from pathlib import Path  # typer reads these annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from aasist_deploy.cli.common import JsonOption, print_json, progress_bar, stderr, stdout
from aasist_deploy.corpora import (
    CORPORA,
    Corpus,
    SplitStats,
    Verification,
    corpus_of,
    download_corpus,
    split_stats,
    trials_by_split,
    verify_corpus,
)
from aasist_deploy.trials import dataset_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

data_app = typer.Typer(
    no_args_is_help=True,
    help="Fetch a corpus, check that it is whole, and count what is in it.\n\n"
    "Example: aasist-deploy data download asvspoof2019-la --root corpora/2019",
)

CorpusArgument = Annotated[str, typer.Argument(help=f"One of: {', '.join(CORPORA)}.")]
RootOption = Annotated[Path, typer.Option(help="Folder of the corpus.")]
SplitOption = Annotated[
    list[str] | None, typer.Option("--split", help="Only this split; may be given again.")
]
DeepOption = Annotated[
    bool, typer.Option("--deep", help="Decode every file whole instead of reading its header.")
]
FilesOption = Annotated[
    int | None, typer.Option(min=1, help="Files looked at at once. Default: one for each core.")
]


@data_app.command("download")
def download_(
    corpus: CorpusArgument,
    root: RootOption,
    split: SplitOption = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            "--mirror",
            "--from",
            help="Folder or http(s) address that holds the archives, instead of their publisher. "
            "A folder's archives are used where they lie. Default: $AASIST_DEPLOY_DATA_MIRROR.",
        ),
    ] = None,
    archives_only: Annotated[
        bool,
        typer.Option("--archives-only", help="Fetch into ROOT/archives, and do not unpack."),
    ] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep ROOT/archives after unpacking.")
    ] = False,
    any_checksum: Annotated[
        bool,
        typer.Option(
            "--any-checksum",
            help="Take archives whose checksum is another than the one known, e.g. after their "
            "publisher replaced one.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Fetch and unpack again what is there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a corpus, check its archives, and unpack it as the other verbs read it.

    The same command goes on where an interrupted one stopped.

    \b
    Example:
      aasist-deploy data download asvspoof5 --split dev --root corpora/5
    """  # noqa: D301  # \b keeps the lines of the example
    chosen = corpus_of(corpus)
    _print_terms(chosen)
    with _transfers() as on_progress:
        fetched = download_corpus(
            chosen,
            root,
            splits=split or (),
            mirror=mirror,
            archives_only=archives_only,
            keep_archives=keep_archives,
            any_checksum=any_checksum,
            force=force,
            on_progress=on_progress,
        )
    for one in fetched:
        if not one.is_checked:
            stderr.print(
                f"{one.file}: no checksum of its publisher was compared; recorded sha256 "
                f"{one.sha256}",
                markup=False,
            )
    if as_json:
        archives = [
            {
                "file": one.file,
                "source": one.source,
                "sha256": one.sha256,
                "checked": one.is_checked,
                "files": one.n_files,
                "path": str(one.path) if one.path else None,
            }
            for one in fetched
        ]
        print_json({"corpus": chosen.name, "root": str(root), "archives": archives})
    elif archives_only:
        stdout.print(f"archives: {root / 'archives'}", markup=False)
    else:
        for line in _next_commands(chosen, root, split or []):
            stdout.print(line, markup=False)


@data_app.command("verify")
def verify_(
    corpus: CorpusArgument,
    root: RootOption,
    split: SplitOption = None,
    deep: DeepOption = False,
    threads: FilesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check archives, protocols, counts, and every file that the protocols name.

    Exit code 1 when something is missing, unreadable, or counted otherwise.

    \b
    Example:
      aasist-deploy data verify asvspoof2019-la --root corpora/2019 --deep
    """  # noqa: D301  # \b keeps the lines of the example
    with _files() as (on_split, on_file):
        found = verify_corpus(
            corpus_of(corpus),
            root,
            splits=split or (),
            deep=deep,
            threads=threads,
            on_split=on_split,
            on_file=on_file,
        )
    if as_json:
        print_json(found.to_json())
    else:
        _print_verification(found)
    if not found.is_whole:
        raise typer.Exit(1)


@data_app.command("stats")
def stats_(
    dataset: Annotated[
        str,
        typer.Argument(help=f"One of: {', '.join(dict.fromkeys((*CORPORA, *dataset_names())))}."),
    ],
    root: RootOption,
    split: SplitOption = None,
    deep: DeepOption = False,
    threads: FilesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count trials, classes, attacks, speakers, hours and durations of each split.

    \b
    Example:
      aasist-deploy data stats manifest --root my/manifest.csv
    """  # noqa: D301  # \b keeps the lines of the example
    name = CORPORA[dataset].dataset if dataset in CORPORA else dataset
    found = []
    with _files() as (on_split, on_file):
        for part, trials in trials_by_split(name, root, split or ()).items():
            on_split(part, len(trials))
            found.append(split_stats(part, trials, deep=deep, threads=threads, on_file=on_file))
    if as_json:
        print_json(
            {
                "dataset": name,
                "root": str(root),
                "deep": deep,
                "splits": [one.to_json() for one in found],
            }
        )
    else:
        _print_stats(found)


def _print_terms(corpus: Corpus) -> None:
    for name, text in (
        (corpus.title, corpus.page),
        ("licence", corpus.licence),
        ("cite", corpus.citation),
    ):
        stderr.print(f"{name}: {text}", style="dim", markup=False)


def _next_commands(corpus: Corpus, root: Path, splits: list[str]) -> list[str]:
    """What to type next, for the splits that are there."""
    there = corpus.splits_of(splits)
    named = [word for split in splits for word in ("--split", split)]
    where = ["--dataset", corpus.dataset, "--root", str(root)]
    commands = [["data", "verify", corpus.name, "--root", str(root), *named]]
    if {"train", "dev"} <= set(there):
        commands.append(["train", "aasist", *where, "--out", "run"])
    split = "eval" if "eval" in there else there[-1]
    commands.append(["eval", "aasist", *where, "--split", split, "--out", "results"])
    return [shlex.join(["aasist-deploy", *words]) for words in commands]


def _print_verification(found: Verification) -> None:
    table = Table("split", "trials", "expected", "missing", "unreadable", box=SIMPLE_HEAD)
    for one in found.splits:
        expected = "unknown" if one.expected is None else str(one.expected)
        table.add_row(
            one.split, str(one.trials), expected, str(one.n_missing), str(one.n_unreadable)
        )
    stdout.print(table)
    for archive in found.archives:
        stdout.print(f"{archive.file}: {archive.state}", markup=False)
    if found.problem:
        stdout.print(f"all splits: {found.problem}", markup=False)
    for one in found.splits:
        if one.problem:
            stdout.print(f"{one.split}: {one.problem}", markup=False)
        for words, names in (("missing", one.missing), ("unreadable", one.unreadable)):
            for name in names:
                stdout.print(f"{one.split}: {words}: {name}", markup=False)
    stdout.print("whole" if found.is_whole else "not whole", markup=False)


def _print_stats(found: list[SplitStats]) -> None:
    table = Table("", *(escape(one.split) for one in found), box=SIMPLE_HEAD)
    rows: dict[str, Callable[[SplitStats], Any]] = {
        "trials": lambda one: one.trials,
        "bona fide": lambda one: one.bonafide,
        "spoof": lambda one: one.spoof,
        "attacks": lambda one: ", ".join(f"{a} {n}" for a, n in one.attacks.items()) or "not named",
        "speakers": lambda one: one.speakers or "not named",
        "hours": lambda one: f"{one.hours:.3f}",
        "sample rates, Hz": lambda one: _counts(one.rates_hz, one),
        "channels": lambda one: _counts(one.channels, one),
        "seconds": lambda one: " ".join(f"{value:.2f}" for value in one.seconds.values()),
        "shorter than 64,600 samples": lambda one: one.short,
        "missing": lambda one: one.missing,
        "unreadable": lambda one: one.unreadable,
        "second decoder alone": lambda one: (
            "not decoded" if one.second_decoder is None else one.second_decoder
        ),
    }
    for name, of in rows.items():
        table.add_row(name, *(Text(str(of(one))) for one in found))
    stdout.print(table)
    stdout.print("seconds: shortest, 5 %, 25 %, median, 75 %, 95 %, longest", style="dim")


def _counts(counts: "Mapping[int, int]", one: SplitStats) -> str:
    """The only value there is, or each with its number of files."""
    if len(counts) == 1 and sum(counts.values()) == one.trials:
        return str(next(iter(counts)))
    return ", ".join(f"{value}: {n}" for value, n in counts.items()) or "-"


@contextmanager
def _transfers() -> "Iterator[Callable[[str, str, int, int | None], None]]":
    """A bar for the archive at work and what is done with it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as progress:
        tasks: dict[tuple[str, str], Any] = {}

        def advance(file: str, stage: str, done: int, total: int | None) -> None:
            key = (file, stage)
            if key not in tasks:
                for old in tasks.values():
                    progress.update(old, visible=False)
                tasks[key] = progress.add_task(f"{stage} {file}")
            progress.update(tasks[key], completed=done, total=total)

        yield advance


@contextmanager
def _files() -> "Iterator[tuple[Callable[[str, int], None], Callable[[], None]]]":
    """A bar for the files of the split at work."""
    with progress_bar("", 0) as progress:
        (task,) = progress.task_ids

        def on_split(split: str, n_files: int) -> None:
            progress.reset(task, total=n_files, description=split)

        yield on_split, lambda: progress.advance(task)
