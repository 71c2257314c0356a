from __future__ import annotations

import gzip
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import TrialsError
from aasist_deploy.trials import dataset_names, load_dataset, parse_protocol_2019

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOL = """\
LA_01 LA_E_1 - - bonafide
LA_02 LA_E_2 - A07 spoof
LA_03 LA_E_3 - A19 spoof
"""


def make_corpus(root: Path, protocol: str = PROTOCOL) -> Path:
    folder = root / "ASVspoof2019_LA_cm_protocols"
    folder.mkdir(parents=True)
    (folder / "ASVspoof2019.LA.cm.eval.trl.txt").write_text(protocol)
    (folder / "ASVspoof2019.LA.cm.train.trn.txt").write_text(protocol)
    (root / "ASVspoof2019_LA_eval" / "flac").mkdir(parents=True)
    scores = root / "ASVspoof2019_LA_asv_scores"
    scores.mkdir()
    (scores / "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt").write_text("bonafide target 1.0\n")
    return root


def write_manifest(folder: Path, text: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text(text)
    return path


def test_2019_split_has_trials_in_protocol_order(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof2019-la", make_corpus(tmp_path), "eval")
    assert [trial.utterance for trial in dataset.trials] == ["LA_E_1", "LA_E_2", "LA_E_3"]
    assert [trial.label for trial in dataset.trials] == ["bonafide", "spoof", "spoof"]
    assert [trial.attack for trial in dataset.trials] == ["-", "A07", "A19"]
    assert dataset.trials[0].speaker == "LA_01"
    assert dataset.trials[0].path == tmp_path / "ASVspoof2019_LA_eval" / "flac" / "LA_E_1.flac"
    assert dataset.asv_scores is not None


def test_2019_train_has_no_asv_scores(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof2019-la", make_corpus(tmp_path), "train")
    assert dataset.asv_scores is None
    assert dataset.protocol.name == "ASVspoof2019.LA.cm.train.trn.txt"


def test_2019_root_may_be_the_parent_of_la(tmp_path: Path) -> None:
    make_corpus(tmp_path / "LA")
    assert len(load_dataset("asvspoof2019-la", tmp_path, "eval").trials) == 3


def test_root_that_is_no_corpus_names_the_folder_looked_for(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    with pytest.raises(TrialsError, match=r"No folder ASVspoof2019_LA_cm_protocols .* holds music"):
        load_dataset("asvspoof2019-la", tmp_path, "eval")


def test_root_that_does_not_exist_is_a_trials_error(tmp_path: Path) -> None:
    with pytest.raises(TrialsError, match="cannot be listed"):
        load_dataset("asvspoof2019-la", tmp_path / "none", "eval")


def test_unknown_dataset_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(TrialsError, match="asvspoof2019-la, manifest"):
        load_dataset("asvspoof2020", tmp_path, "eval")
    assert dataset_names() == ("asvspoof2019-la", "manifest")


def test_unknown_split_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(TrialsError, match="no split 'test'") as error:
        load_dataset("asvspoof2019-la", tmp_path, "test")
    assert error.value.fix == "Use train, dev, eval."


def test_missing_audio_is_counted_and_the_first_named(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof2019-la", make_corpus(tmp_path), "eval")
    dataset.trials[0].path.touch()
    assert [trial.utterance for trial in dataset.missing_audio()] == ["LA_E_2", "LA_E_3"]
    with pytest.raises(TrialsError, match=r"2 of 3 utterances of .* first: LA_E_2\.flac"):
        dataset.require_audio()


def test_present_audio_passes_the_check(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof2019-la", make_corpus(tmp_path), "eval")
    for trial in dataset.trials:
        trial.path.touch()
    dataset.require_audio()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("LA_01 LA_E_4 A07 spoof", r":4 has 4 columns: .* expected 5: speaker utterance"),
        ("LA_01 LA_E_4 - A07 fake", r":4: the key is 'fake'"),
        ("LA_01 LA_E_4 - A07 bonafide", r":4 is bona fide but names the attack 'A07'"),
        ("LA_01 LA_E_1 - A07 spoof", r":4 lists the utterance 'LA_E_1' again, after .*:1"),
        ("LA_01 ../../etc/x - A07 spoof", r":4: the utterance '../../etc/x' is not a plain"),
        ("LA_01 /etc/x - A07 spoof", r":4: the utterance '/etc/x' is not a plain"),
        ("LA_01 .. - A07 spoof", r":4: the utterance '\.\.' is not a plain"),
    ],
)
def test_bad_protocol_line_is_refused_with_its_number(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "protocol.txt"
    path.write_text(PROTOCOL + line + "\n")
    with pytest.raises(TrialsError, match=message):
        parse_protocol_2019(path)


def test_empty_protocol_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "protocol.txt"
    path.write_text("\n\n")
    with pytest.raises(TrialsError, match="lists no utterances"):
        parse_protocol_2019(path)


def test_protocol_reads_the_same_compressed_with_bom_and_crlf(tmp_path: Path) -> None:
    plain, other = tmp_path / "a.txt", tmp_path / "b.txt.gz"
    plain.write_text(PROTOCOL)
    other.write_bytes(gzip.compress(b"\xef\xbb\xbf" + PROTOCOL.replace("\n", "\r\n").encode()))
    assert parse_protocol_2019(plain) == parse_protocol_2019(other)


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


@given(data=st.one_of(st.binary(max_size=80), LINES.map(lambda rows: _join(rows, " "))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_protocol_parser_raises_only_trials_errors(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "random"
    path.write_bytes(data)
    with suppress(TrialsError):
        assert all("/" not in entry.utterance for entry in parse_protocol_2019(path))


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
