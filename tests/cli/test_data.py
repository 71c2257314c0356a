"""`aasist-deploy data`: terms on stderr, results on stdout, exit code 1 when not whole."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from aasist_deploy.cli import app
from aasist_deploy.corpora import CORPORA, MIRROR_VARIABLE, Archive, Corpus, Count

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOLS = "LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the one archive of the made-up corpus tiny: two trials in each split."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for split, suffix in (("train", "train.trn"), ("dev", "dev.trl"), ("eval", "eval.trl")):
            lines = f"S1 {split}_1 - - bonafide\nS2 {split}_2 - A07 spoof\n"
            archive.writestr(f"{PROTOCOLS}.{suffix}.txt", lines)
            for number in (1, 2):
                sound = io.BytesIO()
                soundfile.write(sound, np.zeros(16_000), 16_000, format="FLAC")
                name = f"LA/ASVspoof2019_LA_{split}/flac/{split}_{number}.flac"
                archive.writestr(name, sound.getvalue())
    content = raw.getvalue()
    corpus = Corpus(
        name="tiny",
        title="Tiny corpus",
        dataset="asvspoof2019-la",
        archives=(
            Archive(
                file="tiny.zip",
                urls=("http://127.0.0.1:1/tiny.zip",),
                about_bytes=len(content),
                n_bytes=len(content),
                md5=(hashlib.md5(content).hexdigest(),),
            ),
        ),
        splits=("train", "dev", "eval"),
        counts={"eval": Count(trials=2)},
        licence="a licence",
        citation="a paper",
        page="https://example.org/tiny",
    )
    monkeypatch.setattr("aasist_deploy.cli.data.CORPORA", {"tiny": corpus})
    monkeypatch.setattr("aasist_deploy.cli.data.corpus_of", lambda _: corpus)
    monkeypatch.setattr("aasist_deploy.download.BACKOFF_S", 0.0)
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    found = tmp_path / "folder"
    found.mkdir()
    (found / "tiny.zip").write_bytes(content)
    return found


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["data", *map(str, arguments)], env={"COLUMNS": "200"})


def test_download_shows_the_terms_and_the_next_commands(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "my corpora"
    result = run("download", "tiny", "--root", root, "--from", folder)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [
        "Tiny corpus: https://example.org/tiny",
        "licence: a licence",
        "cite: a paper",
    ]
    where = f"--dataset asvspoof2019-la --root '{root}'"
    assert result.stdout.splitlines() == [
        f"aasist-deploy data verify tiny --root '{root}'",
        f"aasist-deploy train aasist {where} --out run",
        f"aasist-deploy eval aasist {where} --split eval --out results",
    ]
    assert (root / "LA/ASVspoof2019_LA_eval/flac/eval_1.flac").is_file()


def test_download_json_says_what_was_checked(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    sha256 = hashlib.sha256((folder / "tiny.zip").read_bytes()).hexdigest()
    found = json.loads(run("download", "tiny", "--root", root, "--mirror", folder, "--json").stdout)
    assert found == {
        "corpus": "tiny",
        "root": str(root),
        "archives": [
            {
                "file": "tiny.zip",
                "source": str(folder / "tiny.zip"),
                "sha256": sha256,
                "checked": True,
                "files": 9,
                "path": str(folder / "tiny.zip"),
            }
        ],
    }


def test_an_archive_that_was_not_compared_is_told(folder: Path, tmp_path: Path) -> None:
    with (folder / "tiny.zip").open("ab"), zipfile.ZipFile(folder / "tiny.zip", "a") as archive:
        archive.writestr("LA/more.txt", "more")
    root = tmp_path / "root"
    refused = run("download", "tiny", "--root", root, "--from", folder)
    assert refused.exit_code == 1  # the exception; main turns it into 3
    assert "where" in str(refused.exception)
    result = run("download", "tiny", "--root", root, "--from", folder, "--any-checksum")
    assert result.exit_code == 0
    assert "tiny.zip: no checksum of its publisher was compared; recorded sha256" in result.stderr


def test_archives_only_prints_where_they_are(folder: Path, tmp_path: Path) -> None:
    result = run("download", "tiny", "--root", tmp_path, "--from", folder, "--archives-only")
    assert result.stdout == f"archives: {tmp_path / 'archives'}\n"
    assert (tmp_path / "archives" / "tiny.zip").is_file()


def test_verify_exits_with_one_when_something_is_missing(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    run("download", "tiny", "--root", root, "--from", folder)
    whole = run("verify", "tiny", "--root", root, "--deep")
    assert whole.exit_code == 0, whole.output
    assert whole.stdout.rstrip().endswith("\nwhole")
    assert "tiny.zip: unpacked" in whole.stdout
    (root / "LA/ASVspoof2019_LA_dev/flac/dev_2.flac").unlink()
    lacking = run("verify", "tiny", "--root", root)
    assert lacking.exit_code == 1
    assert "dev: missing: dev_2" in lacking.stdout
    found = run("verify", "tiny", "--root", root, "--split", "dev", "--json")
    assert found.exit_code == 1
    (split,) = json.loads(found.stdout)["splits"]
    assert (split["split"], split["n_missing"], split["missing"]) == ("dev", 1, ["dev_2"])


def test_stats_of_a_corpus_and_of_a_manifest(folder: Path, tmp_path: Path, manifest: Path) -> None:
    root = tmp_path / "root"
    run("download", "tiny", "--root", root, "--from", folder)
    table = run("stats", "tiny", "--root", root).stdout
    assert [line.split() for line in table.splitlines() if line.split()[:1] == ["trials"]] == [
        ["trials", "2", "2", "2"]
    ]
    found = json.loads(run("stats", "tiny", "--root", root, "--deep", "--json").stdout)
    assert [split["split"] for split in found["splits"]] == ["train", "dev", "eval"]
    assert {split["second_decoder"] for split in found["splits"]} == {0}
    (split,) = json.loads(run("stats", "manifest", "--root", manifest, "--json").stdout)["splits"]
    assert (split["split"], split["trials"], split["bonafide"]) == ("all", 5, 2)
    assert split["attacks"] == {"A1": 1, "A2": 1, "A3": 1}


def test_stats_of_the_real_clips(shared: Path) -> None:
    root = shared / "data" / "LA_mini"
    found = json.loads(run("stats", "asvspoof2019-la", "--root", root, "--json").stdout)
    trials = {split["split"]: split["trials"] for split in found["splits"]}
    assert trials == {"train": 278, "dev": 105, "eval": 29}
    assert {split["missing"] + split["unreadable"] for split in found["splits"]} == {0}


@pytest.mark.parametrize("verb", ["download", "verify", "stats"])
def test_help_names_the_corpora_and_has_an_example(verb: str) -> None:
    page = run(verb, "--help").stdout
    flat = " ".join(page.replace("│", " ").split())
    assert f"aasist-deploy data {verb}" in flat.partition("Example")[2]
    for name in CORPORA:
        assert name in flat


def test_errors_are_one_line_and_an_exit_code(cli: Any, tmp_path: Path) -> None:
    outcome = cli("data", "verify", "asvspoof2017", "--root", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert "is not a corpus that can be fetched" in outcome.err
    outcome = cli("data", "stats", "asvspoof5", "--root", tmp_path)
    assert outcome.code == 2
    assert "ASVspoof5.train.tsv" in outcome.err


@pytest.mark.usefixtures("folder")
def test_no_network_is_told_with_the_page_of_the_corpus(cli: Any, tmp_path: Path) -> None:
    outcome = cli("data", "download", "tiny", "--root", tmp_path / "root")
    assert outcome.code == 3
    assert "tiny.zip of tiny could not be fetched: 127.0.0.1 is not reachable" in outcome.err
    assert "https://example.org/tiny" in outcome.err
