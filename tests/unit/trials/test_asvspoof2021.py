from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import TrialsError
from aasist_deploy.trials import load_dataset, parse_metadata_2021

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.trials.asvspoof2021 import Track

METADATA = {
    "LA": """\
LA_0009 LA_E_1 alaw ita_tx A07 spoof notrim eval
LA_0020 LA_E_2 g722 loc_tx bonafide bonafide notrim eval
LA_0009 LA_E_3 none loc_tx A08 spoof notrim progress
LA_0009 LA_E_4 none loc_tx bonafide bonafide trim hidden
""",
    "DF": """\
LA_0023 DF_E_1 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -
TEF2 DF_E_2 low_m4a vcc2020 Task1-team20 spoof notrim eval unknown Task1 team20 F-F E
LA_0023 DF_E_3 high_ogg asvspoof - bonafide notrim eval bonafide - - - -
""",
    "PA": """\
PA_0010 PA_E_1 R3 M3 d4 r1 m1 s4 c4 spoof notrim eval
PA_0010 PA_E_2 R3 M3 D2 - - - - bonafide notrim eval
PA_0011 PA_E_3 R1 M1 d2 r1 m1 s4 c4 spoof notrim hidden
PA_0011 PA_E_4 R1 M1 D2 - - - - bonafide trim hidden
""",
}


def make_corpus(root: Path, track: Track, keys: str = "keys/{track}") -> Path:
    folder = root / keys.format(track=track)
    (folder / "CM").mkdir(parents=True)
    (folder / "CM" / "trial_metadata.txt").write_text(METADATA[track])
    (root / f"ASVspoof2021_{track}_eval" / "flac").mkdir(parents=True)
    return root


def add_asv(root: Path, system: str = "ASVTorch_Kaldi") -> None:
    folder = root / "keys" / "LA" / "ASV"
    (folder / system).mkdir(parents=True)
    (folder / "trial_metadata.txt").touch()
    (folder / system / "score.txt").touch()


def names(root: Path, dataset: str, split: str) -> list[str]:
    return [trial.utterance for trial in load_dataset(dataset, root, split).trials]


def test_logical_access_has_codec_transmission_trim_and_subset(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof2021-la", make_corpus(tmp_path, "LA"), "eval")
    spoof, genuine = dataset.trials
    assert spoof.path == tmp_path / "ASVspoof2021_LA_eval" / "flac" / "LA_E_1.flac"
    assert (spoof.label, spoof.attack, spoof.speaker) == ("spoof", "A07", "LA_0009")
    assert (genuine.label, genuine.attack) == ("bonafide", "-")
    assert spoof.conditions == {
        "codec": "alaw",
        "transmission": "ita_tx",
        "trim": "notrim",
        "subset": "eval",
    }
    assert (dataset.metrics, dataset.asv_scores, dataset.asv_key) == ("2021", None, None)


def test_deepfake_has_compressor_source_vocoder_and_no_t_dcf(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof2021-df", make_corpus(tmp_path, "DF"), "eval")
    spoof, genuine = dataset.trials
    assert (spoof.utterance, spoof.attack) == ("DF_E_2", "Task1-team20")
    assert spoof.conditions["compressor"] == "low_m4a"
    assert spoof.conditions["source"] == "vcc2020"
    assert spoof.conditions["vocoder"] == "unknown"
    assert spoof.conditions["gender_pair"] == "F-F"
    assert (genuine.attack, genuine.conditions["vocoder"]) == ("-", "-")
    assert dataset.metrics == "eer"


def test_physical_access_has_rooms_devices_and_distances(tmp_path: Path) -> None:
    dataset = load_dataset("asvspoof2021-pa", make_corpus(tmp_path, "PA"), "eval")
    spoof, genuine = dataset.trials
    assert list(spoof.conditions.items())[:7] == [
        ("room", "R3"),
        ("microphone", "M3"),
        ("distance", "d4"),
        ("attacker_room", "r1"),
        ("attacker_microphone", "m1"),
        ("replay_device", "s4"),
        ("attacker_distance", "c4"),
    ]
    assert (spoof.attack, genuine.conditions["attacker_room"]) == ("-", "-")


@pytest.mark.parametrize(
    ("track", "split", "expected"),
    [
        ("LA", "eval", [1, 2]),
        ("LA", "progress", [3]),
        ("LA", "hidden", [4]),
        ("LA", "all", [1, 2, 3, 4]),
        ("DF", "progress", [1]),
        ("PA", "hidden", [3, 4]),
        ("PA", "hidden1", [3]),
        ("PA", "hidden2", [4]),
    ],
)
def test_split_is_the_subset(tmp_path: Path, track: Track, split: str, expected: list[int]) -> None:
    root = make_corpus(tmp_path, track)
    found = names(root, f"asvspoof2021-{track.lower()}", split)
    assert found == [f"{track}_E_{number}" for number in expected]


def test_subset_without_trials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TrialsError, match=r"trial_metadata\.txt has no trial of the subset 'hidden'"
    ):
        load_dataset("asvspoof2021-df", make_corpus(tmp_path, "DF"), "hidden")


@pytest.mark.parametrize("keys", ["keys/{track}", "{track}-keys-full/keys/{track}", "keys"])
def test_keys_are_found_where_the_archives_unpack(tmp_path: Path, keys: str) -> None:
    assert len(names(make_corpus(tmp_path, "LA", keys), "asvspoof2021-la", "all")) == 4


def test_audio_without_keys_says_which_keys_are_missing(tmp_path: Path) -> None:
    (tmp_path / "ASVspoof2021_LA_eval").mkdir()
    with pytest.raises(
        TrialsError, match=r"has no keys/LA/CM/trial_metadata\.txt .* holds ASVsp"
    ) as e:
        load_dataset("asvspoof2021-la", tmp_path, "eval")
    assert e.value.fix is not None
    assert "LA-keys-full" in e.value.fix


@pytest.mark.parametrize("system", ["ASVTorch_Kaldi", "ASVtorch_kaldi"])
def test_asv_scores_are_found_with_their_key(tmp_path: Path, system: str) -> None:
    add_asv(make_corpus(tmp_path, "LA"), system)
    dataset = load_dataset("asvspoof2021-la", tmp_path, "eval")
    folder = tmp_path / "keys" / "LA" / "ASV"
    assert (dataset.asv_scores, dataset.asv_key) == (
        folder / system / "score.txt",
        folder / "trial_metadata.txt",
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a LA_E_9 alaw ita_tx A07 spoof notrim", r":5 has 7 columns: .* expected 8: speaker"),
        ("a LA_E_9 alaw ita_tx A07 fake notrim eval", r":5: the key is 'fake'"),
        ("a LA_E_9 alaw ita_tx A07 bonafide notrim eval", r":5 is bona fide but names"),
        ("a LA_E_1 alaw ita_tx A07 spoof notrim eval", r":5 lists the utterance 'LA_E_1' again"),
        ("a ../LA_E_9 alaw ita_tx A07 spoof notrim eval", r":5: the utterance .* is not a plain"),
    ],
)
def test_bad_metadata_line_is_refused_with_its_number(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "trial_metadata.txt"
    path.write_text(METADATA["LA"] + line + "\n")
    with pytest.raises(TrialsError, match=message):
        parse_metadata_2021(path, "LA")


WORDS = st.sampled_from(["a", "..", "-", "A07", "spoof", "bonafide", "eval", "x/y", "\0", "é"])


@given(
    data=st.one_of(
        st.binary(max_size=80),
        st.lists(st.lists(WORDS, min_size=7, max_size=13).map(" ".join), max_size=4).map(
            lambda lines: "\n".join(lines).encode()
        ),
    ),
    track=st.sampled_from(["LA", "DF", "PA"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_metadata_parser_raises_only_trials_errors(
    tmp_path: Path, data: bytes, track: Track
) -> None:
    path = tmp_path / "random"
    path.write_bytes(data)
    with suppress(TrialsError):
        assert not any(re.search(r"/|\.\.", e.utterance) for e in parse_metadata_2021(path, track))
