from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import TrialsError
from aasist_deploy.trials import (
    load_dataset,
    parse_protocol_5_track_1,
    parse_protocol_5_track_2,
)

if TYPE_CHECKING:
    from pathlib import Path

TRACK_1 = """\
D_0062 D_01 F - - - AC1 A11 spoof -
D_0755 D_02 M C05 3 D_99 AC2 A16 spoof -
D_0106 D_03 M - - - - bonafide bonafide -
"""
TRACK_2 = """\
D_0062 D_01 F A11 spoof
D_0106 D_03 M bonafide target
D_0755 D_03 M bonafide nontarget
"""


def make_corpus(root: Path, folder: str = "") -> Path:
    protocols = root / folder
    protocols.mkdir(exist_ok=True)
    (protocols / "ASVspoof5.dev.track_1.tsv").write_text(TRACK_1)
    (protocols / "ASVspoof5.train.tsv").write_text(TRACK_1)
    (protocols / "ASVspoof5.dev.track_2.trial.tsv").write_text(TRACK_2)
    return root


@pytest.mark.parametrize("folder", ["", "ASVspoof5_protocols"])
def test_track_1_has_codec_and_attack_conditions(tmp_path: Path, folder: str) -> None:
    dataset = load_dataset("asvspoof5-t1", make_corpus(tmp_path, folder), "dev")
    first, second, third = dataset.trials
    assert first.path == tmp_path / "flac_D" / "D_01.flac"
    assert (first.label, first.attack, first.speaker) == ("spoof", "A11", "D_0062")
    assert (third.label, third.attack) == ("bonafide", "-")
    assert first.conditions["codec"] == "none"
    assert second.conditions == {
        "gender": "M",
        "codec": "C05",
        "codec_quality": "3",
        "attack_tag": "AC2",
    }
    assert dataset.metrics == "asvspoof5-t1"


def test_train_split_takes_its_own_protocol_and_folder(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof5-t1", make_corpus(tmp_path), "train")
    assert dataset.protocol.name == "ASVspoof5.train.tsv"
    assert dataset.trials[0].path.parent == tmp_path / "flac_T"


def test_evaluation_audio_lies_in_flac_e_eval(tmp_path: Path) -> None:
    (tmp_path / "ASVspoof5.eval.track_1.tsv").write_text(TRACK_1)
    (trial, *_) = load_dataset("asvspoof5-t1", tmp_path, "eval").trials
    assert trial.path.parent == tmp_path / "flac_E_eval"


def test_track_2_scores_each_file_once_and_knows_what_track_1_says(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof5-t2", make_corpus(tmp_path), "dev")
    assert [(t.utterance, t.label, t.speaker) for t in dataset.trials] == [
        ("D_01", "spoof", "D_0062"),
        ("D_03", "bonafide", "D_0106"),
    ]
    assert dataset.trials[0].conditions["attack_tag"] == "AC1"
    assert dataset.metrics == "asvspoof5-t2"


def test_track_2_without_track_1_has_no_speakers_and_no_conditions(tmp_path: Path) -> None:
    (tmp_path / "ASVspoof5.eval.trial.tsv").write_text(TRACK_2)
    dataset = load_dataset("asvspoof5-t2", tmp_path, "eval")
    assert {(t.speaker, tuple(t.conditions)) for t in dataset.trials} == {(None, ())}


def test_track_2_has_no_train_split(tmp_path: Path) -> None:
    with pytest.raises(TrialsError, match="asvspoof5-t2 has no split 'train'"):
        load_dataset("asvspoof5-t2", make_corpus(tmp_path), "train")


def test_missing_protocol_names_the_places_looked_in(tmp_path: Path) -> None:
    with pytest.raises(
        TrialsError, match=r"has no ASVspoof5\.eval\.track_1\.tsv and no ASVspoof5_protocols/"
    ):
        load_dataset("asvspoof5-t1", make_corpus(tmp_path), "eval")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("D_1 D_04 F - - AC1 A11 spoof -", r":4 has 9 columns: .* expected 10: speaker utterance"),
        ("D_1 D_04 F - - - AC1 A11 target -", r":4: the key is 'target'"),
        ("D_1 D_01 F - - - AC1 A11 spoof -", r":4 lists the utterance 'D_01' again"),
        ("D_1 x/y F - - - AC1 A11 spoof -", r":4: the utterance 'x/y' is not a plain"),
    ],
)
def test_bad_track_1_line_is_refused_with_its_number(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "t1.tsv"
    path.write_text(TRACK_1 + line + "\n")
    with pytest.raises(TrialsError, match=message):
        parse_protocol_5_track_1(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("D_1 D_04 F spoof", r":4 has 4 columns"),
        ("D_1 D_04 F bonafide bonafide", r":4: the key is 'bonafide'; expected target"),
        ("D_1 D_04 F A11 target", r":4 is bona fide but names the attack 'A11'"),
        ("D_0062 D_01 F A11 spoof", r":4 lists 'D_01' for 'D_0062' again, after .*:1"),
        ("D_2 D_01 F bonafide target", r":4: 'D_01' is bonafide -, but .* says spoof A11"),
        ("D_2 .. F bonafide target", r":4: the utterance '\.\.' is not a plain"),
    ],
)
def test_bad_track_2_line_is_refused_with_its_number(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "t2.tsv"
    path.write_text(TRACK_2 + line + "\n")
    with pytest.raises(TrialsError, match=message):
        parse_protocol_5_track_2(path)


WORDS = st.sampled_from(["a", "..", "-", "F", "spoof", "target", "bonafide", "x/y", "\0", "é"])
LINE = st.sampled_from([5, 10]).flatmap(lambda n: st.lists(WORDS, min_size=n, max_size=n))
LINES = st.lists(LINE.map(" ".join), max_size=4)


@given(data=st.one_of(st.binary(max_size=80), LINES.map(lambda lines: "\n".join(lines).encode())))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_protocol_parsers_raise_only_trials_errors(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "random"
    path.write_bytes(data)
    for parse in (parse_protocol_5_track_1, parse_protocol_5_track_2):
        with suppress(TrialsError):
            assert all("/" not in entry.utterance for entry in parse(path))
