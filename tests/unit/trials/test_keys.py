from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import TrialsError
from aasist_deploy.trials import read_key

if TYPE_CHECKING:
    from pathlib import Path

TWO = [("u1", "bonafide"), ("u2", "spoof")]


def read(folder: Path, text: str) -> list[tuple[str, str]]:
    path = folder / "key"
    path.write_text(text)
    return [(entry.utterance, entry.label) for entry in read_key(path)]


KEYS = {
    "2019-la": "s u1 - - bonafide\ns u2 - A07 spoof\n",
    "2019-pa": "s u1 aaa - bonafide\ns u2 aab AB spoof\n",
    "2021-la": """\
s u1 alaw loc_tx bonafide bonafide notrim eval
s u2 alaw loc_tx A07 spoof notrim hidden
""",
    "2021-pa": """\
s u1 R1 M1 D1 - - - - bonafide notrim eval
s u2 R1 M1 d1 r1 m1 s2 c2 spoof trim hidden
""",
    "2021-df": """\
s u1 nocodec asvspoof - bonafide notrim eval bonafide - - - -
s u2 nocodec asvspoof A07 spoof notrim eval unknown - - - -
""",
    "5-t1": "s u1 F - - - - bonafide bonafide -\ns u2 M C01 1 u9 AC1 A11 spoof -\n",
    "5-t2": "s u1 F bonafide target\nt u1 F bonafide nontarget\ns u2 F A11 spoof\n",
    "header": "filename\tcm-label\nu1\tbonafide\nu2\tspoof\n",
    "pairs": """\
spk\tfilename\tcm-label\tasv-label
s\tu1\tbonafide\ttarget
t\tu1\tbonafide\tnontarget
s\tu2\tspoof\tspoof
""",
    "in-the-wild": "file,speaker,label\nu1.wav,A B,bona-fide\nu2.wav,A B,spoof\n",
    "manifest": "\ufeffpath,label,codec\r\nu1.wav,bonafide,x\r\na/u2.wav,spoof,y\r\n",
}


@pytest.mark.parametrize("text", KEYS.values(), ids=KEYS)
def test_key_of_every_layout_is_told_by_its_columns(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == TWO


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "lists no utterances"),
        ("u1 1.5\n", r":1 has 2 columns: 'u1 1.5'; no known key"),
        ("filename cm-label\nu1\n", r":2 has 1 columns: 'u1'; expected 2"),
        ("filename cm-label\nu1 real\n", r":2: the key is 'real'"),
        ("filename cm-label\nu1 spoof\nu1 spoof\n", r":3 lists the utterance 'u1' again"),
        ("filename cm-label\n", "lists no utterances"),
        (
            "spk filename cm-label asv-label\ns u1 spoof spoof\nt u1 bonafide target\n",
            r":3: 'u1' is bonafide, but an earlier line says spoof",
        ),
    ],
)
def test_bad_key_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrialsError, match=message):
        read(tmp_path, text)


def test_unknown_key_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(TrialsError) as error:
        read(tmp_path, "a b c\n")
    assert error.value.fix is not None
    assert "trial_metadata.txt of LA, PA or DF (8, 12 or 13 columns)" in error.value.fix


WORDS = st.sampled_from(
    ["a", "..", "-", "F", "spoof", "target", "bonafide", "x/y", "\0", "filename", "cm-label",
     "path,label", "file,speaker,label", '"', ","]
)  # fmt: skip


@given(
    data=st.one_of(
        st.binary(max_size=80),
        st.lists(st.lists(WORDS, max_size=13).map(" ".join), max_size=4).map(
            lambda lines: "\n".join(lines).encode()
        ),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_reader_raises_only_trials_errors(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "random"
    path.write_bytes(data)
    with suppress(TrialsError):
        names = [entry.utterance for entry in read_key(path)]
        assert len(set(names)) == len(names) > 0
