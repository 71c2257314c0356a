"""The ways that files and rows can take: the command line as a user gives it, and a server.

`score_routes` says what must come out of them.
"""

from __future__ import annotations

import csv
import http.client
import io
import json
import subprocess
import tarfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.journal import read_journal
from benchmarks.serve_load import COMMAND, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SPLITS: Final = {"train": "trn", "dev": "trl", "eval": "trl"}  # and the end of the protocol's name
CLIENTS: Final = 8
FILES_OF_A_FORM: Final = 4
PATIENCE_S: Final = 1_800.0  # of one command


@dataclass(kw_only=True)
class Found:
    """What came out of a route: a row for each clip, in the order in which they came."""

    names: list[str]
    scores: list[float]  # NaN where there is an error
    content: bytes | None = None  # of an output that names files as the local one does
    exit_codes: list[int] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Route:
    """A way, and what is promised of it beside the bounds: bytes, digits or batches of its own."""

    name: str
    run: Callable[[], Found]
    promise: str


class Routes:
    """All ways of the clips through one model on one backend.

    Args:
        folder: An empty one.
        root: A folder in the layout of ASVspoof 2019 LA.
        model: Exported file.
        options: Of `score`, `eval` and `serve` alike.
        splits: Of which the clips are.
    """

    def __init__(
        self, folder: Path, root: Path, model: Path, options: list[str], splits: Sequence[str]
    ) -> None:
        self.folder, self.root, self.model, self.options = folder, root, model, options
        self.protocols = {
            split: root
            / f"ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{split}.{SPLITS[split]}.txt"
            for split in splits
        }
        # In the order of the protocols, so that each split is a run of the list.
        self.clips = [
            self.audio(split) / f"{line.split()[1]}.flac"
            for split, protocol in self.protocols.items()
            for line in protocol.read_text(encoding="utf-8").splitlines()
        ]
        self.list = folder / "all.txt"
        self.list.write_text("".join(f"{clip}\n" for clip in self.clips), encoding="utf-8")

    def audio(self, split: str) -> Path:
        """The folder of a split's files."""
        return self.root / f"ASVspoof2019_LA_{split}" / "flac"

    def all(self) -> list[Route]:
        """Each way; the first is what the others are compared with."""
        workers = "--decode-workers"
        return [
            Route(name="local, 1 decode worker", promise="bytes",
                  run=lambda: self.listed("local-1", workers, "1")),
            Route(name="local, 8 decode workers in threads", promise="bytes",
                  run=lambda: self.listed("threads", workers, "8", "--decode-in", "threads")),
            Route(name="local, 8 decode workers in processes", promise="bytes",
                  run=lambda: self.listed("processes", workers, "8", "--decode-in", "processes")),
            Route(name="list on standard input", promise="bytes", run=self.stdin),
            Route(name="killed twice and resumed", promise="bytes", run=self.killed),
            Route(name="3 shards, merged", promise="batches", run=self.shards),
            Route(name="protocols with --root", promise="batches", run=self.by_protocol),
            Route(name="eval of each split", promise="batches", run=self.evaluated),
            Route(name="tar", promise="digits", run=self.tar),
            Route(name="WebDataset, 3 shards, one gzipped", promise="digits", run=self.webdataset),
            Route(name="Parquet", promise="digits", run=self.parquet),
            Route(name="Ray, 1 decoding task", promise="bytes",
                  run=lambda: self.listed("ray-1", "--engine", "ray", workers, "1")),
            Route(name="Ray, 8 decoding tasks", promise="bytes",
                  run=lambda: self.listed("ray-8", "--engine", "ray", workers, "8")),
            Route(name="Ray, killed, resumed locally", promise="bytes", run=self.ray_killed),
            Route(name=f"HTTP, {CLIENTS} clients, 1 decode worker", promise="batches",
                  run=lambda: self.served(1, 1)),
            Route(name=f"HTTP, {CLIENTS} clients, 8 decode workers, {FILES_OF_A_FORM} files a form",
                  promise="batches", run=lambda: self.served(8, FILES_OF_A_FORM)),
        ]  # fmt: skip

    def command(self, verb: str, *arguments: object) -> list[str]:
        """A command line."""
        return [COMMAND, verb, str(self.model), *map(str, arguments), *self.options]

    def call(self, command: list[str], stdin: bytes | None = None) -> int:
        """Run a command outside of the repository; its exit code, 0 or 1."""
        done = subprocess.run(
            command, cwd=self.folder, input=stdin, capture_output=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        said = done.stderr.decode(errors="replace")
        if done.returncode not in (0, 1) or "Traceback" in said:
            raise RuntimeError(f"exit code {done.returncode}: {said[-500:]}")
        return done.returncode

    def scored(self, name: str, *arguments: object, stdin: bytes | None = None) -> Found:
        """`score` of some inputs into a file."""
        output = self.folder / f"{name}.csv"
        return rows_of(output, self.call(self.command("score", *arguments, "-o", output), stdin))

    def packed(self, name: str, archive: object) -> Found:
        """`score` of archives, whose rows name the files in another way."""
        found = self.scored(name, archive)
        found.content = None
        return found

    def listed(self, name: str, *options: str) -> Found:
        """`score` of the list."""
        return self.scored(name, "--list", self.list, *options)

    def stdin(self) -> Found:
        """The list on standard input."""
        return self.scored("stdin", "-", stdin=self.list.read_bytes())

    def killed(self) -> Found:
        """SIGKILL at a third and at two thirds."""
        kept = [self.kill_at("killed", part / 3) for part in (1, 2)]
        found = self.listed("killed", "--resume")
        found.facts["rows_kept_at_kills"] = kept
        return found

    def ray_killed(self) -> Found:
        """A run on Ray that is killed half way, and gone on with in one process."""
        kept = self.kill_at("ray-killed", 1 / 2, "--engine", "ray")
        found = self.listed("ray-killed", "--resume")
        found.facts["rows_kept_at_kills"] = [kept]
        return found

    def kill_at(self, name: str, part: float, *options: str) -> int:
        """Begin or go on, and kill; rows that are certain then."""
        output = self.folder / f"{name}.csv"
        given = ("--list", self.list, "-o", output, "--resume", *options)
        process = subprocess.Popen(
            self.command("score", *given), cwd=self.folder, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while certain_rows(output) < part * len(self.clips):
                if process.poll() is not None:
                    raise RuntimeError(f"it ended before it was killed: {process.returncode}")
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
        return certain_rows(output)

    def shards(self) -> Found:
        """Three runs, and `merge`."""
        parts = [self.folder / f"part-{index}.csv" for index in (1, 2, 3)]
        codes = [
            self.listed(part.stem, "--shard", f"{index}/3").exit_codes[0]
            for index, part in enumerate(parts, start=1)
        ]
        output = self.folder / "merged.csv"
        codes.append(self.call([COMMAND, "merge", *map(str, parts), "-o", str(output)]))
        found = rows_of(output, 0)
        found.exit_codes = codes
        return found

    def by_protocol(self) -> Found:
        """One run for each protocol."""
        return joined(
            self.scored(f"protocol-{split}", protocol, "--root", self.audio(split))
            for split, protocol in self.protocols.items()
        )

    def evaluated(self) -> Found:
        """`eval` of each split; its score file."""
        return joined(map(self._evaluated, self.protocols))

    def _evaluated(self, split: str) -> Found:
        out = self.folder / f"eval-{split}"
        given = ("--dataset", "asvspoof2019-la", "--root", self.root, "--split", split)
        code = self.call(self.command("eval", *given, "--out", out))
        rows = [json.loads(line) for line in (out / "rows.jsonl").read_bytes().splitlines()]
        return Found(
            names=[row["utterance"] for row in rows],
            scores=[np.nan if row["score"] is None else row["score"] for row in rows],
            exit_codes=[code],
        )

    def tar(self) -> Found:
        """All clips in an archive."""
        path = self.folder / "all.tar"
        with tarfile.open(path, "w") as archive:
            for clip in self.clips:
                archive.add(clip, clip.name)
        return self.packed("tar", path)

    def webdataset(self) -> Found:
        """Shards with a label and a description beside each clip, named by a pattern."""
        third = -(-len(self.clips) // 3)
        for index in range(3):
            packed = index == 1
            name = f"shard-{index}.tar{'.gz' * packed}"
            with tarfile.open(self.folder / name, "w:gz" if packed else "w") as archive:
                for clip in self.clips[index * third : (index + 1) * third]:
                    archive.add(clip, f"./{clip.name}")
                    for suffix, text in (("cls", b"1"), ("json", b"{}")):
                        beside = tarfile.TarInfo(f"./{clip.stem}.{suffix}")
                        beside.size = len(text)
                        archive.addfile(beside, io.BytesIO(text))
        return self.packed("webdataset", "shard-*.tar*")

    def parquet(self) -> Found:
        """A column of structs of bytes and path."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        audio = [{"bytes": clip.read_bytes(), "path": clip.name} for clip in self.clips]
        pq.write_table(pa.table({"audio": audio}), self.folder / "all.parquet", row_group_size=50)
        return self.packed("parquet", self.folder / "all.parquet")

    def served(self, n_workers: int, n_files: int) -> Found:
        """A server, and clients beside one another, each with its next clips."""
        options = [*self.options, "--decode-workers", str(n_workers), "--timeout", "300"]
        server = Server(str(self.folder), self.model, options)
        some = [self.clips[i : i + n_files] for i in range(0, len(self.clips), n_files)]
        try:
            with ThreadPoolExecutor(CLIENTS) as pool:
                answers = list(pool.map(lambda clips: asked(server.port, clips), some))
            server.process.terminate()
            code = server.process.wait(120)
        finally:
            server.process.kill()
        statuses = Counter(str(status) for status, _ in answers)
        rows = [row for _, answer in answers for row in answer.get("files", ())]
        return Found(
            names=[Path(row["file"]).stem for row in rows],
            scores=[np.nan if row["score"] is None else row["score"] for row in rows],
            exit_codes=[code],
            facts={"answers": dict(statuses)},
        )


def asked(port: int, clips: list[Path]) -> tuple[int, dict[str, Any]]:
    """One request: a body that is the clip, or a form of several."""
    if len(clips) == 1:
        where, kind, body = f"/score?name={clips[0].name}", "audio/flac", clips[0].read_bytes()
    else:
        where, kind = "/score", "multipart/form-data; boundary=next-clip"
        head = '--next-clip\r\nContent-Disposition: form-data; name="file"; filename="{}"\r\n\r\n'
        parts = (head.format(clip.name).encode() + clip.read_bytes() + b"\r\n" for clip in clips)
        body = b"".join(parts) + b"--next-clip--\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request("POST", where, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def certain_rows(output: Path) -> int:
    """Rows that a journal vouches for."""
    found = read_journal(output)
    return 0 if found is None else found[1].n_inputs


def rows_of(output: Path, code: int) -> Found:
    """Rows of a CSV file, named by utterance."""
    content = output.read_bytes()
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    return Found(
        names=[Path(row["path"]).stem for row in rows],
        scores=[np.nan if row["error"] else float(row["score"]) for row in rows],
        content=content,
        exit_codes=[code],
    )


def joined(parts: Iterable[Found]) -> Found:
    """Several outputs as one."""
    whole = Found(names=[], scores=[])
    for part in parts:
        whole.names += part.names
        whole.scores += part.scores
        whole.exit_codes += part.exit_codes
    return whole
