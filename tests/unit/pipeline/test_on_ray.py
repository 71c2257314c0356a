"""Scoring on a Ray cluster of this machine: the rows, bytes and errors of a run in one process."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

pytest.importorskip("ray", reason="needs the extra ray")
pytest.importorskip("pandas", reason="needs the extra ray")
pytest.importorskip("onnx", reason="needs the package onnx, to write a model")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

from aasist_deploy.cli import app
from aasist_deploy.engines import open_engine
from aasist_deploy.errors import EnvironmentLacks, ModelFileError, UsageError
from aasist_deploy.inputs import AudioInput, NamedInputs
from aasist_deploy.pipeline import (
    FIRST,
    InThreads,
    LocalScorer,
    ScoredFile,
    WindowRule,
    on_ray,
    ray_feed,
    ray_worker,
)
from aasist_deploy.pipeline.batches import files_per_chunk
from aasist_deploy.pipeline.isolated import can_isolate
from aasist_deploy.pipeline.on_ray import RayScorer
from aasist_deploy.pipeline.ray_connection import ray_cluster, require_listener
from aasist_deploy.pipeline.ray_feed import Feed
from aasist_deploy.pipeline.run import Plan, score_inputs, versions_of
from tests.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

# Ray Data sets options of its own that it calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")

OPTIONS = {"threads": 1}
N = 50  # several chunks
BAD = {5, 17, 18}
DEADLY = """
from aasist_deploy.pipeline import decode_worker
sound_of = decode_worker.sound_of

def deadly(source, wanted):
    if source.path.name == "deadly.wav":
        decode_worker.os._exit(7)
    return sound_of(source, wanted)

decode_worker.sound_of = deadly
decode_worker.serve(int(decode_worker.sys.argv[1]), int(decode_worker.sys.argv[2]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("ray-model") / "tiny.onnx")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("ray-audio")
    random = np.random.default_rng(0)
    made = []
    for index in range(N):
        path = folder / f"{index}, a.wav"
        if index in BAD:
            path.write_text("no audio")
        else:
            wave = random.uniform(-0.5, 0.5, 300 + 90 * index).astype(np.float32)
            soundfile.write(path, wave, 16_000, subtype="FLOAT")
        made.append(path)
    return [*made, folder / "missing.wav"]


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # it would leave a token in the user's folder
        with ray_cluster(None, n_cpus=2):
            yield


@pytest.fixture(scope="module")
def scorer(_cluster: None, model: Path) -> RayScorer:
    return RayScorer(model, "onnx", OPTIONS)


def locally(
    model: Path, sources: list[AudioInput], rule: WindowRule = FIRST, batch: int = 4
) -> list[list[ScoredFile]]:
    """The groups of a run in this process."""
    with open_engine(model, "onnx", **OPTIONS) as engine:
        return list(LocalScorer(engine, InThreads(), 2).groups(sources, rule=rule, batch=batch))


@pytest.mark.parametrize(
    ("rule", "batch"),
    [(FIRST, 7), (WindowRule(n_windows=None, hop_s=0.01), 4)],
    ids=["first", "all"],
)
def test_rows_and_groups_are_those_of_one_process(
    rule: WindowRule, batch: int, scorer: RayScorer, model: Path, paths: list[Path]
) -> None:
    sources = [AudioInput(path) for path in paths]
    with open_engine(model, "onnx", **OPTIONS) as engine:
        assert (scorer.contract, scorer.backend, scorer.device) == (
            engine.contract, engine.backend, engine.device,
        )  # fmt: skip
    expected = locally(model, sources, rule, batch)
    two = RayScorer(model, "onnx", OPTIONS, scorers=2)
    assert list(two.groups(sources, rule=rule, batch=batch)) == expected
    assert sum(len(group) for group in expected) == N + 1
    assert sum(row.score is None for group in expected for row in group) == len(BAD) + 1


def test_audio_in_archives_and_names_relative_to_the_command_are_scored(
    scorer: RayScorer,
    model: Path,
    paths: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(paths[9], "nine.wav")
        archive.add(paths[5], "bad.wav")
    monkeypatch.chdir(paths[0].parent)
    with NamedInputs([tmp_path / "x.tar"]) as named:
        sources = [*named, AudioInput(Path(paths[9].name)), AudioInput(Path("none.wav"))]
    ((inside, bad, relative, missing),) = scorer.groups(sources, rule=FIRST, batch=4)
    assert inside.score == relative.score is not None
    assert str(inside.path).endswith("x.tar/nine.wav")
    assert f"{tmp_path}/x.tar/bad.wav cannot be decoded" in str(bad.error)
    assert missing.error == "none.wav does not exist."
    assert locally(model, sources) == [[inside, bad, relative, missing]]


def test_run_begun_in_one_process_goes_on_on_a_cluster_to_the_same_bytes(
    scorer: RayScorer, model: Path, paths: list[Path], tmp_path: Path
) -> None:
    plan = Plan(row_format="csv", batch=4, inputs="all")

    def broken() -> Iterator[AudioInput]:
        yield from map(AudioInput, paths[:30])
        raise KeyboardInterrupt

    with open_engine(model, "onnx", **OPTIONS) as engine:
        local = LocalScorer(engine, InThreads(), 2)
        score_inputs(local, map(AudioInput, paths), tmp_path / "whole.csv", plan)
        with pytest.raises(KeyboardInterrupt):
            score_inputs(local, broken(), tmp_path / "x.csv", plan)
    done = score_inputs(scorer, map(AudioInput, paths), tmp_path / "x.csv", plan, resume=True)
    assert 0 < done.n_before < N
    assert done.n_failed == len(BAD) + 1
    assert (tmp_path / "x.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_command_line_writes_the_same_bytes_on_either_engine(
    scorer: RayScorer, model: Path, paths: list[Path], tmp_path: Path
) -> None:
    address = scorer._ray.get_runtime_context().gcs_address
    (tmp_path / "all.txt").write_text("\n".join(map(str, paths)))
    given = ["score", str(model), str(tmp_path / "all.txt"), "--backend", "onnx", "--threads", "1"]
    for name, options in (("local", []), ("ray", ["--ray-address", address])):
        output = ["-o", str(tmp_path / f"{name}.csv"), "--engine", name, *options]
        result = CliRunner().invoke(app, [*given, *output])
        assert result.exit_code == 1, result.output
        assert f"{len(BAD) + 1} of {N + 1} files could not be scored" in result.output
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()


@pytest.mark.parametrize("option", [["--ray-address", "auto"], ["--scorers", "2"]])
def test_options_of_a_cluster_are_refused_without_one(option: list[str], model: Path) -> None:
    result = CliRunner().invoke(app, ["score", str(model), str(model), *option])
    assert isinstance(result.exception, UsageError)
    assert f"{option[0]} belongs to --engine ray" in str(result.exception)


def test_data_sets_that_follow_one_another_give_the_rows_of_one(
    scorer: RayScorer, model: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = list(map(AudioInput, paths[:32]))  # four chunks
    first: list[int] = []
    next_data_set = Feed.next_data_set

    def counted(feed: Any) -> None:
        first.append(feed._first)
        next_data_set(feed)

    monkeypatch.setattr(on_ray, "CHUNKS_PER_DATA_SET", 2)
    monkeypatch.setattr(Feed, "next_data_set", counted)
    assert list(scorer.groups(sources, rule=FIRST, batch=4)) == locally(model, sources)
    assert first == [0, 2]


def test_run_that_lost_rows_is_no_run(
    scorer: RayScorer, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing() -> Iterator[Any]:
        yield from ()

    sources = list(map(AudioInput, paths[:20]))
    with monkeypatch.context() as patch:
        patch.setattr(scorer, "_scored", lambda *_: nothing())
        with pytest.raises(EnvironmentLacks, match="without the rows of 3 chunks"):
            list(scorer.groups(sources, rule=FIRST, batch=4))


def test_reader_of_inputs_that_is_killed_begins_again_and_no_row_is_lost(
    scorer: RayScorer,
    model: Path,
    paths: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    met, read = tmp_path / "met", ray_feed._read

    def mortal(keeper: Any, numbers: range) -> Any:
        for number, table in zip(numbers, read(keeper, numbers), strict=False):
            if number == 30 and not met.exists():
                met.touch()
                os._exit(1)
            yield table

    monkeypatch.setattr(ray_feed, "_read", mortal)
    sources = [AudioInput(path) for path in paths * 6]  # more than is handed over at first
    assert list(scorer.groups(sources, rule=FIRST, batch=4)) == locally(model, sources)
    assert met.exists()


def test_endless_run_reads_a_bounded_number_ahead_and_is_ended_before_its_cluster(
    scorer: RayScorer, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it would begin another cluster, to end there."""
    n_read = itertools.count()
    read = (AudioInput(paths[next(n_read) % 5]) for _ in itertools.repeat(None))
    groups: Any = scorer.groups(read, rule=FIRST, batch=4)
    assert len(next(groups)) == 4
    ended: list[bool] = []
    with monkeypatch.context() as patch:  # as if it were not there yet, and this one began it
        patch.setattr(scorer._ray, "is_initialized", lambda: False)
        patch.setattr(scorer._ray, "init", lambda **_: None)
        cluster = ray_cluster(None)
        cluster.__enter__()
    monkeypatch.setattr(scorer._ray, "shutdown", lambda: ended.append(groups.gi_frame is None))
    cluster.__exit__(None, None, None)
    assert ended == [True]
    assert next(n_read) <= 20 * files_per_chunk(4)


@pytest.mark.skipif(not can_isolate(), reason="no processes for decoding on this system")
def test_file_that_kills_its_decoder_is_named_and_costs_only_its_row(
    scorer: RayScorer, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(row: Any, job: Any) -> Any:  # given to Ray by value, not by the name of a module
        from aasist_deploy.pipeline import isolated, ray_worker

        command = (sys.executable, "-c", DEADLY)
        there: Any = ray_worker  # of Ray's process
        there._decoders = lambda _: isolated.InProcesses(1, command=command)
        yield from ray_worker.decoded(row, job)

    monkeypatch.setattr(on_ray, "decoded", deadly)
    (tmp_path / "deadly.wav").write_bytes(paths[0].read_bytes())
    sources = [*paths[:4], tmp_path / "deadly.wav", *paths[6:9]]
    rows = [r for g in scorer.groups(map(AudioInput, sources), rule=FIRST, batch=3) for r in g]
    assert [row.path for row in rows] == sources
    assert [row.path.name for row in rows if row.error] == ["deadly.wav"]
    assert "deadly.wav ended 2 processes that decoded it (exit code 7" in str(rows[4].error)


def test_engine_whose_process_is_killed_is_started_again_and_no_row_is_lost(
    scorer: RayScorer,
    model: Path,
    paths: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What Ray says of it is in our log, not in standard output, which belongs to rows."""
    met = tmp_path / "met"

    class Mortal(ray_worker.Scoring):
        def __call__(self, row: Any) -> Any:
            if row["chunk"] == 3 and not met.exists():
                met.touch()
                os._exit(1)
            return super().__call__(row)

    sources = list(map(AudioInput, paths))
    monkeypatch.setattr(on_ray, "Scoring", Mortal)
    assert list(scorer.groups(sources, rule=FIRST, batch=4)) == locally(model, sources)
    assert met.exists()
    from ray._private import worker

    with caplog.at_level(logging.INFO):
        worker.print_to_stdstream({"lines": ["A worker died."], "pid": "raylet"}, False)
    assert "raylet: A worker died." in caplog.text
    assert capfd.readouterr().out == ""


def test_engine_on_another_device_is_refused_before_its_scores_are_used(
    scorer: RayScorer, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(scorer._opened, device="cpu, 64 threads")
    monkeypatch.setattr(scorer, "_opened", other)
    with pytest.raises(UsageError, match=r"different devices.*64 threads") as raised:
        list(scorer.groups(map(AudioInput, paths), rule=FIRST, batch=4))
    assert "--threads" in str(raised.value.fix)


def test_fault_in_a_stage_is_raised_as_what_it_is(
    scorer: RayScorer, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(row: Any, job: Any) -> Any:
        raise ZeroDivisionError(f"{row['chunk']} {job.batch}")

    monkeypatch.setattr(on_ray, "decoded", faulty)
    with pytest.raises(scorer._ray.exceptions.UserCodeException, match=r"ZeroDivisionError: \d 4"):
        list(scorer.groups(map(AudioInput, paths), rule=FIRST, batch=4))


@pytest.mark.usefixtures("_cluster")
def test_model_that_does_not_open_is_the_error_of_open_engine(tmp_path: Path) -> None:
    (tmp_path / "none.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"^none\.onnx is not an ONNX model"):
        RayScorer(tmp_path / "none.onnx", "onnx", OPTIONS)


def test_words_of_ray_come_without_its_colours(scorer: RayScorer) -> None:
    lost = scorer._lost(scorer._ray.exceptions.RayError("\x1b[36mray::Read()\x1b[39m died"))
    assert str(lost) == "The cluster lost an engine or its windows: ray::Read() died"


@pytest.mark.usefixtures("_cluster")
def test_gpus_that_the_cluster_lacks_are_one_message(model: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="has 0 GPUs; 3 are needed"):
        RayScorer(model, "onnx", OPTIONS, scorers=3, on_gpu=True)


def test_machine_with_other_packages_is_refused() -> None:
    versions = tuple(sorted((versions_of("onnx") | {"numpy": "0.1"}).items()))
    with pytest.raises(UsageError, match=r"numpy 0\.1 there, .* here"):
        ray_worker.check_versions("onnx", versions)


def test_address_of_rays_client_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="no streams of results") as raised, ray_cluster("ray://x"):
        pass
    assert "--ray-address auto" in str(raised.value.fix)


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("127.0.0.1:1", EnvironmentLacks, "Nothing answers at 127.0.0.1:1"),
        ("127.0.0.1:99999", EnvironmentLacks, "99999"),
        ("head", UsageError, "must be auto or like HOST:6379"),
    ],
)
def test_address_without_a_cluster_is_refused_at_once(
    address: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        require_listener(address)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentLacks, match="package ray") as raised, ray_cluster(None):
        pass
    assert raised.value.fix == "pip install 'aasist-deploy[ray]'"
