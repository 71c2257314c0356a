from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores import (
    ScoreLayout,
    ScoreTable,
    convert_scores,
    read_scores,
    write_scores,
)
from aasist_deploy.trials import ProtocolEntry

if TYPE_CHECKING:
    from pathlib import Path

JSONL = """\
{"utterance": "u1", "attack": "-", "key": "bonafide", "score": 0.1}
{"utterance": "u2", "attack": "A07", "key": "spoof", "score": -1e-300}
"""
LAYOUTS = get_args(ScoreLayout)
PROTOCOL = (
    ProtocolEntry(utterance="u2", label="spoof", attack="A07", speaker="s"),
    ProtocolEntry(utterance="u1", label="bonafide", attack="-", speaker="s"),
)


def table(**changes: Any) -> ScoreTable:
    fields: dict[str, Any] = {
        "utterances": ("u1", "u2"),
        "scores": np.array([0.1, -1e-300]),
        "is_bonafide": np.array([True, False]),
        "attacks": ("-", "A07"),
        **changes,
    }
    return ScoreTable(**fields)


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("2019", "u1 - bonafide 0.1\nu2 A07 spoof -1e-300\n"),
        ("2021", "u1 0.1\nu2 -1e-300\n"),
        ("asvspoof5-t1", "filename\tcm-score\nu1\t0.1\nu2\t-1e-300\n"),
        ("csv", "utterance,attack,key,score\nu1,-,bonafide,0.1\nu2,A07,spoof,-1e-300\n"),
        ("jsonl", JSONL),
    ],
)
def test_layout_is_the_official_one(tmp_path: Path, layout: ScoreLayout, text: str) -> None:
    write_scores(tmp_path / "out", table(), layout)
    assert (tmp_path / "out").read_text() == text


@pytest.mark.parametrize("layout", ["2021", "asvspoof5-t1", "csv", "jsonl"])
def test_truth_is_not_needed(tmp_path: Path, layout: ScoreLayout) -> None:
    write_scores(tmp_path / "out", table(is_bonafide=None, attacks=None), layout)
    read = read_scores(tmp_path / "out")
    assert (read.utterances, read.is_bonafide, read.attacks) == (("u1", "u2"), None, None)


def test_2019_needs_the_truth(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="the truth of these 2 scores is not known") as error:
        write_scores(tmp_path / "out", table(is_bonafide=None), "2019")
    assert "--protocol" in str(error.value.fix)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_score_that_is_not_finite_is_never_written(
    tmp_path: Path, layout: ScoreLayout, score: float
) -> None:
    with pytest.raises(ScoresError, match=r"The score of u2 is (nan|inf)"):
        write_scores(tmp_path / "out", table(scores=np.array([1.0, score])), layout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("a b", "2019"),
        ("", "2021"),
        ("spoof", "2019"),
        ("{", "2021"),
        ("\ufeffu", "asvspoof5-t1"),
        ("a\rb", "csv"),
        ("\ud800", "csv"),
    ],
)
def test_name_that_would_not_read_back_is_refused(
    tmp_path: Path, name: str, layout: ScoreLayout
) -> None:
    with pytest.raises(ScoresError):
        write_scores(tmp_path / "out", table(utterances=(name, "u2")), layout)
    assert list(tmp_path.iterdir()) == []


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
    lambda name: name not in {"bonafide", "spoof"} and not name.startswith("{")
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    scores=st.dictionaries(NAMES, st.tuples(FLOATS, NAMES, st.booleans()), min_size=1, max_size=9),
    source=st.sampled_from(LAYOUTS),
    layout=st.sampled_from(LAYOUTS),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_scores_survive_every_pair_of_layouts_to_the_last_bit(
    tmp_path: Path,
    scores: dict[str, tuple[float, str, bool]],
    source: ScoreLayout,
    layout: ScoreLayout,
) -> None:
    entries = [
        ProtocolEntry(
            utterance=name,
            label="bonafide" if genuine else "spoof",
            attack="-" if genuine else attack,
            speaker=None,
        )
        for name, (_, attack, genuine) in scores.items()
    ]
    given_table = ScoreTable(
        utterances=tuple(scores),
        scores=np.array([score for score, _, _ in scores.values()]),
        is_bonafide=np.array([entry.label == "bonafide" for entry in entries]),
        attacks=tuple(entry.attack for entry in entries),
    )
    write_scores(tmp_path / "source", given_table, source)
    entries.reverse()
    done = convert_scores(
        tmp_path / "source", tmp_path / "out", layout, entries, allow_decisions=True
    )
    read = read_scores(tmp_path / "out", entries, allow_decisions=True)
    assert done.n_scores == len(scores)
    assert read.utterances == tuple(reversed(given_table.utterances))
    assert read.scores.tobytes() == given_table.scores[::-1].tobytes()
    assert read.is_bonafide is not None
    assert given_table.is_bonafide is not None
    assert read.is_bonafide.tolist() == given_table.is_bonafide[::-1].tolist()
    assert given_table.attacks is not None
    assert read.attacks == tuple(reversed(given_table.attacks))


def test_submission_has_the_order_of_the_protocol(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("u1 - bonafide 1.5\nu2 A07 spoof -2\n")
    done = convert_scores(tmp_path / "in", tmp_path / "out", "asvspoof5-t1", PROTOCOL)
    assert (tmp_path / "out").read_text() == "filename\tcm-score\nu2\t-2.0\nu1\t1.5\n"
    assert (done.n_scores, done.has_truth) == (2, True)


@pytest.mark.parametrize("text", ["u1 1.5\n", "u1 1\nu2 2\nu3 3\n"])
def test_incomplete_submission_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "in").write_text(text)
    with pytest.raises(ScoresError, match="do not list the same utterances"):
        convert_scores(tmp_path / "in", tmp_path / "out", "asvspoof5-t1", PROTOCOL)
    assert not (tmp_path / "out").exists()


def test_submission_without_a_protocol_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("u1 1.5\n")
    with pytest.raises(ScoresError, match="no protocol is given"):
        convert_scores(tmp_path / "in", tmp_path / "out", "asvspoof5-t1")
