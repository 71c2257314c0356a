from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import TrialsError
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from pathlib import Path


def write_manifest(folder: Path, text: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text(text)
    return path


def test_manifest_takes_optional_columns_and_defaults(tmp_path: Path) -> None:
    path = write_manifest(tmp_path, "path,label\na/one.wav,bonafide\ntwo.flac,spoof\n")
    dataset = load_dataset("manifest", path, "all")
    one, two = dataset.trials
    assert (one.utterance, one.path, one.attack, one.speaker) == (
        "one",
        tmp_path / "a" / "one.wav",
        "-",
        None,
    )
    assert (two.utterance, two.label, two.attack) == ("two", "spoof", "-")
    path = write_manifest(
        tmp_path, "label,path,attack,speaker,utterance\nspoof,x.wav,VC1,anna,anna_1\n"
    )
    (trial,) = load_dataset("manifest", tmp_path, "all").trials
    assert (trial.utterance, trial.attack, trial.speaker) == ("anna_1", "VC1", "anna")


def test_manifest_split_takes_the_lines_of_that_split(tmp_path: Path) -> None:
    write_manifest(tmp_path, "path,label,split\na.wav,spoof,dev\nb.wav,bonafide,eval\n")
    assert [t.utterance for t in load_dataset("manifest", tmp_path, "eval").trials] == ["b"]
    assert [t.utterance for t in load_dataset("manifest", tmp_path, "all").trials] == ["a", "b"]
    with pytest.raises(TrialsError, match="no line with split 'train'; it has 'dev, eval'"):
        load_dataset("manifest", tmp_path, "train")


def test_manifest_without_split_column_has_the_split_all_only(tmp_path: Path) -> None:
    write_manifest(tmp_path, "path,label\na.wav,spoof\n")
    with pytest.raises(TrialsError, match="no column split to take 'eval' from"):
        load_dataset("manifest", tmp_path, "eval")


@pytest.mark.parametrize("name", ["../a.wav", "/etc/a.wav", "a/../../b.wav", "", ".", "a\0.wav"])
def test_manifest_path_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    write_manifest(tmp_path, f"path,label\nok.wav,spoof\n{name},spoof\n")
    with pytest.raises(TrialsError, match=r"manifest\.csv:3: the path .* does not stay under"):
        load_dataset("manifest", tmp_path, "all")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.wav,spoof\n", r":1 lacks the column path; it has 'file, label'"),
        ("", r":1 lacks the column label and path"),
        ("path,label\n", r"manifest\.csv has no line\."),
        ("path,label\na.wav\n", r":2 does not have the 2 columns"),
        ("path,label\na.wav,spoof,x\n", r":2 does not have the 2 columns"),
        ("path,label\na.wav,real\n", r":2: the key is 'real'"),
        ("path,label\na b.wav,spoof\n", r":2: the utterance 'a b' holds blanks"),
        ("path,label,attack\na.wav,spoof,T 1\n", r":2: the attack 'T 1' holds blanks"),
        ("path,label,utterance\na.wav,spoof,x/y\n", r":2: the utterance 'x/y' is not a plain"),
        ("path,label\na/x.wav,spoof\nb/x.wav,spoof\n", r":3 lists the utterance 'x' again"),
        ('path,label\n"a.wav,spoof\n', r"is not valid CSV"),
    ],
)
def test_bad_manifest_is_refused_with_file_and_line(
    tmp_path: Path, text: str, message: str
) -> None:
    write_manifest(tmp_path, text)
    with pytest.raises(TrialsError, match=message):
        load_dataset("manifest", tmp_path, "all")


LINES = st.lists(
    st.lists(st.sampled_from(["a", "..", "-", "A07", "spoof", "bonafide", "x/y", "é", "\0", ""])),
    max_size=4,
)


@given(data=st.one_of(st.text(max_size=80).map(str.encode), LINES.map(lambda r: _join(r, ","))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_manifest_parser_raises_only_trials_errors(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "random"
    path.write_bytes(b"path,label,attack\n" + data)
    with suppress(TrialsError):
        trials = load_dataset("manifest", path, "all").trials
        assert all(trial.path.resolve().is_relative_to(tmp_path.resolve()) for trial in trials)


def _join(rows: list[list[str]], separator: str) -> bytes:
    return "\n".join(separator.join(row) for row in rows).encode()


def test_any_further_column_becomes_a_condition(tmp_path: Path) -> None:
    write_manifest(
        tmp_path, "path,label,codec,noise level\na.wav,spoof,opus,\nb.wav,spoof,, 5 dB\n"
    )
    first, second = load_dataset("manifest", tmp_path, "all").trials
    assert first.conditions == {"codec": "opus", "noise level": "-"}
    assert second.conditions == {"codec": "-", "noise level": "5 dB"}


@pytest.mark.parametrize("header", ["path,label,codec,codec", "path,label,", "path,label, "])
def test_condition_without_a_name_of_its_own_is_refused(tmp_path: Path, header: str) -> None:
    write_manifest(tmp_path, f"{header}\na.wav,spoof,x\n")
    with pytest.raises(TrialsError, match=r":1 has the column .* without a name or more than once"):
        load_dataset("manifest", tmp_path, "all")


def test_manifest_may_have_bom_and_crlf(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"\xef\xbb\xbfpath,label\r\na.wav,spoof\r\n")
    (trial,) = load_dataset("manifest", tmp_path, "all").trials
    assert trial.path == tmp_path / "a.wav"
