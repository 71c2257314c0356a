"""Runs into a file: resumed, sharded and merged, they give the bytes of one run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import soundfile

from aasist_deploy.errors import CheckFailed, UsageError
from aasist_deploy.inputs import AudioInput
from aasist_deploy.journal import journal_of
from aasist_deploy.pipeline import InThreads, LocalScorer, WindowRule
from aasist_deploy.pipeline.merge import merge_shards
from aasist_deploy.pipeline.run import Outcome, Plan, Shard, score_inputs
from aasist_deploy.scores import read_scores

if TYPE_CHECKING:
    from collections.abc import Callable

BAD = {3, 8, 9, 21}
N = 26
NAMES = [f"{i}, a\n.wav" if i % 5 == 0 else f"{i}.wav" for i in range(N)]


@pytest.fixture(autouse=True)
def _sync_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aasist_deploy.journal._writing.SYNC_EVERY_S", 0.0)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = []
    for index, name in enumerate(NAMES):
        path = tmp_path / name
        if index in BAD:
            path.write_text("no audio")
        else:
            wave = np.full(800 + 100 * index, index / 100, np.float32)
            soundfile.write(path, wave, 16_000, subtype="FLOAT")
        made.append(path)
    return made


@pytest.fixture
def run(paths: list[Path], fake_engine: Any) -> Callable[..., Outcome]:
    """(output, options of the run) -> its outcome, with batches of three."""

    def score(
        output: Path | None, *, fail_at: int | None = None, engine: Any = None, **options: Any
    ) -> Outcome:
        suffix = "csv" if output is None else output.suffix[1:]
        plan = Plan(
            row_format=options.pop("row_format", suffix),
            batch=3,
            inputs=options.pop("names", "all"),
            rule=options.pop("rule", WindowRule()),
            window_scores=options.pop("window_scores", False),
            shard=options.pop("shard", Shard()),
        )
        sources = options.pop("sources", [AudioInput(path) for path in paths])
        opened = engine or fake_engine(fail_at=fail_at)
        return score_inputs(LocalScorer(opened, InThreads(), 2), sources, output, plan, **options)

    return score


Suffix = Literal[".csv", ".jsonl", ".txt", ".parquet"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_run_that_breaks_anywhere_and_is_resumed_gives_the_bytes_of_a_whole_run(
    suffix: Suffix, run: Callable[..., Outcome], tmp_path: Path
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    whole = tmp_path / f"whole{suffix}"
    assert run(whole) == Outcome(n_inputs=N, n_failed=len(BAD), n_before=0)
    for fail_at in (1, 3, 8, 12, 21):
        output = tmp_path / f"{fail_at}{suffix}"
        with pytest.raises(RuntimeError, match="fake engine broke"):
            run(output, fail_at=fail_at)
        again = run(output, resume=True)
        assert (again.n_inputs, again.n_failed) == (N, len(BAD))
        # Groups of three windows, of 22 good files among 26, in chunks of nine files.
        assert again.n_before == {1: 0, 3: 3, 8: 9, 12: 13, 21: 25}[fail_at]
        assert output.read_bytes() == whole.read_bytes()


def test_rows_of_a_run_that_breaks_are_whole(run: Callable[..., Outcome], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        run(tmp_path / "x.csv", fail_at=8)
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in rows] == NAMES[:9]
    assert all(row["window"] == "first 800" for row in rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"names": "others"}, "input names: 'all' then, 'others' now"),
        ({"rule": WindowRule(n_windows=None)}, "window: 'first 800' then, 'all of 800"),
        ({"window_scores": True}, "columns"),
        ({"shard": Shard(1, 2)}, "shard: '1/1' then, '1/2' now"),
    ],
    ids=["inputs", "windows", "columns", "shard"],
)
def test_run_is_not_resumed_with_other_options(
    options: dict[str, Any], said: str, run: Callable[..., Outcome], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError):
        run(tmp_path / "x.csv", fail_at=8)
    before = (tmp_path / "x.csv").read_bytes()
    with pytest.raises(UsageError, match=said):
        run(tmp_path / "x.csv", resume=True, **options)
    assert (tmp_path / "x.csv").read_bytes() == before


def test_run_is_not_resumed_with_another_model(
    run: Callable[..., Outcome], fake_engine: Any, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError):
        run(tmp_path / "x.csv", fail_at=8)
    other = fake_engine(checkpoint_sha256="1" * 64)
    with pytest.raises(UsageError, match="checkpoint: '0000"):
        run(tmp_path / "x.csv", resume=True, engine=other)


@pytest.mark.parametrize("change", ["content", "gone"])
def test_input_that_changed_after_it_was_scored_is_noticed(
    change: str, run: Callable[..., Outcome], paths: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError):
        run(tmp_path / "x.csv", fail_at=8)
    if change == "gone":
        paths[2].unlink()
    else:
        soundfile.write(paths[2], np.zeros(1_001, np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(UsageError, match=r"first 9 inputs.* have changed since"):
        run(tmp_path / "x.csv", resume=True)


def test_input_that_is_repaired_before_its_turn_is_scored_as_it_is(
    run: Callable[..., Outcome], paths: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "x.csv"
    with pytest.raises(CheckFailed, match=r"3.wav cannot be decoded.* holds the 3 rows") as failed:
        run(output, on_error="fail")
    assert "--resume" in str(failed.value.fix)
    soundfile.write(paths[3], np.full(900, 0.5, np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(CheckFailed, match=r"8.wav cannot be decoded.* holds the 6 rows"):
        run(output, on_error="fail", resume=True)
    with output.open(newline="") as file:
        assert [row["error"] for row in csv.DictReader(file)] == [""] * 6
    done = run(output, resume=True)
    assert done.n_failed == len(BAD) - 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_merged_shards_are_the_bytes_of_one_run(
    suffix: Suffix, count: int, run: Callable[..., Outcome], tmp_path: Path
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    run(tmp_path / f"whole{suffix}")
    parts = [tmp_path / f"part-{i}{suffix}" for i in range(count)]
    for index, part in enumerate(parts, start=1):
        run(part, shard=Shard(index, count))
    merged = merge_shards(parts[::-1], tmp_path / f"all{suffix}")
    assert (merged.n_shards, merged.n_inputs, merged.n_failed) == (count, N, len(BAD))
    whole = tmp_path / f"whole{suffix}"
    assert (tmp_path / f"all{suffix}").read_bytes() == whole.read_bytes()


def test_more_shards_than_inputs_merge(
    run: Callable[..., Outcome], paths: list[Path], tmp_path: Path
) -> None:
    few = [AudioInput(path) for path in paths[:2]]
    parts = [tmp_path / f"{i}.csv" for i in range(4)]
    for index, part in enumerate(parts, start=1):
        run(part, shard=Shard(index, 4), sources=few)
    merge_shards(parts, tmp_path / "all.csv")
    run(tmp_path / "whole.csv", sources=few)
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.fixture
def shards(run: Callable[..., Outcome], tmp_path: Path) -> list[Path]:
    parts = [tmp_path / f"part-{i}.csv" for i in range(3)]
    for index, part in enumerate(parts, start=1):
        run(part, shard=Shard(index, 3))
    return parts


def spoil(how: str, shards: list[Path], run: Callable[..., Outcome]) -> list[Path]:
    if how == "missing":
        return shards[:1]
    if how == "twice":
        return [*shards, shards[1]]
    if how == "changed":
        shards[1].write_bytes(shards[1].read_bytes().replace(b"0.0", b"0.1", 1))
    if how == "no journal":
        journal_of(shards[1]).unlink()
    if how == "unfinished":
        lines = journal_of(shards[1]).read_bytes().splitlines(keepends=True)
        journal_of(shards[1]).write_bytes(b"".join(lines[:-1]))
    if how == "other inputs":
        run(shards[1], shard=Shard(2, 3), names="others")
    if how == "fewer inputs":
        run(shards[1], shard=Shard(2, 3), sources=[AudioInput(shards[0])] * 8)
    if how == "other count":
        run(shards[1], shard=Shard(2, 2))
    return shards


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "2 of 3 shards are missing: 2/3, 3/3"),
        ("twice", "Shard 2/3 was given twice"),
        ("changed", "changed after the run"),
        ("no journal", "no journal beside it"),
        ("unfinished", "is not finished: it holds 9 rows"),
        ("other inputs", "different runs: input names"),
        ("fewer inputs", "holds 9 rows; shard 1/3 of 20 inputs has 7"),
        ("other count", "of 2 and of 3"),
    ],
)
def test_shards_that_do_not_make_one_run_are_not_merged(
    how: str, said: str, shards: list[Path], run: Callable[..., Outcome], tmp_path: Path
) -> None:
    given = spoil(how, shards, run)
    with pytest.raises(UsageError, match=said):
        merge_shards(given, tmp_path / "all.csv")
    assert not (tmp_path / "all.csv").exists()


def test_shard_is_not_overwritten_by_the_merged_file(shards: list[Path]) -> None:
    with pytest.raises(UsageError, match="is one of the shards"):
        merge_shards(shards, shards[0])


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "1/2/3"])
def test_shards_that_there_are_not_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Shard.parse(text)


def test_shards_share_out_all_inputs() -> None:
    for total in range(12):
        for count in range(1, 6):
            parts = [Shard(i, count) for i in range(1, count + 1)]
            inputs = [AudioInput(Path(str(i))) for i in range(total)]
            of_shards = [list(part.of(inputs)) for part in parts]
            assert [len(one) for one in of_shards] == [part.n_of(total) for part in parts]
            assert sorted(str(i.path) for one in of_shards for i in one) == sorted(
                map(str, range(total))
            )


def test_all_windows_and_their_scores_are_in_the_rows(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    rule = WindowRule(n_windows=None, hop_s=0.0125, aggregate="bottom-2")
    run(tmp_path / "x.jsonl", rule=rule, window_scores=True)
    run(tmp_path / "x.csv", rule=rule, window_scores=True)
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    with (tmp_path / "x.csv").open(newline="") as file:
        texts = [row["window_scores"] for row in csv.DictReader(file)]
    for index, (row, text) in enumerate(zip(rows, texts, strict=True)):
        if index in BAD:
            assert row["window_scores"] is None
            continue
        assert row["window"] == "all of 800 hop 200 bottom-2"
        assert len(row["window_scores"]) == 1 + index // 2  # (800 + 100 index - 800) // 200
        assert [float(number) for number in text.split()] == row["window_scores"]
    assert len(read_scores(tmp_path / "x.csv", skip_errors=True).scores) == N - len(BAD)


def test_standard_output_has_no_journal_and_is_not_resumed(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="Standard output is no file"):
        run(None, resume=True)
    run(tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes().startswith(b"path,score,error,seconds,window\n")
    assert journal_of(tmp_path / "x.csv").exists()
    run(Path("/dev/null"), row_format="csv")
    assert not journal_of(Path("/dev/null")).exists()
