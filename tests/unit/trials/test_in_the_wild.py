from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aasist_deploy.errors import TrialsError
from aasist_deploy.trials import load_dataset

if TYPE_CHECKING:
    from pathlib import Path

META = "file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,Alec Guinness,bona-fide\n"


@pytest.mark.parametrize("folder", ["", "release_in_the_wild"])
def test_meta_gives_names_speakers_and_labels(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "meta.csv").write_text(META)
    dataset = load_dataset("in-the-wild", tmp_path, "all")
    assert [(t.utterance, t.label, t.attack, t.speaker) for t in dataset.trials] == [
        ("0", "spoof", "-", "Alec Guinness"),
        ("1", "bonafide", "-", "Alec Guinness"),
    ]
    assert dataset.trials[0].path == tmp_path / folder / "0.wav"
    assert (dataset.metrics, dataset.asv_scores) == ("eer", None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2.wav,x,real", r":4: the label is 'real'; expected bona-fide or spoof"),
        ("../2.wav,x,spoof", r":4: the path .* does not stay under"),
        ("/2.wav,x,spoof", r":4: the path .* does not stay under"),
        ("1.flac,x,spoof", r":4 lists the utterance '1' again"),
        ("2.wav,spoof", r":4 does not have the 3 columns"),
    ],
)
def test_bad_line_is_refused_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "meta.csv").write_text(META + line + "\n")
    with pytest.raises(TrialsError, match=message):
        load_dataset("in-the-wild", tmp_path, "all")


def test_meta_without_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta.csv").write_text("file,speaker,label\n")
    with pytest.raises(TrialsError, match="lists no utterances"):
        load_dataset("in-the-wild", tmp_path, "all")


@given(data=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_parser_raises_only_trials_errors(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "meta.csv").write_bytes(META.encode() + data)
    with suppress(TrialsError):
        trials = load_dataset("in-the-wild", tmp_path, "all").trials
        assert all(trial.path.is_relative_to(tmp_path) for trial in trials)
