"""Scans that were stopped go on to the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.recordings import HOP, rows_of, write_wave

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class TestResume:
    """A run that was cut off anywhere and goes on equals one that was not, to the last byte."""

    @pytest.fixture
    def waves(self, tmp_path: Path) -> list[Path]:
        (tmp_path / "w").mkdir()
        broken = tmp_path / "w" / "b.wav"
        broken.write_text("no audio")
        a, c = (write_wave(tmp_path / "w" / name, 12.0) for name in ("a.wav", "c.wav"))
        return [a, broken, c]

    @pytest.mark.parametrize("fail_at", [1, 40, 64, 100, 470, 600, 900])
    @pytest.mark.parametrize("name", ["o.jsonl", "o.csv"])
    def test_after_a_crash(
        self,
        cli: Any,
        fake_model: Callable[..., Path],
        waves: list[Path],
        tmp_path: Path,
        fail_at: int,
        name: str,
    ) -> None:
        whole, out = tmp_path / "whole" / name, tmp_path / name
        whole.parent.mkdir()
        options = (*HOP, "--threshold", "0", "--json")
        expected = cli("scan", fake_model(), *waves, "-o", whole, *options)
        model = fake_model(fail_at=fail_at, error=KeyboardInterrupt())
        cut = cli("scan", model, *waves, "-o", out, *options)
        assert cut.code == 130
        assert "--resume goes on" in cut.err
        with out.open("ab") as file:
            file.write(b'{"path": "half a l')  # and the power went
        found = tmp_path / "found.jsonl"
        again = cli(
            "scan", fake_model(), *waves, "-o", out, *options, "--resume", "--segments", found
        )
        assert again.code == expected.code == 1
        assert out.read_bytes() == whole.read_bytes()
        assert json.loads(again.out) == {**json.loads(expected.out), "output": str(out)}
        assert len(rows_of(found)) == 4

    def test_what_is_done_is_not_computed_again(
        self, cli: Any, fake_model: Callable[..., Path], waves: list[Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "o.jsonl"
        command = ("scan", fake_model(), *waves, "-o", out, *HOP)
        cli(*command)
        before = out.read_bytes()
        fake_model(fail_at=0)
        assert cli(*command, "--resume").code == 1  # for the broken file alone
        assert out.read_bytes() == before

    def test_another_model_option_or_input_is_refused(
        self, cli: Any, fake_model: Callable[..., Path], waves: list[Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "o.jsonl"
        model = fake_model()
        cli("scan", model, *waves, "-o", out, *HOP)
        before = out.read_bytes()
        for arguments, message in (
            ((*waves, *HOP, "--threshold", "0"), "threshold: None then, 0.0 now"),
            ((*waves, "--hop-s", "0.05"), "hop_samples: 400 then, 800 now"),
            ((*waves, *HOP, "--batch", "3"), "batch: 8 then, 3 now"),
            ((waves[0], *HOP), "files"),
        ):
            result = cli("scan", model, *arguments, "-o", out, "--resume")
            assert result.code == 2
            assert message in result.err
        model.write_bytes(b"another")
        assert "model_sha256" in cli("scan", model, *waves, "-o", out, *HOP, "--resume").err
        model.write_bytes(b"")
        assert "exists" in cli("scan", model, *waves, "-o", out, *HOP).err
        assert out.read_bytes() == before

    def test_an_input_that_changed_is_refused(
        self, cli: Any, fake_model: Callable[..., Path], waves: list[Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "o.jsonl"
        command = ("scan", fake_model(fail_at=100), waves[0], "-o", out, *HOP)
        with pytest.raises(RuntimeError, match="the fake engine broke"):
            cli(*command)
        write_wave(waves[0], 13.0)
        fake_model()
        result = cli(*command, "--resume")
        assert result.code == 2
        assert "a.wav has changed since" in result.err


def test_interrupt_of_the_program_leaves_whole_rows_and_resumes(
    slow_program: tuple[list[str], Path], wave: Path, tmp_path: Path
) -> None:
    program, model = slow_program
    path = write_wave(tmp_path / "long.wav", 6.0)
    out, whole = tmp_path / "o.jsonl", tmp_path / "whole.jsonl"
    command = [*program, "scan", os.fspath(model), os.fspath(wave), os.fspath(path), *HOP]
    process = subprocess.Popen(
        [*command, "-o", os.fspath(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not (out.exists() and out.read_bytes().count(b"\n") > 50):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    text = out.read_text()
    assert text.endswith("\n")
    assert all(json.loads(line)["score"] is not None for line in text.splitlines())
    assert 50 < text.count("\n") < 39 + 239
    for arguments in (["-o", os.fspath(out), "--resume"], ["-o", os.fspath(whole)]):
        subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=60)
    assert out.read_bytes() == whole.read_bytes()
