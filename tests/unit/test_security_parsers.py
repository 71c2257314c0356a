"""Every parser of text and JSON that we own: any bytes give a result or an error of ours.

`READERS` is the list of docs/security.md. What is read is arbitrary bytes, and a valid file with
bytes changed, pieces cut out, hostile words put in, or values of its JSON replaced. More than the
default number of examples: `--hypothesis-profile=fuzz`.
"""

from __future__ import annotations

import json
from contextlib import nullcontext, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

import pytest

pytest.importorskip("torch", reason="recipes and states of training need it")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.audio import find_audio
from aasist_deploy.bench.ratios import read_earlier
from aasist_deploy.calibration import Calibration
from aasist_deploy.cli.project import load_project
from aasist_deploy.contract import ModelContract
from aasist_deploy.corpora._state import read_stamp
from aasist_deploy.errors import AasistDeployError
from aasist_deploy.inputs import NamedInputs
from aasist_deploy.journal import read_journal
from aasist_deploy.pipeline.merge import merge_shards
from aasist_deploy.plan_file import PlanContract, read_plan_contract
from aasist_deploy.report import read_system
from aasist_deploy.report._systems import read_robustness
from aasist_deploy.scores import (
    read_asv_scores,
    read_asv_scores_2021,
    read_sasv_scores,
    read_scores,
)
from aasist_deploy.streaming.journal import RowsFile
from aasist_deploy.trainer.log import read_rows
from aasist_deploy.trainer.recipe import load_recipe
from aasist_deploy.trainer.state import read_state
from aasist_deploy.trials import load_dataset, read_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Another number in a profile (`fuzz` in tests/conftest.py) counts; the default would take a minute.
N_EXAMPLES: Final = 40 if settings().max_examples == 100 else settings().max_examples
HANG_MS: Final = 10_000  # of one file of a few kilobytes, beside other work
DEEP: Final = 3_000  # brackets; Python's parsers give up at about a thousand
RUN: Final = {"shard": "1/1", "format": "csv", "columns": ["path", "score"], "window": None}

# Words at which parsers trip; each was put into every reader's file.
WORDS: Final = (
    b"[" * DEEP, b'{"a":' * DEEP, b"9" * 5_000, b"1e999", b"-1", b"NaN", b"null", b"true", b"{}",
    b"[]", b'"', b"'", b"\n", b"\r", b"\0", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000",
    b"../", b"/etc/passwd", b"x" * 5_000, b"\x1f\x8b", b"PK\x03\x04", b"\xef\xbb\xbf", b",", b" ",
)  # fmt: skip
# Words that are JSON values, for a value of a JSON file.
VALUES: Final = (
    b"[" * DEEP + b"]" * DEEP, b"9" * 5_000, b"1e999", b"-1e999", b"NaN", b"Infinity", b"null",
    b"true", b"0", b"-1", b"1.5", b"1e300", b'""', b'"\\ud800"', b'"\\u0000"', b'"../../x"',
    b'"/etc/passwd"', b"{}", b"[]", b"[[]]", b'{"a": {}}', b"1" + b"0" * 300,
    json.dumps("x" * 5_000).encode(),
)  # fmt: skip
MARK: Final = "\x01value\x01"


class Reader(NamedTuple):
    """What reads a file of ours, and a file that it takes."""

    name: str
    read: Callable[[Path], object]
    seed: bytes


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()


CONTRACT: Final = ModelContract(
    architecture="AASIST",
    config={"architecture": "AASIST", "filts": [70, [1, 32]]},
    sample_rate_hz=16_000,
    n_samples=64_600,
    min_samples=64_600,
    outputs={"score": "logit of bona fide, (batch,)"},
    checkpoint_sha256="ab" * 32,
    calibration={"scale": 1.5, "offset": -0.25},
    thresholds={"eer": 0.5},
)
PLAN: Final = PlanContract(
    contract=CONTRACT,
    plan_sha256="ab" * 32,
    plan_bytes=10,
    onnx_sha256="cd" * 32,
    runtime="tensorrt",
    tensorrt_version="10.13.3.9",
    cuda_version="13.0",
    gpu_name="NVIDIA H200",
    sm="9.0",
    profiles=((1, 8, 32),),
    tf32=False,
    build={},
)
CONF: Final = {
    "database_path": "./LA/", "batch_size": 12, "num_epochs": 7, "track": "LA",
    "freq_aug": "True", "loss": "CCE", "asv_score_path": "a", "model_path": "m",
    "eval_all_best": "True", "eval_output": "s", "cudnn_deterministic_toggle": "False",
    "cudnn_benchmark_toggle": "False",
    "model_config": {"architecture": "RawNetGatSpoofST", "nb_samp": 64600, "first_conv": 128,
                     "filts": [70, [1, 32], [32, 32], [32, 64], [64, 64]]},
    "optim_config": {"optimizer": "adam", "amsgrad": "True", "base_lr": 0.001, "lr_min": 0.0001,
                     "betas": [0.8, 0.9], "weight_decay": 0.01, "scheduler": "cosine"},
}  # fmt: skip
RECIPE: Final = b"""\
[model]
architecture = "AASIST"
filts = [70, [1, 32]]
[training]
epochs = 3
[optimizer]
betas = [0.9, 0.99]
"""


def beside(name: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    """A reader of a file that it finds by its place: the content goes to `name` in a folder."""

    def call(path: Path) -> object:
        target = path.parent / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        return read(path.parent)

    return call


def _contract(path: Path) -> object:
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # as `read_plan_contract` does before
        return None
    if not isinstance(values, dict):
        return None
    contract = ModelContract.from_dict(values, path)
    return None if contract.calibration is None else Calibration.from_dict(contract.calibration)


def _with_sums(journal: Path) -> None:
    """Make the check sums of its lines right, as someone who means harm would."""
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(b"".join(b"%08x %s\n" % (crc32(line), line) for line in lines))


def _scan_journal(folder: Path) -> None:
    _with_sums(folder / "out.jsonl.journal")
    (folder / "out.jsonl").write_bytes(b"head\none\n")
    RowsFile(folder / "out.jsonl", {"hop": 1}, "head\n", resume=True).__exit__(None, None, None)


def _sasv(path: Path, *, key: bool = False) -> object:
    other = path.with_name("other")
    if key:
        other.write_text("spk filename cm-score asv-score sasv-score\ns u 1 2 3\n")
        return read_sasv_scores(other, path)
    other.write_text("spk filename cm-label asv-label\ns u bonafide target\n")
    return read_sasv_scores(path, other)


KEY_2021: Final = b"""\
s u1 alaw loc_tx bonafide target notrim eval
s u2 alaw loc_tx bonafide nontarget notrim eval
s u3 alaw loc_tx A07 spoof notrim eval
"""


def _asv_2021(path: Path, *, scores: bool) -> object:
    other = path.with_name("other")
    other.write_bytes(KEY_2021 if scores else b"s u1 1.0\ns u2 -1.0\ns u3 0.5\n")
    return read_asv_scores_2021(*((path, other) if scores else (other, path)), "eval")


def _report(folder: Path) -> object:
    (folder / "scores.txt").write_text("u1 - bonafide 1.0\nu2 A07 spoof -1.0\n")
    return read_system(folder)


def _merge(folder: Path) -> object:
    _with_sums(folder / "out.csv.journal")
    (folder / "out.csv").write_bytes(b"path,score\n")
    read_journal(folder / "out.csv")
    return merge_shards([folder / "out.csv"], folder / "all.csv")


def _list(path: Path) -> object:
    with NamedInputs([path]) as inputs:
        return list(inputs.files()), list(find_audio([path]))


REPORT: Final = {
    "schema": "aasist-deploy/report/1", "eer_percent": 1.0, "n_bonafide": 1, "n_spoof": 1,
    "failures": [{"utterance": "u", "path": "p", "error": "e"}], "attacks": {},
    "eer_threshold": 0.5, "created": "", "command": "", "compat": "", "min_tdcf_2019": None,
    "min_tdcf_2019_note": None, "asv": None, "environment": {}, "audio": None,
    "polarity": {"reversed": False, "negated_eer_percent": 1.0, "message": None},
    "dataset": {"name": "n", "split": None, "n_trials": 2}, "model": None,
    "backend": {"name": "n", "device": "d"},
    "timing": {"seconds": 1.0, "trials_per_second": 1.0, "audio_seconds": 1.0},
    "hardest": [{"utterance": "u", "label": "spoof", "attack": "A07", "score": 1, "margin": 1.0}],
}  # fmt: skip
MERGE_SEED: Final = (
    to_json({"schema": "aasist-deploy/journal/1", "run": RUN})
    + b"\n"
    + to_json(
        {
            "n_inputs": 0,
            "n_failed": 0,
            "n_bytes": 11,
            "crc32": crc32(b"path,score\n"),
            "inputs": "",
            "done": True,
        }
    )
)
SCAN_SEED: Final = (
    to_json({"schema": "aasist-deploy/scan-journal/1", "run": {"hop": 1}})
    + b"\n"
    + to_json({"input": {"file": 0, "path": "a.wav", "sha256": "ab"}})
    + b"\n"
    + to_json({"place": {"file": 1, "stretch": 0, "window": 0}, "bytes": 9,
               "crc32": crc32(b"head\none\n"), "ended": {"n": 1}})
    + b"\n"
)  # fmt: skip

READERS: Final = (
    Reader("contract", _contract, to_json(CONTRACT.to_dict())),
    Reader(
        "plan description",
        beside("m.plan.json", lambda f: read_plan_contract(f / "m.plan")),
        to_json(asdict(PLAN)),
    ),
    Reader("recipe, TOML", beside("r.toml", lambda f: load_recipe(f / "r.toml")), RECIPE),
    Reader("recipe, .conf", beside("r.conf", lambda f: load_recipe(f / "r.conf")), to_json(CONF)),
    Reader(
        "project file",
        beside("aasist-deploy.toml", load_project),
        b'model = "a.onnx"\nroot = "LA"\nbatch = 8\n',
    ),
    Reader("key", read_key, b"s u1 - - bonafide\ns u2 - A07 spoof\n"),
    Reader(
        "manifest",
        beside("manifest.csv", lambda f: load_dataset("manifest", f, "all")),
        b"path,label,attack,split\na.wav,bonafide,-,dev\nb.wav,spoof,A01,dev\n",
    ),
    Reader(
        "In-the-Wild",
        beside("meta.csv", lambda f: load_dataset("in-the-wild", f, "all")),
        b"file,speaker,label\n0.wav,A,spoof\n1.wav,B,bona-fide\n",
    ),
    Reader("scores, text", read_scores, b"u1 - bonafide 1.0\nu2 A07 spoof -1.0\n"),
    Reader("scores, CSV", read_scores, b"path,score,error,seconds\na.flac,1.5,,4.0\nb,-2e3,,\n"),
    Reader("scores, JSONL", read_scores, b'{"path": "a.wav", "score": 1.5, "error": null}\n'),
    Reader("ASV scores", read_asv_scores, b"A01 spoof 1.0\n- target 2.0\n- nontarget -1.0\n"),
    Reader(
        "ASV scores of 2021",
        lambda path: _asv_2021(path, scores=True),
        b"s u1 1.0\ns u2 -1.0\ns u3 0.5\n",
    ),
    Reader(
        "ASV key of 2021",
        lambda path: _asv_2021(path, scores=False),
        KEY_2021,
    ),
    Reader("SASV scores", _sasv, b"spk filename cm-score asv-score sasv-score\ns u 1 2 3\n"),
    Reader(
        "SASV key",
        lambda path: _sasv(path, key=True),
        b"spk filename cm-label asv-label\ns u bonafide target\n",
    ),
    Reader("journal", beside("out.csv.journal", _merge), MERGE_SEED),
    Reader("scan journal", beside("out.jsonl.journal", _scan_journal), SCAN_SEED),
    Reader("list of inputs", beside("l.txt", lambda f: _list(f / "l.txt")), b"a.wav\n# no\nb\n"),
    Reader("report", beside("report.json", _report), to_json(REPORT)),
    Reader(
        "robustness",
        read_robustness,
        to_json({"schema": "aasist-deploy/robustness/1", "conditions": []}),
    ),
    Reader("bench", read_earlier, to_json({"schema": "aasist-deploy/bench/1", "machine": {}})),
    Reader(
        "stamp of a corpus",
        beside(".aasist-deploy/x.zip.json", lambda f: (read_stamp(f, "x.zip"))),
        to_json({"version": 1, "file": "x.zip", "n_bytes": 1, "sha256": "a", "md5": "b",
                 "source": "", "unpacked": True, "n_files": 1, "first": "a", "last": "b"}),
    ),
    Reader(
        "log of training",
        read_rows,
        b'{"kind": "step", "epoch": 1, "step": 1, "loss": 0.5}\n'
        b'{"kind": "epoch", "epoch": 1, "step": 1}\n',
    ),
    Reader(
        "state of training",
        beside("last.json", read_state),
        to_json({"state": "checkpoints/1.pt", "sha256": "ab", "step": 1}),
    ),
)  # fmt: skip


# Readers of files that lead to further ones, which are not there.
FURTHER: Final = {"state of training": "No such file or directory"}


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a JSON value holds values, itself included."""
    found = [path]
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def replaced(value: Any, path: tuple[Any, ...], by: object) -> Any:
    if not path:
        return by
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = replaced(value[key], tuple(rest), by)
    return copy


@st.composite
def damaged(draw: st.DrawFn, seed: bytes) -> bytes:
    """Arbitrary bytes, or a file with a few changes."""
    kind = draw(st.sampled_from(("bytes", "edits", "edits", "values", "values")))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "values":
        lines = seed.splitlines()
        index = draw(st.integers(0, len(lines) - 1))
        with suppress(ValueError):
            content = json.loads(lines[index])
            where = draw(st.sampled_from(places(content)))
            text = json.dumps(replaced(content, where, MARK)).encode()
            by = draw(st.sampled_from(VALUES))
            lines[index] = text.replace(json.dumps(MARK).encode(), by)
            return b"\n".join(lines) + b"\n"
    content = bytearray(seed)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from((0, 1, 2, 8, 10**9))))
        content[start:end] = draw(st.sampled_from(WORDS) | st.binary(max_size=4))
    return bytes(content)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_its_own_file_is_not_refused_for_its_form(reader: Reader, tmp_path: Path) -> None:
    """Else the fuzzing below would never come past the first check."""
    path = tmp_path / "content"
    path.write_bytes(reader.seed)
    further = FURTHER.get(reader.name)
    with nullcontext() if further is None else pytest.raises(AasistDeployError, match=further):
        reader.read(path)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_any_bytes_give_a_result_or_an_error_of_ours(reader: Reader, tmp_path: Path) -> None:
    @settings(suppress_health_check=list(HealthCheck), deadline=HANG_MS, max_examples=N_EXAMPLES)
    @given(content=damaged(reader.seed))
    def check(content: bytes) -> None:
        path = tmp_path / "content"
        path.write_bytes(content)
        with suppress(AasistDeployError):
            reader.read(path)

    check()


def changed(reader: str, *changes: tuple[bytes, bytes]) -> tuple[str, bytes]:
    content = next(one.seed for one in READERS if one.name == reader)
    for old, new in changes:
        assert content.count(old) == 1
        content = content.replace(old, new)
    return reader, content


# What ended in other exceptions, or would have taken all memory, before it was refused.
FOUND: Final = (
    ("recipe, TOML", b"a = " + b"[" * DEEP),
    ("recipe, TOML", b"a = " + b"9" * 5_000),
    ("recipe, .conf", b"[" * DEEP),
    changed("recipe, .conf", (b'"RawNetGatSpoofST"', b'{"a": {}}')),
    ("project file", b"model = " + b"[" * DEEP),
    changed("journal", (b'{"schema"', b"[" * DEEP + b'{"schema"')),
    changed("journal", (b'{"n_inputs": 0, ', b"{")),
    changed("journal", (b'"n_inputs": 0', b'"n_inputs": 1' + b"0" * 300)),
    changed("journal", (b'"1/1"', b'"1/1' + b"0" * 18 + b'"')),
    changed("journal", (b'"1/1"', b'"1/' + b"9" * 5_000 + b'"')),
    changed("journal", (b'"format": "csv", ', b"")),
    changed("scan journal", (b'{"schema"', b"[" * DEEP + b'{"schema"')),
    changed("scan journal", (b'"stretch": 0', b'"stretch": null')),
    changed("scan journal", (b'"bytes": 9', b'"bytes": -9')),
    ("bench", b"[" * DEEP),
    ("stamp of a corpus", b"[" * DEEP),
    changed("stamp of a corpus", (b'"first": "a"', b'"first": 5')),
    ("log of training", b"[" * DEEP + b"\n"),
    ("log of training", b'{"kind": "step", "epoch": 1, "step": 1e999}\n'),
    ("state of training", b"[" * DEEP),
    changed("state of training", (b'"checkpoints/1.pt"', b"[]")),
)
TAKEN_AS_NONE: Final = {"stamp of a corpus"}  # the archive is then fetched or read again


@pytest.mark.parametrize(("name", "content"), FOUND, ids=range(len(FOUND)))
def test_what_fuzzing_found_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(content)
    reader = next(one for one in READERS if one.name == name)
    if name in TAKEN_AS_NONE:
        assert reader.read(path) is None
        return
    with pytest.raises(AasistDeployError) as raised:
        reader.read(path)
    assert len(str(raised.value)) < 5_000 + 600


def test_project_may_name_a_model_that_is_longer_than_names_of_files_can_be(tmp_path: Path) -> None:
    (tmp_path / "aasist-deploy.toml").write_text(f'model = "{"x" * 5_000}"')
    assert load_project(tmp_path).model == "x" * 5_000
