"""The page of `export --to web` in Chromium: Python's scores, plain words, and silence."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import soxr
from onnx import TensorProto, helper

from aasist_deploy import open_engine
from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.contract import ModelContract, write_contract
from aasist_deploy.errors import EnvironmentLacks
from aasist_deploy.export.web_bundle import _SOURCES, write_web_page
from aasist_deploy.export.web_runtime import WebRuntime, obtain_runtime
from aasist_deploy.onnx_file import parse_onnx
from tests.e2e.devtools import Chromium

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# Same samples, other kernels: measured 4.3e-6 over 43 clips with AASIST-L.
SAME_SAMPLES_ATOL = 1e-4
# Another resampler of the same response: measured 6.1e-4 over 12 clips at 44.1 kHz.
RESAMPLED_ATOL = 1e-3
DIGITS_ATOL = 6e-5  # the table shows four digits
PHONE_PX = 400
THRESHOLD = "bayes(prior_spoof=0.05, cost_miss=1, cost_fa=10)"
STATE = "document.documentElement.dataset.state"
SCORE = "Number(document.getElementById('main').dataset.score)"


@pytest.fixture(scope="module")
def program() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    reason = "needs Chromium (apt-get install chromium)"
    if os.environ.get("AASIST_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def runtime() -> WebRuntime:
    try:
        return obtain_runtime()
    except EnvironmentLacks as error:
        pytest.skip(f"needs onnxruntime-web: {error}")


@pytest.fixture(scope="module")
def wave() -> NDArray[np.float32]:
    """(56_000,) a voice-like wave of 3.5 s at 16 kHz."""
    random = np.random.default_rng(9)
    time = np.arange(56_000) / 16_000
    voice = sum(np.sin(2 * np.pi * 140 * k * time + k) / k for k in range(1, 20))
    return (0.1 * voice * (1 + np.sin(5 * time)) + random.normal(0, 0.005, len(time))).astype("f4")


@pytest.fixture(scope="module")
def browser(
    program: str, wave: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chromium]:
    folder = tmp_path_factory.mktemp("chromium")
    soundfile.write(folder / "spoken.wav", wave, 16_000, subtype="PCM_16")
    opened = Chromium(
        program, folder, "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={folder / 'spoken.wav'}", "--window-size=1000,1300",
    )  # fmt: skip
    yield opened
    opened.close()


def write_loudness_model(path: Path, n_samples: int | None, **contract: Any) -> Path:
    """Write a model whose score is ten times the mean magnitude; None takes clips of any length."""
    nodes = [
        helper.make_node("Abs", ["wave"], ["magnitude"]),
        helper.make_node("ReduceMean", ["magnitude", "axis"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "ten"], ["score"]),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("ten", TensorProto.FLOAT, [], [10.0]),
    ]
    shape = ["batch", n_samples or "samples"]
    wave = helper.make_tensor_value_info("wave", TensorProto.FLOAT, shape)
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])
    graph = helper.make_graph(nodes, "loudness", [wave], [score], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file = parse_onnx(model.SerializeToString(), path)
    described = ModelContract(
        architecture="Loudness", config={"nb_samp": 16_000}, sample_rate_hz=16_000,
        n_samples=n_samples, min_samples=n_samples or 800, outputs={"score": "loudness, (batch,)"},
        checkpoint_sha256="0" * 64, graph_sha256=file.graph_sha256, **contract,
    )  # fmt: skip
    write_contract(described, file, path)
    return path


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of a second, a calibration and a threshold."""
    path = tmp_path_factory.mktemp("calibrated") / "calibrated.onnx"
    calibration = {"scale": 0.5, "offset": 0.25}
    return write_loudness_model(path, 16_000, calibration=calibration, thresholds={THRESHOLD: 1.0})


@pytest.fixture(scope="module")
def page(calibrated: Path, runtime: WebRuntime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_web_page(calibrated, folder, runtime)
    return folder / "index.html"


@pytest.fixture
def opened(browser: Chromium, page: Path) -> Chromium:
    """The small network's page, opened from disk and ready."""
    browser.go(page.as_uri())
    assert browser.wait(STATE) == "ready"
    return browser


def scored(browser: Chromium, path: Path) -> float:
    """The score that the page gives a file."""
    assert given(browser, path) == "done", browser.js("document.getElementById('error').innerText")
    return float(browser.js(SCORE))


def given(browser: Chromium, path: Path) -> str:
    """What becomes of a file: "done" or "error"."""
    browser.js(f"{STATE} = ''")
    browser.choose("#file", path)
    return str(browser.wait(f"['done', 'error'].includes({STATE}) && {STATE}"))


def table(browser: Chromium) -> NDArray[np.float64]:
    """(windows, columns) of the page's table."""
    rows = browser.js(
        "[...document.querySelectorAll('#body tr')].map(row => [...row.children].map("
        "cell => Number(cell.textContent.replace('\u2212', '-'))))"
    )
    return np.array(rows, np.float64)


def python_scores(model: Path, clips: list[Path]) -> list[float]:
    with open_engine(model, backend="onnx", threads=1) as engine:
        n_samples = engine.contract.n_samples
        assert n_samples is not None
        windows = [fit_length(read_audio(clip).wave, n_samples) for clip in clips]
        return [float(engine.score(window[None])[0]) for window in windows]


@pytest.mark.slow
def test_real_clips_get_pythons_scores_from_disk_and_from_localhost(
    exported: Callable[..., Path], shared: Path, runtime: WebRuntime, browser: Chromium,
    tmp_path: Path,
) -> None:  # fmt: skip
    model = exported("AASIST-L")
    write_web_page(model, tmp_path / "page", runtime)
    flacs = sorted((shared / "data/LA_mini/ASVspoof2019_LA_eval/flac").glob("*.flac"))
    samples, rate = soundfile.read(flacs[3], dtype="int16")
    clips = {name: tmp_path / name for name in ("short.wav", "long.wav", "cd.wav")}
    soundfile.write(clips["short.wav"], samples[:8_000], rate)
    soundfile.write(clips["long.wav"], np.tile(samples, 2)[:85_000], rate)
    high = soxr.resample(samples / 32_768, rate, 44_100)
    soundfile.write(clips["cd.wav"], np.stack([high, high * 0.7], axis=1), 44_100)
    paths = [*clips.values(), flacs[1]]
    browser.go((tmp_path / "page" / "index.html").as_uri())
    assert browser.wait(STATE) == "ready"
    expected = dict(zip(paths, python_scores(model, paths), strict=True))
    for path, score in expected.items():
        atol = RESAMPLED_ATOL if path.name == "cd.wav" else SAME_SAMPLES_ATOL
        assert scored(browser, path) == pytest.approx(score, abs=atol), path.name
        if path.name == "long.wav":
            rows = table(browser)
            wave = read_audio(path).wave
            starts = np.arange(0, len(wave) - 64_600 + 1, 16_000)
            with open_engine(model, backend="onnx", threads=1) as engine:
                course = engine.score(np.stack([wave[s : s + 64_600] for s in starts]))
            np.testing.assert_allclose(rows[:, 0], starts / 16_000)
            np.testing.assert_allclose(rows[:, 2], course, atol=SAME_SAMPLES_ATOL)
    with served(tmp_path / "page") as (address, asked):
        browser.go(address)
        assert browser.wait(STATE) == "ready"
        short = clips["short.wav"]
        assert scored(browser, short) == pytest.approx(expected[short], abs=SAME_SAMPLES_ATOL)
        assert asked == ["/"]
    assert {url for url in browser.requests() if not url.startswith("blob:")} == {address}
    assert browser.complaints() == []


class served:  # noqa: N801  # used like a function
    """A web server of a folder at localhost, and the paths that it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def log_request(self, *_: object) -> None:
                asked.append(self.path)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> tuple[str, list[str]]:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}/", self.asked

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


LOADED = """new Promise(end => {{
  const made = {made};
  made.onload = () => end("sent");
  made.onerror = () => end("refused");
  made.src = "{address}";
  document.head.append(made);
}})"""


def test_nothing_can_leave_the_page(
    opened: Chromium, wave: NDArray[np.float32], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "clip.wav", wave, 16_000)
    scored(opened, tmp_path / "clip.wav")
    asked = {url for url in opened.requests() if not url.startswith("blob:")}
    assert len(asked) == 1
    assert asked.pop().endswith("/index.html")
    assert opened.complaints() == []
    with served(tmp_path) as (address, heard):
        attempts = (
            f"fetch('{address}a').then(() => 'sent', () => 'refused')",
            LOADED.format(made="new Image()", address=f"{address}b"),
            LOADED.format(made="document.createElement('script')", address=f"{address}c"),
        )
        for attempt in attempts:
            assert opened.js(attempt) == "refused"
        assert heard == []


def test_calibrated_model_shows_ratio_probability_and_decision(
    opened: Chromium, calibrated: Path, wave: NDArray[np.float32], tmp_path: Path
) -> None:
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, wave, 16_000, subtype="FLOAT")
    score = scored(opened, clip)
    assert score == pytest.approx(python_scores(calibrated, [clip])[0], abs=SAME_SAMPLES_ATOL)
    with open_engine(calibrated, backend="onnx", threads=1) as engine:
        starts = range(0, len(wave) - 16_000 + 1, 16_000)
        windows = np.stack([wave[s : s + 16_000] for s in starts])
        expected = np.stack(
            [engine.score(windows), engine.llr(windows), engine.p_spoof(windows)], 1
        )
    rows = table(opened)
    np.testing.assert_allclose(rows[:, 2:], expected, atol=SAME_SAMPLES_ATOL + DIGITS_ATOL)
    opened.js(
        f"document.getElementById('threshold').value = '{THRESHOLD}';"
        "document.getElementById('threshold').dispatchEvent(new Event('change'))"
    )
    said = opened.js("document.getElementById('decision').textContent")
    assert said == ("bona fide" if score >= 1.0 else "spoof")
    opened.wait("document.querySelector('#chart .threshold') !== null")
    assert opened.js("document.querySelectorAll('#chart .mark').length") == len(rows)


@pytest.mark.parametrize("place", ["disk", "localhost"])  # an older node and a worklet
def test_microphone_is_scored_while_it_speaks(browser: Chromium, page: Path, place: str) -> None:
    with served(page.parent) as (address, asked):
        browser.go(page.as_uri() if place == "disk" else address)
        assert browser.wait(STATE) == "ready"
        browser.js("document.getElementById('hop').value = '0.5'")
        browser.call("Runtime.evaluate", expression="document.getElementById('listen').click()")
        browser.wait("document.querySelectorAll('#body tr').length >= 3", 30)
        rows = table(browser)
        browser.js("document.getElementById('listen').click()")
        assert "Stopped" in browser.js("document.getElementById('status').textContent")
        assert asked == ([] if place == "disk" else ["/"])
    assert rows[0, 0] == 0
    np.testing.assert_allclose(rows[:, 1] - rows[:, 0], 1.0)
    assert np.all(np.diff(rows[:, 0]) >= 0.5)
    assert rows[:, 2].max() > 0.1  # ten times the mean magnitude: it heard something
    others = [e for e in browser.complaints() if e["params"]["entry"]["source"] != "deprecation"]
    assert others == []


def test_audio_that_never_starts_is_said(browser: Chromium, page: Path) -> None:
    browser.go(page.as_uri())
    assert browser.wait(STATE) == "ready"
    # What Firefox does on a machine without an audio output.
    browser.js("AudioContext.prototype.resume = () => new Promise(() => {}); 0")
    browser.call("Runtime.evaluate", expression="document.getElementById('listen').click()")
    browser.wait(f"{STATE} === 'error'", 20)
    assert "did not start its audio" in browser.js("document.getElementById('error').textContent")


def test_variable_length_model_scores_the_whole_clip(
    runtime: WebRuntime, browser: Chromium, wave: NDArray[np.float32], tmp_path: Path
) -> None:
    model = write_loudness_model(tmp_path / "any.onnx", None)
    write_web_page(model, tmp_path / "page", runtime)
    soundfile.write(tmp_path / "clip.wav", wave[:40_000], 16_000, subtype="FLOAT")
    browser.go((tmp_path / "page" / "index.html").as_uri())
    assert browser.wait(STATE) == "ready"
    with open_engine(model, backend="onnx", threads=1) as engine:
        expected = float(engine.score(wave[None, :40_000])[0])
    assert scored(browser, tmp_path / "clip.wav") == pytest.approx(expected, abs=SAME_SAMPLES_ATOL)
    np.testing.assert_allclose(table(browser)[:, :2], [[0, 1], [1, 2]])


def wav_without_samples(path: Path) -> None:
    path.write_bytes(b"RIFF\x04\0\0\0WAVE")


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("empty.wav", lambda path: path.touch(), "empty.wav is empty (0 bytes)"),
        ("text.mp3", lambda path: path.write_text("no audio"), "text.mp3 cannot be decoded"),
        ("cut.wav", wav_without_samples, "This WAV file holds no samples"),
        (
            "nan.wav",
            lambda path: soundfile.write(path, [0.1, np.nan, 0.1], 16_000, subtype="FLOAT"),
            "NaN or infinite samples, first at 1",
        ),
    ],
)
def test_bad_files_are_said_in_plain_words(
    opened: Chromium, tmp_path: Path, name: str, write: Callable[[Path], object], words: str
) -> None:
    write(tmp_path / name)
    assert given(opened, tmp_path / name) == "error"
    said = opened.js("document.getElementById('error').innerText")
    assert words in said
    assert opened.js("document.getElementById('result').hidden")


def replaced_part(page: str, content: bytes) -> str:
    packed = base64.b64encode(gzip.compress(content)).decode()
    return re.sub(r'(id="part-model">)[^<]*', lambda found: found[1] + packed, page)


@pytest.mark.parametrize("hash_too", [False, True])
def test_an_altered_model_is_refused(
    browser: Chromium, page: Path, calibrated: Path, tmp_path: Path, hash_too: bool
) -> None:
    content = bytearray(calibrated.read_bytes())
    content[content.index(b"loudness")] ^= 1  # the graph's name
    text = replaced_part(page.read_text(), bytes(content))
    if hash_too:  # the contract's own hash of the graph finds it
        old, new = (hashlib.sha256(each).hexdigest() for each in (calibrated.read_bytes(), content))
        text = text.replace(old, new)
    (tmp_path / "index.html").write_text(text)
    browser.go((tmp_path / "index.html").as_uri())
    assert browser.wait(STATE) == "refused"
    said = browser.js("document.getElementById('error').innerText")
    assert ("its graph hashes to" if hash_too else "model in this page was altered") in said
    assert browser.js("document.getElementById('choose').disabled")


def test_page_fits_a_phone_and_is_used_by_keyboard(
    opened: Chromium, wave: NDArray[np.float32], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / f"{'x' * 120}.wav", wave, 16_000)
    opened.call(
        "Emulation.setDeviceMetricsOverride", width=PHONE_PX, height=800, deviceScaleFactor=1,
        mobile=False,
    )  # fmt: skip
    try:
        scored(opened, tmp_path / f"{'x' * 120}.wav")
        opened.wait("document.querySelector('#chart .mark') !== null")
        assert opened.js("document.documentElement.scrollWidth") <= PHONE_PX
        key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        reached = []
        for _ in range(5):
            opened.call("Input.dispatchKeyEvent", type="keyDown", **key)
            opened.call("Input.dispatchKeyEvent", type="keyUp", **key)
            reached.append(
                opened.js("document.activeElement.id || document.activeElement.className")
            )
        controls = ["skip", "choose", "listen", "hop", "threshold"]
        assert reached == controls
    finally:
        opened.call("Emulation.clearDeviceMetricsOverride")


SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"]


def test_wav_samples_are_those_of_python_to_the_last_bit(
    opened: Chromium, wave: NDArray[np.float32], tmp_path: Path
) -> None:
    stereo = np.stack([wave[:3_000], -0.3 * wave[1_000:4_000]], axis=1)
    for container in ("WAV", "WAVEX"):
        for subtype in SUBTYPES:
            path = tmp_path / f"{subtype}.wav"
            soundfile.write(path, stereo, 11_025, subtype=subtype, format=container)
            content = base64.b64encode(path.read_bytes()).decode()
            found = opened.js(
                f"(() => {{ const raw = atob('{content}');"
                "const { rateHz, channels } = parseWav(Uint8Array.from(raw, c => c.charCodeAt(0)));"
                "return [rateHz, Array.from(toMono(channels))]; })()"
            )
            expected = soundfile.read(path, dtype="float32")[0].mean(axis=1, dtype=np.float64)
            assert found[0] == 11_025
            np.testing.assert_array_equal(np.array(found[1], "f4"), expected.astype("f4"), subtype)


def test_script_without_the_browsers_hash_gives_the_same_hash(browser: Chromium) -> None:
    browser.go("about:blank#")
    sources = [(_SOURCES / name).read_text() for name in ("wav.js", "model_file.js")]
    for n_bytes in (0, 55, 56, 64, 1_000):
        content = bytes(i * 7 % 256 for i in range(n_bytes))
        call = f"sha256InScript(new Uint8Array({list(content)}))"
        found = browser.js(f"(() => {{ {''.join(sources)}; return {call}; }})()")
        assert found == hashlib.sha256(content).hexdigest()
