"""Headers, orders of columns, packed files."""

from __future__ import annotations

import gzip
import io
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import ScoresError
from aasist_deploy.scores import read_scores
from aasist_deploy.textfile import read_text

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "u1 bonafide 1.5\nu2 spoof -2\nu3 spoof .25\n"


def scores_file(folder: Path, text: str) -> Path:
    path = folder / "scores.txt"
    path.write_text(text)
    return path


def zipped(members: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "filename\tcm-score\nu1\t1.5\nu2\t-2\n",
        "\ufefffilename cm-score\r\nu1 1.5\r\nu2 -2\r\n",
        "score utterance\n1.5 u1\n-2 u2\n",
        "#utt_id score\nu1 1.5\nu2 -2\n",
        "Speaker Filename Label System_ID Score\ns u1 bonafide - 1.5\ns u2 spoof A07 -2\n",
        "filename,cm-score\nu1,1.5\nu2,-2\n",
        "utterance,attack,key,score\nu1,-,bonafide,1.5\nu2,A07,spoof,-2\n",
        '{"utterance": "u1", "score": 1.5}\n{"utterance": "u2", "score": -2}\n',
    ],
)
def test_named_columns_are_read_in_any_order(tmp_path: Path, text: str) -> None:
    table = read_scores(scores_file(tmp_path, text))
    assert (table.utterances, table.scores.tolist()) == (("u1", "u2"), [1.5, -2.0])


def test_names_keep_their_dots_where_they_are_no_paths(tmp_path: Path) -> None:
    for text in ('{"utterance": "a/b.c", "score": 1}\n', "utterance,score\na/b.c,1\n", "a/b.c 1\n"):
        assert read_scores(scores_file(tmp_path, text)).utterances == ("a/b.c",)
    assert read_scores(scores_file(tmp_path, "path,score\na/b.c,1\n")).utterances == ("b",)


def test_key_behind_the_score_is_read(tmp_path: Path) -> None:
    text = "LA_0015 LA_E_1 6.9 bonafide\nLA_0007 LA_E_2 -2.3 spoof\n"
    table = read_scores(scores_file(tmp_path, text))
    assert (table.utterances, table.scores.tolist()) == (("LA_E_1", "LA_E_2"), [6.9, -2.3])
    assert table.is_bonafide is not None
    assert table.is_bonafide.tolist() == [True, False]


def test_attack_called_bonafide_is_none(tmp_path: Path) -> None:
    table = read_scores(scores_file(tmp_path, "u1 bonafide bonafide 1\nu2 A07 spoof 2\n"))
    assert table.attacks == ("-", "A07")


@pytest.mark.parametrize(
    ("line", "likely", "expected"),
    [
        ("1.5 u1", "score utterance", "utterance score"),
        ("-0.25 17", "score utterance", "utterance score"),
        ("1.5 bonafide u1", "score key utterance", "utterance key score"),
        ("1.5 - bonafide u1", "score - key utterance", "utterance attack key score"),
        ("s1 1.5 - bonafide u1", "speaker score - key utterance", "attack key score"),
        ("1.5 u1 A07 spoof", "score utterance attack key", "utterance attack key score"),
    ],
)
def test_wrong_order_is_told_with_the_likely_one(
    tmp_path: Path, line: str, likely: str, expected: str
) -> None:
    with pytest.raises(ScoresError, match=rf":1 is .* looks like {likely}; expected .*{expected}"):
        read_scores(scores_file(tmp_path, line + "\n"))


def test_unknown_order_is_told_with_the_likely_one(tmp_path: Path) -> None:
    for line, likely in (
        ("u1 1.5 bonafide", "utterance score key"),
        ("u1 spoof A07 1.5", "utterance key attack score"),
        ("spoof 12 1.5", "key utterance score"),
    ):
        with pytest.raises(ScoresError, match=f"no known layout .* They look like {likely}") as e:
            read_scores(scores_file(tmp_path, line + "\n"))
        assert "Known layouts: utterance score;" in str(e.value.fix)


def test_whole_numbers_are_names(tmp_path: Path) -> None:
    table = read_scores(scores_file(tmp_path, "0 1.5\n17 -2\n3 4\n"))
    assert table.utterances == ("0", "17", "3")


def test_pairs_of_track_2_are_sent_to_their_reader(tmp_path: Path) -> None:
    text = "spk\tfilename\tcm-score\tasv-score\tsasv-score\ns\tu\t1\t2\t3\n"
    with pytest.raises(ScoresError, match="pairs of a speaker and a file") as error:
        read_scores(scores_file(tmp_path, text))
    assert "read_sasv_scores" in str(error.value.fix)


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode(),
        gzip.compress(TEXT.encode()),
        zipped({"score.tsv": TEXT}),
        zipped({"a/score.tsv": "\ufeff" + TEXT, "__MACOSX/._score.tsv": "x"}),
    ],
    ids=["plain", "bom-crlf", "gzip", "zip", "zip-of-a-mac"],
)
def test_packed_files_read_the_same(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "scores"
    path.write_bytes(data)
    assert read_scores(path).scores.tolist() == [1.5, -2.0, 0.25]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zipped({"a": TEXT, "b": TEXT}), r"holds 2 files \(a, b\); expected one"),
        (zipped({}), r"holds 0 files \(nothing\); expected one"),
        (zipped({"a": TEXT})[:-30], "is damaged"),
        (zipped({"a": TEXT}).replace(b"PK\x01\x02", b"PK\x01\x03"), "is damaged"),
        (gzip.compress(TEXT.encode())[:-9], "is damaged"),
        (b"\x1f\x8bxx", "is damaged"),
        (b"u1 \xff\n", r":1 is not UTF-8 text: byte 0xff"),
    ],
    ids=["two-files", "no-file", "cut-zip", "no-zip-record", "cut-gzip", "no-gzip", "no-utf-8"],
)
def test_damaged_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "scores"
    path.write_bytes(data)
    with pytest.raises(ScoresError, match=message):
        read_scores(path)


def test_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": TEXT}))
    data[6] |= 1  # "encrypted", in the member's own header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    path = tmp_path / "scores.zip"
    path.write_bytes(data)
    with pytest.raises(ScoresError, match=r"cannot be unpacked: .*password") as error:
        read_scores(path)
    assert error.value.fix == "Unpack it, and give the file inside."


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: zipped({"a": data.decode()})])
def test_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    path = tmp_path / "bomb"
    path.write_bytes(pack(b"u 1\n" * 100_000))
    assert path.stat().st_size < 4_000
    with pytest.raises(ScoresError, match="more than 1000 bytes when unpacked"):
        read_text(path, ScoresError, max_bytes=1_000)
    assert len(read_text(path, ScoresError, max_bytes=400_000)) == 400_000


def test_missing_file_is_a_scores_error(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="cannot be read: No such file"):
        read_scores(tmp_path / "none")


@given(
    packed=st.sampled_from([gzip.compress(TEXT.encode()), zipped({"score.tsv": TEXT})]),
    changes=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), min_size=1, max_size=4),
    end=st.integers(1, 200),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_altered_packed_files_raise_only_scores_errors(
    tmp_path: Path, packed: bytes, changes: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(packed)
    for where, value in changes:
        data[where % len(data)] = value
    path = tmp_path / "scores"
    path.write_bytes(data[:end])
    with suppress(ScoresError):
        read_scores(path)
