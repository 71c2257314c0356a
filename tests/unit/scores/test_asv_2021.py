from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores import AsvScores, read_asv_scores_2021

if TYPE_CHECKING:
    from pathlib import Path

KEY = """\
s1-alaw t1-alaw alaw ita_tx bonafide target notrim eval
s2-alaw t1-alaw alaw ita_tx bonafide nontarget notrim eval
s1-alaw t2-alaw alaw ita_tx A07 spoof notrim eval
s1-alaw t3-alaw alaw ita_tx A08 spoof notrim eval
s1-none t4-none none loc_tx bonafide target notrim progress
"""
SCORES = """\
s1-alaw t1-alaw 3.5
s2-alaw t1-alaw -1
s1-alaw t2-alaw 2
s1-alaw t3-alaw 1
s1-none t4-none 9
"""
KEY_PA = """\
s t1 R1 M1 D1 - - - - target notrim hidden
s t2 R1 M1 D1 - - - - nontarget notrim hidden
s t3 R1 M1 d1 r1 m1 s2 c2 spoof notrim hidden
s t4 R1 M1 d1 r1 m1 s2 c2 spoof trim hidden
"""
SCORES_PA = "s t1 1\ns t2 2\ns t3 3\ns t4 4\n"


def read(folder: Path, scores: str, key: str, subset: str = "eval") -> AsvScores:
    (folder / "score.txt").write_text(scores)
    (folder / "trial_metadata.txt").write_text(key)
    return read_asv_scores_2021(folder / "score.txt", folder / "trial_metadata.txt", subset)


def test_scores_are_of_the_subset_by_key_and_attack(tmp_path: Path) -> None:
    asv = read(tmp_path, SCORES, KEY)
    assert (asv.target.tolist(), asv.nontarget.tolist()) == ([3.5], [-1.0])
    assert asv.spoof.tolist() == [2.0, 1.0]
    assert {name: of.tolist() for name, of in asv.spoof_by_attack.items()} == {
        "A07": [2.0],
        "A08": [1.0],
    }
    assert read(tmp_path, SCORES, KEY, "all").target.tolist() == [3.5, 9.0]


def test_hidden_trials_of_physical_access_are_two_subsets(tmp_path: Path) -> None:
    assert read(tmp_path, SCORES_PA, KEY_PA, "hidden").spoof.tolist() == [3.0, 4.0]
    assert read(tmp_path, SCORES_PA, KEY_PA, "hidden1").spoof.tolist() == [3.0]
    with pytest.raises(ScoresError, match="subset hidden2, holds no target and no nontarget"):
        read(tmp_path, SCORES_PA, KEY_PA, "hidden2")


@pytest.mark.parametrize(
    ("scores", "key", "message"),
    [
        (SCORES[:-18], KEY, r"score\.txt has fewer trials than .*trial_metadata\.txt"),
        (
            SCORES + "s1-none t5-none 9\n",
            KEY,
            r"trial_metadata\.txt has fewer trials than .*score\.txt",
        ),
        (SCORES.replace("t2-", "t9-"), KEY, r":3 scores 't9-alaw', but .*:3 is 't2-alaw'"),
        (SCORES.replace(" 2\n", "\n"), KEY, r":3 is 's1-alaw t2-alaw'; expected claimed-speaker"),
        (SCORES.replace(" 2\n", " nan\n"), KEY, r":3: the score is nan"),
        (SCORES, KEY.replace(" target", " genuine"), r":1: the key is 'genuine'"),
        (SCORES, KEY.replace("A08 spoof", "spoof"), r":4 has 7 columns; expected 8 \(LA\) or 12"),
        (SCORES, KEY.replace(" nontarget", " target"), "holds no nontarget scores"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, scores: str, key: str, message: str
) -> None:
    with pytest.raises(ScoresError, match=message):
        read(tmp_path, scores, key)


@given(scores=st.binary(max_size=60), key=st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_reader_raises_only_scores_errors(tmp_path: Path, scores: bytes, key: bytes) -> None:
    for name, data in (("a", scores), ("b", key), ("s", SCORES.encode()), ("k", KEY.encode())):
        (tmp_path / name).write_bytes(data)
    for one, other in (("a", "b"), ("a", "k"), ("s", "b")):
        with suppress(ScoresError):
            read_asv_scores_2021(tmp_path / one, tmp_path / other, "all")
