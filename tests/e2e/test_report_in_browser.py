"""The pages as Chromium shows them: whole, silent, on their own, and no wider than a phone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from aasist_deploy.metrics import eer
from aasist_deploy.report import read_system, write_comparison, write_report, write_scan_page
from aasist_deploy.scores import ScoreRow, write_scores_txt
from aasist_deploy.streaming.envelope import Envelope, ScoreCourse
from aasist_deploy.streaming.rows import WindowRow, decision
from aasist_deploy.streaming.scan import Recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PHONE_PX = 400
LONG = "LA_E_" + "x" * 180  # a name without a place to break a line
# What the wrapper finds in the page, written into its own title for --dump-dom to show.
WRAPPER = """<!DOCTYPE html><title>not loaded</title>
<iframe src="{page}" style="width: {width}px; height: 900px; border: 0"></iframe>
<script>
addEventListener("load", () => {{
  const view = document.querySelector("iframe").contentWindow, page = view.document;
  const wide = [...page.body.querySelectorAll("*")].filter(each =>
    !each.parentElement.closest(".scroll, svg") && !each.closest(".skip") &&
    each.getBoundingClientRect().right > {width} + 1);
  const skip = page.querySelector(".skip");
  const above = skip ? skip.getBoundingClientRect().bottom <= 0 : null;
  if (skip) skip.focus();
  document.title = JSON.stringify({{
    scroll_width: page.documentElement.scrollWidth,
    wide: wide.map(each => each.tagName + "." + each.className),
    skip_hidden: above,
    skip_shown: skip ? skip.getBoundingClientRect().top >= 0 : null,
    heights: [...page.querySelectorAll("figure svg")].map(each =>
      Math.round(each.getBoundingClientRect().height)),
    heat: [...page.querySelectorAll(".heat")].map(each =>
      view.getComputedStyle(each).backgroundColor),
    players: [...page.querySelectorAll("audio")].map(each => each.readyState),
  }});
}});
</script>
"""


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        found = shutil.which(name)
        if found:
            return found
    reason = "needs Chromium (apt-get install chromium)"
    if os.environ.get("AASIST_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def open_page(page: Path, folder: Path, width: int = PHONE_PX) -> tuple[dict[str, Any], str, str]:
    """Load a page in a frame of this width; what was measured, the console, the net log."""
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER.format(page=page.as_uri(), width=width))
    net_log = folder / "net.json"
    done = subprocess.run(
        [
            chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-quic", f"--user-data-dir={folder / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files",
            "--enable-logging=stderr", f"--log-net-log={net_log}", "--window-size=1000,1000",
            "--virtual-time-budget=5000", "--dump-dom", wrapper.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout, re.DOTALL)
    assert title, f"the page did not load: {done.stdout[:300]} {done.stderr[-2000:]}"
    measured = json.loads(title[1].replace("&gt;", ">").replace("&lt;", "<"))
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return measured, console, net_log.read_text(encoding="utf-8", errors="replace")


def requests_in(net_log: str) -> set[str]:
    """Addresses that a page asked for, other than files of this machine and data: URLs.

    The browser's own requests (updates, time) have "not an origin" as their initiator.
    """
    found = set()
    for line in net_log.splitlines():
        if '"initiator":' in line:  # one event a line, with a comma behind
            event, _ = json.JSONDecoder().raw_decode(line)
            found.add((event["params"]["initiator"], event["params"]["url"]))
    return {
        url
        for initiator, url in found
        if initiator != "not an origin" and not url.startswith(("file:", "data:"))
    }


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, float], Path]:
    """(name, shift of the spoofs) -> a folder with report.json, report.html and scores.txt."""
    root = tmp_path_factory.mktemp("evaluations")

    def make(name: str, shift: float) -> Path:
        random = np.random.default_rng(5)
        n_bonafide, n_spoof = 600, 1800
        scores = np.concatenate([random.normal(2, 1, n_bonafide), random.normal(shift, 1, n_spoof)])
        truth = np.arange(len(scores)) < n_bonafide
        attacks = ["-"] * n_bonafide + [f"A{7 + i % 13:02d}" for i in range(n_spoof)]
        names = [LONG if i == 0 else f"LA_E_{i:07d}" for i in range(len(scores))]
        scores[0] = -9.0  # the long name is the hardest trial
        wave = root / f"{name}.wav"
        soundfile.write(wave, np.sin(np.arange(8000) / 20) * 0.1, 16_000)
        found = eer(scores[truth], scores[~truth])
        each = {"eer_percent": 3.0, "n_spoof": 100, "n_bonafide": 50,
                "confidence": {"eer_percent": [1.0, 6.5]}}  # fmt: skip
        report: dict[str, Any] = {
            "schema": "aasist-deploy/report/1", "created": "2026-01-02T03:04:05Z",
            "command": "aasist-deploy eval " + "model" * 60, "compat": "corrected",
            "eer_percent": found.eer * 100, "eer_threshold": found.threshold,
            "min_tdcf_2019": 0.1, "min_tdcf_2019_note": None,
            "min_tdcf_2019_costs": {"c1": 0.9, "c2": 0.38},
            "confidence": {"level": 0.95, "n_bootstrap": 1000, "unit": "utterance", "seed": 0,
                           "eer_percent": [found.eer * 90, found.eer * 110]},
            "cllr_bits": 0.9, "min_cllr_bits": 0.2,
            "n_bonafide": n_bonafide, "n_spoof": n_spoof,
            "attacks": dict.fromkeys(sorted(set(attacks) - {"-"}), each),
            "conditions": {"codec": dict.fromkeys(("alaw", "gsm", "opus"), each)},
            "polarity": {"reversed": False, "negated_eer_percent": 90.0, "message": None},
            "asv": None, "model": {"architecture": "AASIST", "checkpoint_sha256": "0" * 64},
            "dataset": {"name": "manifest", "split": "eval", "root": "/" + "deep/" * 40,
                        "protocol": None, "asv_scores": None, "n_trials": len(scores)},
            "backend": {"name": "onnx", "device": "CPU", "details": {}},
            "timing": None,
            "audio": {"n_second_decoder": 1, "n_resampled": 0, "n_tiled": 2, "n_cut": 3},
            "decoding": [{"utterance": LONG, "second_decoder": True, "note": LONG}],
            "failures": [{"utterance": LONG, "path": LONG, "error": LONG}],
            "environment": {"python": "3.11"},
        }  # fmt: skip
        folder = root / name
        folder.mkdir()
        (folder / "robustness.json").write_text(json.dumps(ROBUSTNESS))
        write_report(
            report, scores=scores, is_bonafide=truth, attacks=attacks, utterances=names,
            out_dir=folder, conditions={"codec": [("alaw", "gsm", "opus")[i % 3] for i in
                                                  range(len(scores))]},
            paths=[wave] * len(scores), players=2,
        )  # fmt: skip
        rows = (
            ScoreRow(utterance=u, attack=a, label="bonafide" if t else "spoof", score=float(s))
            for u, a, t, s in zip(names, attacks, truth, scores, strict=True)
        )
        write_scores_txt(folder / "scores.txt", rows)
        return folder

    return make


ROBUSTNESS = {
    "schema": "aasist-deploy/robustness/1", "complete": True, "breaches": [],
    "clean": {"n": 100, "eer_percent": 1.0},
    "conditions": [
        {"name": "mp3-32k", "family": "codec", "meaning": "MP3 at 32 kbit/s and back",
         "status": "measured", "n": 100, "eer_percent": 3.0, "eer_change": 2.0, "flips": 4,
         "mean_abs_drift": 0.5, "max_abs_drift": 3.0},
        {"name": "amr", "family": "codec", "meaning": "AMR", "status": "unavailable",
         "reason": "no encoder"},
    ],
}  # fmt: skip


def scanned(folder: Path) -> Path:
    """The page of a recording of ten minutes, and of one that could not be decoded."""
    recordings = []
    for name in (LONG, "broken.wav"):
        recording = Recording(folder / name, envelope=Envelope(16_000), course=ScoreCourse())
        recordings.append(recording)
    whole, broken = recordings
    assert whole.envelope is not None
    random = np.random.default_rng(0)
    for second in range(600):
        whole.envelope.add((random.standard_normal(16_000) / 8).astype(np.float32))
        score = float(3 * np.sin(second / 20))
        whole.count(
            WindowRow(start_s=second, end_s=second + 4, score=score, decision=decision(score, 0.0))
        )
    whole.close()
    whole.seconds = 604.0
    broken.count(WindowRow(start_s=None, end_s=None, error=f"{LONG} cannot be decoded."))
    result = {
        "threshold": 0.0, "vad_min_speech": None, "model": "/" + "deep/" * 40, "backend": "onnx",
        "device": "CPU", "way": "each alone", "window_s": 4.0, "hop_s": 1.0,
        "files": [recording.to_dict() for recording in recordings],
    }  # fmt: skip
    write_scan_page(folder / "scan.html", recordings, result)
    return folder / "scan.html"


@pytest.fixture(scope="module")
def pages(evaluation: Callable[[str, float], Path], tmp_path_factory: Any) -> dict[str, Path]:
    first, second = evaluation("first", -0.5), evaluation("second", 0.0)
    both = tmp_path_factory.mktemp("both") / "both.html"
    systems = [read_system(first, "A"), read_system(second, "a name " + "y" * 60)]
    write_comparison(systems, both, command="aasist-deploy report " + "folder" * 60)
    scan = scanned(tmp_path_factory.mktemp("scan"))
    return {"one": first / "report.html", "several": both, "scan": scan}


@pytest.mark.parametrize("name", ["one", "several", "scan"])
def test_page_is_silent_alone_and_fits_a_phone(
    pages: dict[str, Path], name: str, tmp_path: Path
) -> None:
    measured, console, net_log = open_page(pages[name], tmp_path)
    assert console == ""
    assert requests_in(net_log) == set()
    assert measured["wide"] == []
    assert measured["scroll_width"] <= PHONE_PX
    assert len(measured["heights"]) >= (1 if name == "scan" else 2)
    assert min(measured["heights"]) > 200


def test_skip_link_is_seen_when_it_has_the_focus(pages: dict[str, Path], tmp_path: Path) -> None:
    measured, _, _ = open_page(pages["one"], tmp_path)
    assert measured["skip_hidden"] is True
    assert measured["skip_shown"] is True


def test_heat_is_drawn_in_several_strengths(pages: dict[str, Path], tmp_path: Path) -> None:
    measured, _, _ = open_page(pages["one"], tmp_path)
    assert len(set(measured["heat"])) > 5


def test_players_load_under_the_policy_of_the_page(pages: dict[str, Path], tmp_path: Path) -> None:
    measured, console, _ = open_page(pages["one"], tmp_path)
    assert console == ""
    assert len(measured["players"]) == 2
    assert min(measured["players"]) >= 1  # HAVE_METADATA: the browser could read the audio


def test_a_page_that_is_loud_reaches_out_and_overflows_is_caught(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><body><img src='http://example.invalid/x.png'>"
        "<div style='width: 900px'>wide</div><script>console.error('loud')</script>"
    )
    measured, console, net_log = open_page(page, tmp_path)
    assert "loud" in console
    assert requests_in(net_log) == {"http://example.invalid/x.png"}
    assert measured["wide"] == ["DIV."]
    assert measured["scroll_width"] > PHONE_PX


def test_page_prints_on_paper(pages: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "page.pdf"
    subprocess.run(
        [
            chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--no-pdf-header-footer", f"--print-to-pdf={target}", pages["one"].as_uri(),
        ],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    content = target.read_bytes()
    n_pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", content))
    assert content.startswith(b"%PDF")
    assert 3 <= n_pages <= 9  # as much as the content needs: measured 6
