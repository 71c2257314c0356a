from __future__ import annotations

import gzip
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import TrialsError
from aasist_deploy.trials import load_dataset, parse_protocol_2019

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
    with pytest.raises(TrialsError, match=r"has no ASVspoof2019_LA_cm_protocols/.* it holds music"):
        load_dataset("asvspoof2019-la", tmp_path, "eval")


def test_root_that_does_not_exist_is_a_trials_error(tmp_path: Path) -> None:
    with pytest.raises(TrialsError, match="cannot be listed"):
        load_dataset("asvspoof2019-la", tmp_path / "none", "eval")


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


def _join(rows: list[list[str]], separator: str) -> bytes:
    return "\n".join(separator.join(row) for row in rows).encode()


PROTOCOL_PA = """\
PA_0010 PA_E_1 aac - bonafide
PA_0010 PA_E_2 bca AB spoof
"""


def make_physical(root: Path) -> Path:
    folder = root / "PA" / "ASVspoof2019_PA_cm_protocols"
    folder.mkdir(parents=True)
    (folder / "ASVspoof2019.PA.cm.dev.trl.txt").write_text(PROTOCOL_PA)
    return root


def test_physical_access_takes_environment_and_attack_apart(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof2019-pa", make_physical(tmp_path), "dev")
    genuine, replay = dataset.trials
    assert genuine.path == tmp_path / "PA" / "ASVspoof2019_PA_dev" / "flac" / "PA_E_1.flac"
    assert (genuine.attack, replay.attack) == ("-", "AB")
    assert genuine.conditions == {
        "environment": "aac",
        "room_size": "a",
        "reverberation": "a",
        "talker_distance": "c",
        "attacker_distance": "-",
        "replay_device_quality": "-",
    }
    assert replay.conditions["attacker_distance"] == "A"
    assert replay.conditions["replay_device_quality"] == "B"
    assert (dataset.metrics, dataset.asv_scores) == ("2019", None)


def test_logical_access_has_no_conditions(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof2019-la", make_corpus(tmp_path), "eval")
    assert all(dict(trial.conditions) == {} for trial in dataset.trials)
    assert dataset.metrics == "2019"


def test_protocol_may_be_compressed_on_disk(tmp_path: Path) -> None:
    folder = tmp_path / "ASVspoof2019_LA_cm_protocols"
    folder.mkdir()
    path = folder / "ASVspoof2019.LA.cm.dev.trl.txt.gz"
    path.write_bytes(gzip.compress(PROTOCOL.encode()))
    assert load_dataset("asvspoof2019-la", tmp_path, "dev").protocol == path
