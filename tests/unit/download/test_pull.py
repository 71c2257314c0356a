"""Pulling a model, whose file is found in a repository or a mirror."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from aasist_deploy import published
from aasist_deploy.errors import DownloadError
from aasist_deploy.published import PublishedModel, pull, pull_from
from tests.unit.download.fetching import CONTENT, SHA256
from tests.unit.download.server import Handler, closed_port, serving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PublishedModel:
    """A made-up published model, an empty cache and no mirror."""
    model = PublishedModel(
        name="tiny",
        file="tiny.pth",
        repository="owner/project",
        commit="0" * 40,
        path="models/weights/tiny.pth",
        sha256=SHA256,
        n_bytes=len(CONTENT),
        licence="none",
        model_config={},
    )
    monkeypatch.setitem(published.PUBLISHED, "tiny", model)
    monkeypatch.setenv(published.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(published.MIRROR_VARIABLE, raising=False)
    return model


def test_pull_reads_the_commit_from_the_repository(
    tiny: PublishedModel, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda handler, _: handler.reply(200, CONTENT)) as server:
        monkeypatch.setattr(published, "DOWNLOAD_ROOT", server.url)
        got = pull_from("tiny")
        assert pull("tiny") == got.path == target  # the second time from the cache
    assert server.asked == [(f"/owner/project/{tiny.commit}/models/weights/tiny.pth", None)]
    assert got.source == tiny.url


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("has", ["/m/tiny.pth", "/m/owner/tiny.pth", "/m/models/weights/tiny.pth"])
def test_pull_looks_in_three_places_of_a_mirror(
    has: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(handler: Handler, _: int) -> None:
        if handler.path == f"{has}?key=secret":
            handler.reply(200, CONTENT)
        else:
            handler.reply(404)

    with serving(respond) as server:
        monkeypatch.setenv(published.MIRROR_VARIABLE, f"{server.url}/m/?key=secret")
        assert pull_from("tiny").source == server.url + has
    assert target.read_bytes() == CONTENT


@pytest.mark.usefixtures("tiny")
def test_pull_lists_what_a_mirror_lacks() -> None:
    with (
        serving(lambda handler, _: handler.reply(404)) as server,
        pytest.raises(
            DownloadError,
            match=r"are not in the cache, and the mirror http\S+ has none of "
            r"tiny.pth, owner/tiny.pth, models/weights/tiny.pth\.$",
        ),
    ):
        pull("tiny", mirror=server.url)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("way", ["repository", "mirror"])
def test_no_network_is_one_sentence(
    way: str, target: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    nowhere = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setattr(published, "DOWNLOAD_ROOT", nowhere)
    with pytest.raises(DownloadError) as caught:
        pull("tiny", mirror=nowhere if way == "mirror" else None)
    assert str(caught.value) == (
        "The weights of tiny are not in the cache, and 127.0.0.1 is not reachable from here "
        "(connection refused)."
    )
    assert caught.value.fix is not None
    assert published.MIRROR_VARIABLE in caught.value.fix
    assert str(target) in caught.value.fix
    assert sum(waits) < 5


@pytest.mark.usefixtures("tiny")
def test_pulls_at_the_same_time_download_once(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(handler: Handler, _: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        for start in range(0, len(CONTENT), 64_000):  # slow enough for the others to arrive
            handler.wfile.write(CONTENT[start : start + 64_000])
            threading.Event().wait(0.02)

    with serving(respond) as server:
        monkeypatch.setattr(published, "DOWNLOAD_ROOT", server.url)
        with ThreadPoolExecutor(4) as pool:
            paths = list(pool.map(pull, ["tiny"] * 4))
    assert paths == [target] * 4
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 1
