"""The registry and `pull` without a network: facts, cache and mirror folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from aasist_deploy import published
from aasist_deploy.errors import CheckpointError, DownloadError, OutputError, UsageError
from aasist_deploy.published import (
    PACKAGED,
    PUBLISHED,
    PackagedModel,
    PublishedModel,
    cache_dir,
    published_by_sha256,
    pull,
    pull_from,
)

CONTENT = b"weights " * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache of a made-up model "tiny", with no mirror and no reachable repository."""
    model = PublishedModel(
        name="tiny",
        file="tiny.pth",
        repository="owner/project",
        commit="0" * 40,
        path="weights/tiny.pth",
        sha256=SHA256,
        n_bytes=len(CONTENT),
        licence="none",
        model_config={},
    )
    monkeypatch.setitem(PUBLISHED, "tiny", model)
    monkeypatch.setattr(published, "DOWNLOAD_ROOT", "http://127.0.0.1:1")
    monkeypatch.setenv(published.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(published.MIRROR_VARIABLE, raising=False)
    monkeypatch.setattr("aasist_deploy.download.BACKOFF_S", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "the mirror"
    folder.mkdir()
    (folder / "tiny.pth").write_bytes(CONTENT)
    return folder


def test_the_registry_is_keyed_by_name_and_pins_commits() -> None:
    assert list(PUBLISHED) == ["aasist", "aasist-l"]
    for name, model in PUBLISHED.items():
        assert model.name == name
        assert len(model.commit) == 40
        assert len(model.sha256) == 64
        assert model.path.endswith(f"/{model.file}")
        assert published_by_sha256(model.sha256.upper()) is model
        assert json.loads(json.dumps(model.model_config)) == model.model_config
    assert published.published("aasist").url == (
        "https://raw.githubusercontent.com/clovaai/aasist/"
        "a04c9863f63d44471dde8a6abcb3b082b07cd1d1/models/weights/AASIST.pth"
    )


def test_the_registry_states_the_facts_of_the_published_files(shared: Path) -> None:
    for model in PUBLISHED.values():
        weights = shared / "models" / "clovaai" / model.file
        assert weights.stat().st_size == model.n_bytes
        assert hashlib.sha256(weights.read_bytes()).hexdigest() == model.sha256
        config = json.loads(weights.with_suffix(".conf").read_text())["model_config"]
        assert model.model_config == config
        assert list(model.model_config) == list(config)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'rawnet' is not a published model; known: aasist, aasi"):
        published.published("rawnet")
    assert published_by_sha256("0" * 64) is None


def test_the_cache_is_the_users_unless_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(published.CACHE_VARIABLE, "~/somewhere")
    assert cache_dir() == Path.home() / "somewhere"
    monkeypatch.setenv(published.CACHE_VARIABLE, "")
    assert cache_dir().name == "aasist-deploy"


def test_a_cached_file_needs_nothing(cache: Path) -> None:
    cache.mkdir()
    (cache / "tiny.pth").write_bytes(CONTENT)
    got = pull_from("tiny", mirror="/no/such/mirror")
    assert (got.path, got.source) == (cache / "tiny.pth", "cache")
    assert [path.name for path in cache.iterdir()] == ["tiny.pth"]  # so it may be read-only


@pytest.mark.parametrize("place", ["tiny.pth", "owner/tiny.pth", "models/weights/tiny.pth"])
@pytest.mark.parametrize("form", ["folder", "file address", "variable"])
def test_a_mirror_folder_is_searched_in_three_places(
    cache: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, place: str, form: str
) -> None:
    (mirror / place).parent.mkdir(parents=True, exist_ok=True)
    (mirror / "tiny.pth").rename(mirror / place)
    given = mirror.as_uri() if form == "file address" else str(mirror)
    if form == "variable":
        monkeypatch.setenv(published.MIRROR_VARIABLE, given)
    got = pull_from("tiny", mirror=None if form == "variable" else given)
    assert got.source == str(mirror / place)
    assert got.path == cache / "tiny.pth"
    assert got.path.read_bytes() == CONTENT
    assert (mirror / place).read_bytes() == CONTENT


def test_the_file_itself_is_a_mirror_too(cache: Path, mirror: Path) -> None:
    assert pull("tiny", mirror=mirror / "tiny.pth") == cache / "tiny.pth"


def test_the_cache_can_be_given(cache: Path, mirror: Path, tmp_path: Path) -> None:
    assert pull("tiny", mirror=mirror, cache=tmp_path / "other") == tmp_path / "other" / "tiny.pth"
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"other", b"x" * len(CONTENT), CONTENT + b"more"])
def test_a_wrong_file_in_a_mirror_names_both_hashes_and_is_not_kept(
    cache: Path, mirror: Path, content: bytes
) -> None:
    (mirror / "tiny.pth").write_bytes(content)
    with pytest.raises(DownloadError) as caught:
        pull("tiny", mirror=mirror)
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert [path.name for path in cache.iterdir()] == ["tiny.pth.lock"]
    assert (mirror / "tiny.pth").exists()


def test_a_damaged_cached_file_is_replaced(cache: Path, mirror: Path) -> None:
    cache.mkdir()
    (cache / "tiny.pth").write_bytes(b"damaged")
    assert pull("tiny", mirror=mirror).read_bytes() == CONTENT


def test_a_damaged_cached_file_is_named_when_nothing_can_replace_it(cache: Path) -> None:
    cache.mkdir()
    (cache / "tiny.pth").write_bytes(b"damaged")
    found = hashlib.sha256(b"damaged").hexdigest()
    with pytest.raises(DownloadError, match=f"tiny.pth has sha256 {found}.* is not reachable"):
        pull("tiny")


def test_force_fetches_again_and_keeps_the_old_file_when_it_cannot(
    cache: Path, mirror: Path
) -> None:
    path = pull("tiny", mirror=mirror)
    assert pull_from("tiny", mirror=mirror, force=True).source == str(mirror / "tiny.pth")
    with pytest.raises(DownloadError, match="are to be fetched again, and"):
        pull("tiny", force=True)
    assert path.read_bytes() == CONTENT
    assert path.parent == cache


@pytest.mark.usefixtures("cache")
def test_a_mirror_without_the_file_lists_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"has none of tiny.pth, owner/tiny.pth, models/weigh"):
        pull("tiny", mirror=tmp_path)
    with pytest.raises(DownloadError, match="the mirror /no/such does not exist"):
        pull("tiny", mirror="/no/such")


@pytest.mark.usefixtures("cache")
def test_an_unknown_kind_of_mirror_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="s3://bucket/weights is neither"):
        pull("tiny", mirror="s3://bucket/weights")


def test_an_empty_mirror_variable_is_no_mirror(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(published.MIRROR_VARIABLE, "")
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 is not reachable from here"):
        pull("tiny")
    assert not (cache / "tiny.pth").exists()


@pytest.mark.usefixtures("cache")
def test_an_unwritable_cache_says_how_to_choose_another(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written") as caught:
        pull("tiny", mirror=mirror, cache=tmp_path / "file" / "cache")
    assert caught.value.fix is not None
    assert published.CACHE_VARIABLE in caught.value.fix


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A made-up packaged model "ours", in a package folder that may be written to."""
    folder = tmp_path / "package" / "weights"
    folder.mkdir(parents=True)
    (folder / "ours.safetensors").write_bytes(CONTENT)
    monkeypatch.setattr("aasist_deploy.published.resources.files", lambda _: folder.parent)
    model = PackagedModel(
        name="ours", file="ours.safetensors", sha256=SHA256, n_bytes=len(CONTENT), licence="MIT"
    )
    monkeypatch.setitem(PACKAGED, "ours", model)
    return folder / "ours.safetensors"


def test_weights_of_the_package_need_neither_cache_nor_network(
    packaged: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(published.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(published.MIRROR_VARIABLE, str(tmp_path / "nothing"))
    got = pull_from("ours")
    assert (got.path, got.source) == (packaged, "package")
    assert not (tmp_path / "cache").exists()
    assert published.names()[-1] == "ours"
    assert published.named("ours") is PACKAGED["ours"]


def test_weights_of_the_package_that_were_changed_are_refused(packaged: Path) -> None:
    packaged.write_bytes(CONTENT + b"!")
    with pytest.raises(CheckpointError, match=r"have sha256 .*, not ") as raised:
        pull("ours")
    assert raised.value.fix == "install aasist-deploy again"
    packaged.unlink()
    with pytest.raises(CheckpointError, match="are not there"):
        pull("ours")
