from __future__ import annotations

import gzip
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import OutputError, ScoresError
from aasist_deploy.scores import (
    ScoreRow,
    ScoreTable,
    read_asv_scores,
    read_scores,
    write_scores_txt,
)
from aasist_deploy.trials import ProtocolEntry

if TYPE_CHECKING:
    from pathlib import Path

ONCE_PER_TEST = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def entry(utterance: str, label: Literal["bonafide", "spoof"], attack: str = "-") -> ProtocolEntry:
    return ProtocolEntry(utterance=utterance, label=label, attack=attack, speaker=None)


PROTOCOL = (entry("u1", "bonafide"), entry("u2", "spoof", "A07"), entry("u3", "spoof", "A08"))


JSONL = """\
{"path": "a/u1.flac", "score": 1.5, "error": null}

{"path": "u2.wav", "score": -2, "seconds": 0.1}
{"path": "u3.flac", "score": 0.25}
"""


def scores_file(folder: Path, text: str) -> Path:
    path = folder / "scores.txt"
    path.write_text(text)
    return path


def check_three(table: ScoreTable) -> None:
    assert table.utterances == ("u1", "u2", "u3")
    assert table.scores.tolist() == [1.5, -2.0, 0.25]
    assert table.scores.dtype == np.float64
    assert table.is_bonafide is not None
    assert table.is_bonafide.tolist() == [True, False, False]


@pytest.mark.parametrize(
    "text",
    [
        "u1 - bonafide 1.5\nu2 A07 spoof -2\nu3 A08 spoof 0.25\n",
        "u1 - - bonafide 1.5\nu2 - A07 spoof -2\nu3 - A08 spoof .25\n",
        "s1 u1 - bonafide 1.5\ns1 u2 A07 spoof -2e0\ns2 u3 A08 spoof 0.25\n",
        "s1 u1 - - bonafide 1.5\ns1 u2 - A07 spoof -2\ns2 u3 - A08 spoof 0.25\n",
        "\ufeffu1\t-\tbonafide\t1.5\r\n\r\nu2 A07  spoof -2\r\nu3 A08 spoof 0.25",
    ],
    ids=["4", "5-dash", "5-speaker", "6", "4-bom-crlf-tabs"],
)
def test_layouts_with_key_and_attack_give_the_same_table(tmp_path: Path, text: str) -> None:
    table = read_scores(scores_file(tmp_path, text))
    check_three(table)
    assert table.attacks == ("-", "A07", "A08")


def test_three_columns_have_keys_and_no_attacks(tmp_path: Path) -> None:
    table = read_scores(scores_file(tmp_path, "u1 bonafide 1.5\nu2 spoof -2\nu3 spoof .25\n"))
    check_three(table)
    assert table.attacks is None


@pytest.mark.parametrize(
    "text",
    [
        "u1 1.5\nu2 -2\nu3 0.25\n",
        "path,score,error,seconds\na/u1.flac,1.5,,0.1\nu2.wav,-2,,0.1\n/x/u3.flac,0.25,,0.1\n",
        JSONL,
    ],
    ids=["2", "csv", "jsonl"],
)
def test_layouts_without_keys_take_them_from_the_protocol(tmp_path: Path, text: str) -> None:
    path = scores_file(tmp_path, text)
    table = read_scores(path, PROTOCOL)
    check_three(table)
    assert table.attacks == ("-", "A07", "A08")
    assert read_scores(path).is_bonafide is None


def test_compressed_scores_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "scores.gz"
    path.write_bytes(gzip.compress(b"u1 bonafide 1.5\nu2 spoof -2\nu3 spoof .25\n"))
    check_three(read_scores(path))


def test_negated_turns_only_the_scores_round(tmp_path: Path) -> None:
    table = read_scores(scores_file(tmp_path, "u1 bonafide 1.5\nu2 spoof -2\n"))
    assert table.negated().scores.tolist() == [-1.5, 2.0]
    assert table.negated().utterances == table.utterances


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no scores"),
        ("u1\n", r":1 has 1 columns and no key"),
        ("u1 A07 1.0\n", r":1 has 3 columns and no key: 'u1 A07 1.0'; no known layout"),
        ("u1 spoof A07 1.0\n", r":1 has 4 columns: 'u1 spoof A07 1.0'; no known layout"),
        ("a b c d e spoof 1.0\n", r":1 has 7 columns"),
        ("utt attack key score\n", "holds no scores"),
        ("wave result\nu1 1.0\n", r":1: the score 'result' is not a number"),
        ("u1 1.0\nu2 1.0 x\n", r":2 is 'u2 1.0 x', but the lines before it are utterance score"),
        (
            "u1 - - bonafide 1\ns u2 A07 spoof 2\n",
            r":2 is .* lines before it are utterance - attack",
        ),
        (
            "s u2 A07 spoof 2\nu1 - - bonafide 1\n",
            r":2 is .* lines before it are speaker utterance",
        ),
        ("u1 bonafide 1.0\nu2 fake 1.0\n", r":2: the key is 'fake'"),
        ("u1 bonafide nan\n", r":1: the score is nan"),
        ("u1 bonafide 1\nu2 spoof -inf\n", r":2: the score is -inf"),
        ("u1 bonafide 1e999\n", r":1: the score is inf"),
        ("u1 bonafide 0,5\n", r":1: the score '0,5' is not a number"),
        ("u1 bonafide 1_0\n", r":1: the score '1_0' is not a number"),
        ("u1 1.0\n\nu2 2.0\nu1 3.0\n", r":4 scores 'u1' again, after line 1"),
        ("path,score\na.flac\n", r":2 does not have the 2 columns of the header"),
        ('path,score\n"a.flac,1\n', r"is not valid CSV"),
        ("path,score\n,1\n", r":2: '' is not the path of a file"),
        ("path,score\na/u.flac,1\nb/u.flac,2\n", r":3 scores 'u' again, after line 2"),
        ('{"path": "a.flac"}\n', r":1 is .* expected an object with path and score"),
        ('{"path": 3, "score": 1}\n', r":1: '3' is not the path of a file"),
        ('{"path": "a.flac", "score": true}\n', r":1: the score 'True' is not a number"),
        ('{"path": "a.flac", "score": NaN}\n', r":1: the score is nan"),
        ('{"path": "a.flac", "score": 1' + "0" * 400 + "}\n", r":1: the score .* is not a number"),
        ('{"path": "a.flac", "score": [1]}\n', r":1: the score '\[1\]' is not a number"),
        ('{"path": \n', r":1 is not valid JSON"),
    ],
)
def test_bad_score_file_is_refused_with_file_and_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ScoresError, match=message):
        read_scores(scores_file(tmp_path, text))


def test_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ScoresError) as error:
        read_scores(scores_file(tmp_path, "a b c d e f g\n"))
    assert error.value.fix is not None
    assert "speaker utterance - attack key score" in error.value.fix


WITH_ERRORS = "path,score,error,seconds\nu1.wav,1.5,,1\nu2.wav,,cannot decode,1\nu3.wav,.25,,1\n"


def test_lines_with_errors_are_refused_with_their_count(tmp_path: Path) -> None:
    path = scores_file(tmp_path, WITH_ERRORS)
    with pytest.raises(ScoresError, match=r"1 of 3 lines .* line 3, 'u2': 'cannot decode'"):
        read_scores(path, PROTOCOL)


def test_lines_with_errors_are_left_out_when_asked_and_named(tmp_path: Path) -> None:
    path = scores_file(tmp_path, WITH_ERRORS)
    table = read_scores(path, PROTOCOL, skip_errors=True)
    assert (table.utterances, table.failed) == (("u1", "u3"), ("u2",))


def test_only_failed_lines_are_excused_from_the_protocol(tmp_path: Path) -> None:
    path = scores_file(tmp_path, WITH_ERRORS)
    with pytest.raises(ScoresError, match=r"1 have no score \('u4'\)"):
        read_scores(path, (*PROTOCOL, entry("u4", "spoof")), skip_errors=True)


def test_file_of_errors_alone_holds_no_scores(tmp_path: Path) -> None:
    path = scores_file(tmp_path, '{"path": "a.wav", "score": null, "error": "empty"}\n')
    with pytest.raises(ScoresError, match="holds no scores"):
        read_scores(path, skip_errors=True)


def test_mismatch_with_the_protocol_counts_both_sides(tmp_path: Path) -> None:
    path = scores_file(tmp_path, "u1 1\nv1 1\nv2 1\nv3 1\nv4 1\n")
    with pytest.raises(ScoresError) as error:
        read_scores(path, PROTOCOL)
    assert "of 5 scored 4 are not in the protocol ('v1', 'v2', 'v3', …)" in str(error.value)
    assert "of 3 in the protocol 2 have no score ('u2', 'u3')" in str(error.value)


def test_keys_that_contradict_the_protocol_are_refused(tmp_path: Path) -> None:
    path = scores_file(tmp_path, "u1 bonafide 1\nu2 bonafide 1\nu3 spoof 1\n")
    with pytest.raises(ScoresError, match=r"1 of 3 utterances different keys \('u2'\)"):
        read_scores(path, PROTOCOL)


@pytest.mark.parametrize("text", ["u1 1\nu2 0\nu3 0\n", "u1 -1\nu2 1.0\nu3 -1\n"])
def test_decisions_are_refused_unless_allowed(tmp_path: Path, text: str) -> None:
    path = scores_file(tmp_path, text)
    with pytest.raises(ScoresError, match=r"The 3 scores of .* are all .*: decisions, not scores"):
        read_scores(path)
    assert read_scores(path, allow_decisions=True).scores.size == 3


def test_two_other_values_are_read_with_a_warning_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read_scores(scores_file(tmp_path, "u1 bonafide .9\nu2 spoof .2\nu3 spoof .2\n"))
    assert "decisions" in caplog.text


def test_scores_that_are_not_finite_are_counted_and_named(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match=r":2: the score is nan; 2 of 3 .* \('u2', 'u3'\)"):
        read_scores(scores_file(tmp_path, "u1 1.5\nu2 nan\nu3 -inf\n"))


def test_repeated_utterances_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match=r":2 scores 'u1' again, .* 2 of 4 lines are such"):
        read_scores(scores_file(tmp_path, "u1 1.5\nu1 2\nu2 3\nu1 4\n"))


def test_missing_and_extra_utterances_may_be_left_out_and_are_named(tmp_path: Path) -> None:
    path = scores_file(tmp_path, "u3 - spoof 3.5\nv1 - spoof 1\nu1 - bonafide 2\nv2 - spoof 4\n")
    table = read_scores(path, PROTOCOL, allow_missing=True)
    assert (table.utterances, table.scores.tolist()) == (("u3", "u1"), [3.5, 2.0])
    assert (table.missing, table.extra) == (("u2",), ("v1", "v2"))
    assert table.is_bonafide is not None
    assert table.is_bonafide.tolist() == [False, True]
    assert table.attacks == ("A08", "-")


def test_nothing_shared_is_refused_in_any_case(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="of 2 scored 2 are not in the protocol"):
        read_scores(scores_file(tmp_path, "v1 1\nv2 2\n"), PROTOCOL, allow_missing=True)


def test_protocol_gives_speakers_and_the_conditions_that_differ(tmp_path: Path) -> None:
    protocol = [
        ProtocolEntry(
            utterance=f"u{number}",
            label="spoof",
            attack="-",
            speaker=f"s{number}",
            conditions={"trim": "no", "codec": codec} if codec else {"trim": "no"},
        )
        for number, codec in enumerate(["opus", "", "gsm"])
    ]
    table = read_scores(scores_file(tmp_path, "u2 1\nu1 2\nu0 3\n"), protocol)
    assert table.speakers == ("s2", "s1", "s0")
    assert table.conditions == {"codec": ("gsm", "-", "opus")}
    assert read_scores(scores_file(tmp_path, "u1 1\nu2 2\nu3 3\n"), PROTOCOL).speakers is None


@pytest.mark.parametrize(
    "text",
    [
        '{"utterance": "a", "score": 1, "key": "spoof"}\n{"utterance": "b", "score": 2}\n',
        "utterance,key,score\na,,1\nb,spoof,2\n",
    ],
)
def test_keys_on_some_lines_only_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ScoresError, match=r" has (a|no) key, unlike the lines before it"):
        read_scores(scores_file(tmp_path, text))


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    scores=st.dictionaries(NAMES, st.tuples(FLOATS, NAMES, st.booleans()), min_size=1, max_size=9)
)
@ONCE_PER_TEST
def test_written_scores_read_back_to_the_last_bit(
    tmp_path: Path, scores: dict[str, tuple[float, str, bool]]
) -> None:
    path = tmp_path / "scores.txt"
    keys = {"bonafide", "spoof"}
    rows = [
        ScoreRow(
            utterance=name, attack=attack, label="bonafide" if genuine else "spoof", score=score
        )
        for name, (score, attack, genuine) in scores.items()
        if keys.isdisjoint({name, attack}) and not name.startswith("{")
    ]
    write_scores_txt(path, rows)
    if not rows:
        return
    table = read_scores(path)
    assert table.utterances == tuple(row.utterance for row in rows)
    assert [score.hex() for score in table.scores.tolist()] == [row.score.hex() for row in rows]
    assert table.attacks == tuple(row.attack for row in rows)
    assert table.is_bonafide is not None
    assert table.is_bonafide.tolist() == [row.label == "bonafide" for row in rows]


def test_float32_scores_are_written_exactly(tmp_path: Path) -> None:
    score = np.float32(0.1)
    path = tmp_path / "scores.txt"
    write_scores_txt(
        path, [ScoreRow(utterance="u", attack="-", label="bonafide", score=float(score))]
    )
    assert path.read_text() == "u - bonafide 0.10000000149011612\n"


@pytest.mark.parametrize(
    ("utterance", "score"), [("a b", 1.0), ("", 1.0), ("a", float("nan")), ("a", float("inf"))]
)
def test_row_that_would_not_read_back_is_refused_and_nothing_written(
    tmp_path: Path, utterance: str, score: float
) -> None:
    path = tmp_path / "scores.txt"
    rows = [
        ScoreRow(utterance="good", attack="-", label="spoof", score=0.0),
        ScoreRow(utterance=utterance, attack="-", label="spoof", score=score),
    ]
    with pytest.raises(ScoresError):
        write_scores_txt(path, rows)
    assert list(tmp_path.iterdir()) == []


def test_writing_into_no_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        write_scores_txt(tmp_path / "none" / "scores.txt", [])


def test_asv_scores_are_split_by_key_and_attack(tmp_path: Path) -> None:
    path = scores_file(
        tmp_path,
        "bonafide target 3\nbonafide nontarget -3\nA08 spoof 2\nA07 spoof 1\nA08 spoof 0\n",
    )
    asv = read_asv_scores(path)
    assert (asv.target.tolist(), asv.nontarget.tolist()) == ([3.0], [-3.0])
    assert asv.spoof.tolist() == [2.0, 1.0, 0.0]
    assert {name: of.tolist() for name, of in asv.spoof_by_attack.items()} == {
        "A07": [1.0],
        "A08": [2.0, 0.0],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bonafide target 3\nu1 - bonafide 1\n", r":2 is 'u1 - bonafide 1'; expected attack key"),
        ("bonafide genuine 3\n", r":1 is .* target, nontarget, spoof"),
        ("bonafide target x\n", r":1: the score 'x' is not a number"),
        ("bonafide target 3\n", "holds no nontarget and no spoof scores"),
    ],
)
def test_bad_asv_scores_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScoresError, match=message):
        read_asv_scores(scores_file(tmp_path, text))


WORDS = st.one_of(
    st.sampled_from(["u1", "-", "A07", "spoof", "bonafide", "1.5", "nan", "1e999", "path,score"]),
    st.sampled_from(list('{}[]":,é\r\0 ')),
)
LINES = st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=4).map("\n".join)


@given(data=st.one_of(st.binary(max_size=60), LINES.map(str.encode)))
@ONCE_PER_TEST
def test_parsers_raise_only_scores_errors(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "random"
    path.write_bytes(data)
    for parse in (read_scores, read_asv_scores):
        with suppress(ScoresError):
            parse(path)


def test_deeply_nested_json_is_a_scores_error(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="not valid JSON"):
        read_scores(scores_file(tmp_path, '{"path":' + "[" * 200_000))


def test_decimal_comma_is_not_taken_for_a_header(tmp_path: Path) -> None:
    path = tmp_path / "scores.txt"
    path.write_text("u1 A07 spoof -2,5\n")
    with pytest.raises(ScoresError, match="'-2,5' is not a number") as error:
        read_scores(path)
    assert "decimal point" in str(error.value.fix)
