"""Audio in object stores and on web servers: rows, limits, and no secret in anything shown."""

from __future__ import annotations

import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.errors import EnvironmentLacks, UsageError
from aasist_deploy.inputs import Address, NamedInputs, _address
from aasist_deploy.pipeline import score_files, stages
from aasist_deploy.pipeline.isolated import InProcesses
from tests.clips import wav_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

fsspec = pytest.importorskip("fsspec", reason="needs the extra remote")


@pytest.fixture
def store() -> Iterator[Callable[[str, bytes], str]]:
    """(name, bytes) -> the address of an object of a store in memory."""
    files = fsspec.filesystem("memory")

    def put(name: str, content: bytes) -> str:
        files.pipe(f"/bucket/{name}", content)
        return f"memory://bucket/{name}"

    yield put
    files.rm("/bucket", recursive=True)


def rows_of(*typed: str | Path, engine: Any, **options: Any) -> list[Any]:
    with NamedInputs(typed) as named:
        return list(score_files(engine, named, **options))


def test_objects_named_in_a_list_are_scored_among_files_in_its_order(
    store: Callable[[str, bytes], str], fake_engine: Any, tmp_path: Path
) -> None:
    (tmp_path / "b.wav").write_bytes(wav_of(0.2))
    lines = [store("a.wav", wav_of(0.1)), "b.wav", store("c//d.wav", wav_of(0.3))]
    lines += ["memory://bucket/none.wav", lines[0]]
    (tmp_path / "all.txt").write_text("\n".join(lines))
    rows = rows_of(tmp_path / "all.txt", engine=fake_engine())
    assert [str(row.path) for row in rows] == [
        "memory://bucket/a.wav",
        str(tmp_path / "b.wav"),
        "memory://bucket/c//d.wav",
        "memory://bucket/none.wav",
    ]
    assert [row.score for row in rows[:3]] == pytest.approx([1.0, 2.0, 3.0], abs=1e-5)
    assert rows[3].error == "memory://bucket/none.wav cannot be read (it does not exist)."


def test_folders_and_patterns_of_a_store_are_listed_sorted(
    store: Callable[[str, bytes], str],
) -> None:
    for name in ("calls/b.wav", "calls/a.flac", "calls/note.txt", "calls/deep/c.wav"):
        store(name, b"x")

    def names(url: str) -> list[str]:
        with NamedInputs([url]) as named:
            return [str(source.path).removeprefix("memory://") for source in named]

    assert names("memory://bucket/calls/") == [
        "/bucket/calls/a.flac", "/bucket/calls/b.wav", "/bucket/calls/deep/c.wav",
    ]  # fmt: skip
    assert names("memory://bucket/calls/*.wav") == ["/bucket/calls/b.wav"]
    with pytest.raises(UsageError, match="names no audio file"):
        names("memory://bucket/nothing/*.wav")


def test_archives_in_a_store_are_streamed(
    store: Callable[[str, bytes], str], fake_engine: Any
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("x/1.wav")
        content = wav_of(0.4)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    (row,) = rows_of(store("shard.tar", stream.getvalue()), engine=fake_engine())
    assert str(row.path) == "memory://bucket/shard.tar/x/1.wav"
    assert row.path.stem == "1"
    assert row.score == pytest.approx(4.0, abs=1e-5)


def test_object_larger_than_the_limit_is_an_error_before_it_is_held(
    store: Callable[[str, bytes], str], fake_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "MAX_MEMBER_BYTES", 1_000)
    good, large = store("a.wav", wav_of(0.1)[:900]), store("b.wav", wav_of(0.1))
    rows = rows_of(good, large, engine=fake_engine())
    assert rows[1].error == f"{large} has more than the 1000 bytes that are read of one file."


def test_files_at_addresses_are_decoded_in_processes(tmp_path: Path, fake_engine: Any) -> None:
    (tmp_path / "a.wav").write_bytes(wav_of(0.1))
    processes = InProcesses(1)
    try:
        rows = rows_of(
            f"file://{tmp_path}/a.wav",
            f"file://{tmp_path}/b.wav",
            engine=fake_engine(),
            decoders=processes,
            decode_workers=1,
        )
    finally:
        processes.close()
    assert rows[0].score == pytest.approx(1.0, abs=1e-5)
    assert "b.wav cannot be read (it does not exist)" in rows[1].error


@pytest.fixture
def server() -> Iterator[str]:
    """A web server on this machine that has /good.wav for whoever knows the word."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "garbage" in self.path:
                self.wfile.write(b"garbage\r\n\r\n")
                return
            known = "signature=hunter2" in self.path or self.headers.get("Authorization")
            content = wav_of(0.1) if "good" in self.path else b""
            self.send_response(200 if known and content else 403 if content else 404)
            self.send_header("Content-Length", str(len(content) if known else 0))
            self.end_headers()
            if known:
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815  # as http.server calls it

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


def test_web_files_are_scored_and_no_secret_of_an_address_is_shown(
    server: str, fake_engine: Any
) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra remote")
    typed = [
        f"http://{server}/good.wav?signature=hunter2",
        f"http://{server}/good.wav?signature=wrong-secret",
        f"http://user:hunter2@{server}/none.wav",
        "http://user:hunter2@127.0.0.1:1/x.wav?key=hunter2",
        f"http://user:hunter2@{server}/garbage.wav?key=hunter2",
    ]
    rows = rows_of(*typed, engine=fake_engine())
    assert rows[0].score == pytest.approx(1.0, abs=1e-5)
    assert str(rows[0].path).startswith(f"http://{server}/good.wav?query-")
    assert str(rows[1].path) != str(rows[0].path)
    assert "the server answers 403" in rows[1].error
    assert str(rows[2].path) == f"http://{server}/none.wav"
    assert "it does not exist" in rows[2].error
    assert "cannot be read" in rows[3].error
    assert "the server does not speak HTTP" in rows[4].error
    shown = repr(rows) + "".join(map(repr, map(Address, typed)))
    for secret in ("hunter2", "wrong-secret", "user:"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:word@bucket/a?b#c.wav", "s3://bucket/a?b#c.wav"),
        ("https://h/a.wav#part", "https://h/a.wav"),
        ("https://me@h/a.wav", "https://h/a.wav"),
    ],
)
def test_address_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert _address.shown_of(url) == shown


@pytest.mark.parametrize("url", ["ssh://host/a.wav", "python://x", "github://a:b@c/d.wav"])
def test_address_that_is_not_read_is_one_message(url: str) -> None:
    with pytest.raises(UsageError, match=r"is no address that is read; known are s3://, "):
        NamedInputs([url])


def test_missing_package_of_a_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    # Without the cache; to clear it would drop a session of the other tests while it is open.
    monkeypatch.setattr(_address, "_file_system", _address._file_system.__wrapped__)
    monkeypatch.setattr(fsspec, "filesystem", lacks)
    with pytest.raises(EnvironmentLacks, match="s3fs") as raised:
        NamedInputs(["s3://bucket/a.wav"])
    assert raised.value.fix == "pip install s3fs"
