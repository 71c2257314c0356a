from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores import SasvScores, read_sasv_scores, write_sasv_scores

if TYPE_CHECKING:
    from pathlib import Path

KEY = """\
spk\tfilename\tcm-label\tasv-label
s1\tu1\tbonafide\ttarget
s2\tu1\tbonafide\tnontarget
s1\tu2\tspoof\tspoof
"""
SCORES = """\
spk\tfilename\tcm-score\tasv-score\tsasv-score
s1\tu2\t-1.5\t0.5\t-1.0
s1\tu1\t2.5\t0.75\t3.25
s2\tu1\t2.5\t-0.5\t2.0
"""
ALONE = "s1\tu1\t-\t-\t3.25\ns2\tu1\t-\t-\t2.0\ns1\tu2\t-\t-\t-1.0\n"
HEADER = SCORES.partition("\n")[0] + "\n"


def read(folder: Path, scores: str, key: str = KEY, *, allow_missing: bool = False) -> SasvScores:
    (folder / "scores.tsv").write_text(scores)
    (folder / "key.tsv").write_text(key)
    return read_sasv_scores(folder / "scores.tsv", folder / "key.tsv", allow_missing=allow_missing)


def check(scores: SasvScores) -> None:
    assert scores.speakers == ("s1", "s2", "s1")
    assert scores.utterances == ("u1", "u1", "u2")
    assert scores.sasv is not None
    assert scores.sasv.tolist() == [3.25, 2.0, -1.0]
    assert scores.is_bonafide.tolist() == [True, True, False]
    assert scores.is_target.tolist() == [True, False, False]
    assert scores.is_nontarget.tolist() == [False, True, False]
    assert scores.is_spoof.tolist() == [False, False, True]


def test_scores_are_joined_in_the_order_of_the_key(tmp_path: Path) -> None:
    scores = read(tmp_path, SCORES)
    check(scores)
    assert scores.cm is not None
    assert scores.asv is not None
    assert scores.cm.tolist() == [2.5, 2.5, -1.5]
    assert scores.asv.tolist() == [0.75, -0.5, 0.5]
    assert scores.missing == scores.extra == ()


def test_protocol_of_the_release_is_a_key(tmp_path: Path) -> None:
    key = "s1 u1 F bonafide target\ns2 u1 F bonafide nontarget\ns1 u2 F A17 spoof\n"
    check(read(tmp_path, SCORES, key))


def test_dashes_stand_for_a_column_that_is_not_there(tmp_path: Path) -> None:
    scores = read(tmp_path, HEADER + ALONE)
    check(scores)
    assert (scores.cm, scores.asv) == (None, None)


def test_mismatch_is_counted_on_both_sides(tmp_path: Path) -> None:
    other = SCORES.replace("s2\tu1", "s3\tu1")
    with pytest.raises(ScoresError) as error:
        read(tmp_path, other)
    assert "of 3 scored 1 are not in the key ('s3 u1')" in str(error.value)
    assert "of 3 in the key 1 have no score ('s2 u1')" in str(error.value)
    scores = read(tmp_path, other, allow_missing=True)
    assert (scores.missing, scores.extra) == ((("s2", "u1"),), (("s3", "u1"),))
    assert scores.is_target.tolist() == [True, False]


def test_nothing_shared_is_refused_in_any_case(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="of 1 scored 1 are not in the key"):
        read(tmp_path, HEADER + "x\ty\t1\t1\t1\n", allow_missing=True)


@pytest.mark.parametrize(
    ("scores", "key", "message"),
    [
        ("", KEY, "lists no pairs"),
        (HEADER, KEY, "lists no pairs"),
        ("s1\tu1\t1\t1\t1\n", KEY, r"scores\.tsv:1 is .* the header spk filename cm-score"),
        (HEADER + "s1\tu1\t1\t1\n", KEY, r":2 has 4 columns: .* expected 5"),
        (HEADER + "s1\tu1\tx\t1\t1\n", KEY, r":2: the score 'x' is not a number"),
        (SCORES.replace("-1.5", "nan"), KEY, r"1 of 3 lines of .* hold NaN .*line 2: nan 0\.5"),
        (SCORES.replace("-1.5", "-"), KEY, r"1 of 3 lines have no cm-score, the others have"),
        (SCORES + "s1\tu2\t1\t1\t1\n", KEY, r":5 lists 's1 u2' again, after line 2"),
        (SCORES, "a b c\n", r"key\.tsv:1 is 'a b c'; expected the header spk filename"),
        (SCORES, KEY.replace("bonafide\ttarget", "spoof\ttarget"), r":2 has the labels 'spoof t"),
        (SCORES, KEY.replace("nontarget", "other"), r":3 has the labels 'bonafide other'"),
        (SCORES, KEY + "s1\tu1\tbonafide\ttarget\n", r":5 lists 's1 u1' again, after line 2"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(tmp_path: Path, scores: str, key: str, message: str) -> None:
    with pytest.raises(ScoresError, match=message):
        read(tmp_path, scores, key)


COLUMN = st.one_of(
    st.none(), st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3)
)


@given(columns=st.tuples(COLUMN, COLUMN, COLUMN))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_written_scores_read_back_to_the_last_bit(
    tmp_path: Path, columns: tuple[list[float] | None, ...]
) -> None:
    arrays = [None if column is None else np.array(column) for column in columns]
    truth = read(tmp_path, SCORES)
    path = tmp_path / "out.tsv"
    write_sasv_scores(
        path,
        SasvScores(
            speakers=truth.speakers,
            utterances=truth.utterances,
            cm=arrays[0],
            asv=arrays[1],
            sasv=arrays[2],
            is_bonafide=truth.is_bonafide,
            is_target=truth.is_target,
            is_nontarget=truth.is_nontarget,
            is_spoof=truth.is_spoof,
        ),
    )
    again = read_sasv_scores(path, tmp_path / "key.tsv")
    for given_column, read_column in zip(arrays, (again.cm, again.asv, again.sasv), strict=True):
        assert (given_column is None) == (read_column is None)
        if given_column is not None and read_column is not None:
            assert given_column.tobytes() == read_column.tobytes()


WORDS = st.sampled_from(["s1", "u1", "-", "1.5", "nan", "spoof", "target", "F", "\0", HEADER, KEY])


@given(
    scores=st.one_of(st.binary(max_size=60), st.lists(WORDS).map(lambda w: " ".join(w).encode())),
    key=st.one_of(st.binary(max_size=60), st.lists(WORDS).map(lambda w: " ".join(w).encode())),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_reader_raises_only_scores_errors(tmp_path: Path, scores: bytes, key: bytes) -> None:
    (tmp_path / "scores").write_bytes(scores)
    (tmp_path / "key").write_bytes(key)
    for one, other in ((SCORES.encode(), key), (scores, KEY.encode())):
        (tmp_path / "a").write_bytes(one)
        (tmp_path / "b").write_bytes(other)
        with suppress(ScoresError):
            read_sasv_scores(tmp_path / "a", tmp_path / "b")
