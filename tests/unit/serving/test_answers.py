"""What the server answers, over real sockets: scores, metrics, a description of itself."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aasist_deploy.inputs import AudioInput
from aasist_deploy.pipeline import WindowRule, score_files

if TYPE_CHECKING:
    from collections.abc import Callable

    Wav = Callable[..., bytes]


def test_files_come_back_in_their_order_with_all_that_is_known(serve: Any, wav: Wav) -> None:
    server = serve()
    answer = server.files(
        {"a.wav": wav(0.1), "b.wav": wav(0.2, 300), "c.wav": wav(-0.3, 900, 8_000)}
    )
    assert answer.status == 200
    assert answer.json["window"] == "first 800"
    assert [file["file"] for file in answer.json["files"]] == ["a.wav", "b.wav", "c.wav"]
    assert np.allclose(answer.scores[:2], [1, 2])
    assert [file["tiled"] for file in answer.json["files"]] == [False, True, False]
    assert [file["resampled"] for file in answer.json["files"]] == [False, False, True]
    assert "window_scores" not in answer.json["files"][0]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("", WindowRule()),
        ("?windows=all", WindowRule(n_windows=None)),
        ("?windows=3&hop=0.01&aggregate=bottom-2",
         WindowRule(n_windows=3, hop_s=0.01, aggregate="bottom-2")),
    ],
)  # fmt: skip
def test_scores_are_those_of_the_pipeline(
    serve: Any, fake_engine: Any, query: str, rule: WindowRule
) -> None:
    random = np.random.default_rng(3)
    content = b"".join(
        [b"RIFF", (36 + 6_000).to_bytes(4, "little"), b"WAVEfmt ", (16).to_bytes(4, "little"),
         b"\1\0\1\0", (16_000).to_bytes(4, "little"), (32_000).to_bytes(4, "little"),
         b"\2\0\x10\0data", (6_000).to_bytes(4, "little"),
         random.integers(-9_000, 9_000, 3_000, dtype="<i2").tobytes()]
    )  # fmt: skip
    (row,) = score_files(fake_engine(), [AudioInput(Path("x"), content)], rule=rule)
    answer = serve().raw(content, query + ("&" if query else "?") + "window_scores=true&name=x")
    (file,) = answer.json["files"]
    assert file["score"] == row.score  # the digits too
    assert file["window_scores"] == list(row.window_scores)
    assert answer.json["window"] == rule.name(fake_engine().contract)


def test_a_calibrated_model_gives_probabilities(serve: Any, wav: Wav, fake_engine: Any) -> None:
    held = {"scale": 2.0, "offset": -1.0, "method": "logistic"}
    engine = fake_engine(calibration=held)
    (row,) = score_files(engine, [AudioInput(Path("x"), wav(0.1))])
    (file,) = serve(engine).raw(wav(0.1)).json["files"]
    assert row.llr is not None
    assert (file["llr"], file["p_spoof"]) == (row.llr, row.p_spoof)


def test_a_variable_length_model_hears_the_whole_file_up_to_the_limit(
    serve: Any, wav: Wav, fake_engine: Any
) -> None:
    server = serve(fake_engine(n_samples=None, min_samples=100), max_seconds=0.5)
    assert np.allclose(server.raw(wav(0.1, 7_000)).scores, [1])
    assert server.engine.batches == [1]
    assert server.raw(wav(0.1, 8_001)).status == 413
    assert server.raw(wav(0.1), "?windows=all").status == 400


def test_some_files_of_a_request_may_fail(serve: Any, wav: Wav) -> None:
    answer = serve().files({"a.wav": wav(0.1), "b.wav": b"no audio", "c.wav": b""})
    assert answer.status == 207
    assert [file["status"] for file in answer.json["files"]] == [200, 422, 422]
    assert "b.wav cannot be decoded" in answer.json["files"][1]["error"]
    assert answer.json["files"][2]["error"] == "c.wav is empty (0 bytes)."


def test_names_are_labels_and_no_file_is_read_for_them(
    serve: Any, wav: Wav, tmp_path: Path
) -> None:
    (tmp_path / "secret.wav").write_bytes(wav(0.9))
    server = serve()
    answer = server.files({f"../..{tmp_path}/secret.wav": b"no audio"})
    assert answer.status == 422
    (file,) = answer.json["files"]
    assert file["file"] == "secret.wav"
    assert file["score"] is None
    assert str(tmp_path) not in answer.body.decode()
    name = "%00%0d%0aX-Evil:1%3Cscript%3E.wav"
    answer = server.raw(b"no audio", f"?name={name}")
    assert answer.status == 422
    assert "\ufffd\ufffd\ufffdX-Evil:1<script>.wav" in answer.json["files"][0]["error"]
    assert "x-evil" not in answer.headers


def test_sixty_four_clients_get_their_own_scores(serve: Any, wav: Wav) -> None:
    server = serve()
    start = threading.Barrier(64)

    def work(index: int) -> None:
        content = wav(0.001 * (index + 1))
        start.wait(20)
        for _ in range(4):
            answer = server.raw(content, f"?name={index}")
            assert answer.status == 200
            (file,) = answer.json["files"]
            assert file["file"] == str(index)
            assert file["score"] == pytest.approx(0.01 * (index + 1), rel=1e-5)

    with ThreadPoolExecutor(64) as pool:
        for done in [pool.submit(work, index) for index in range(64)]:
            done.result()
    assert sum(server.engine.batches) == 64 * 4
    assert max(server.engine.batches) > 1


def test_metrics_are_what_happened(serve: Any, wav: Wav) -> None:
    server = serve()
    server.files({"a.wav": wav(0.1), "b.wav": b"no audio"})
    server.raw(wav(0.1, 3_200), "?windows=all")
    server.get("/nothing")
    text = server.get("/metrics").body.decode()
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["aasist_deploy_requests_total", "/score", "207"] == 1
    assert found["aasist_deploy_requests_total", "/score", "200"] == 1
    assert found["aasist_deploy_requests_total", "404", "other"] == 1
    assert found["aasist_deploy_files_total", "200"] == 2
    assert found["aasist_deploy_files_total", "422"] == 1
    assert found["aasist_deploy_request_seconds_count",] == 2
    n_windows = found["aasist_deploy_windows_total",]
    assert n_windows - 1 - 8 == 1 + 7  # after warming up
    assert found["aasist_deploy_batch_windows_sum",] == n_windows
    assert found["aasist_deploy_queue_files",] == found["aasist_deploy_queue_bytes",] == 0
    assert found["process_resident_memory_bytes",] > 0


def test_routes_are_described_for_generators_of_clients(serve: Any) -> None:
    paths = serve().get("/openapi.json").json["paths"]
    assert paths.keys() == {"/score", "/healthz", "/readyz", "/metrics"}
    names = {one["name"] for one in paths["/score"]["post"]["parameters"]}
    assert names == {"windows", "hop", "aggregate", "window_scores", "name"}
    assert "multipart/form-data" in paths["/score"]["post"]["requestBody"]["content"]
