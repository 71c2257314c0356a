"""A microphone through a stand-in for sounddevice: what was lost becomes a gap in its place."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest

from aasist_deploy.audio import Gap, Heard, device_list, microphone
from aasist_deploy.audio import _microphone as module
from aasist_deploy.errors import AudioError, EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Callable


class Stop:
    requested = False

    def fileno(self) -> int:
        raise AssertionError


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Install a sounddevice whose stream can be told to record."""

    def install(rate_hz: float = 16_000.0, channels: int = 1) -> Any:
        fake: Any = ModuleType("sounddevice")
        fake.PortAudioError = type("PortAudioError", (Exception,), {})
        fake.opened = []

        class InputStream:
            active = True

            def __init__(self, **options: Any) -> None:
                self.options, self.channels = options, options["channels"]
                fake.opened.append(self)

            def record(self, level: float, n: int = 800, *, overflow: bool = False) -> None:
                block = np.full((n, self.channels), level, np.float32)
                status = SimpleNamespace(input_overflow=overflow)
                self.options["callback"](block, n, None, status)
                block[:] = 9  # PortAudio uses its memory again

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                self.active = False

        def query_devices(device: object = None, kind: str | None = None) -> Any:
            if kind is None:
                return "> 0 Built-in"
            if device == "none":
                raise ValueError("No input device matching 'none'")
            return {"default_samplerate": rate_hz, "max_input_channels": channels, "name": "Mic"}

        fake.InputStream, fake.query_devices = InputStream, query_devices
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return install


def test_blocks_come_in_order_at_the_models_rate(device: Callable[..., Any]) -> None:
    fake, heard, stop = device(48_000.0, 2), Heard(), Stop()
    with microphone(heard, stop=stop) as items:
        (stream,) = fake.opened
        assert (stream.options["samplerate"], stream.options["blocksize"]) == (48_000, 2_400)
        for _ in range(20):
            stream.record(0.5, 2_400)
        got = [next(items) for _ in range(10)]
        stop.requested = True
        got += list(items)
    blocks = [block for block in got if not isinstance(block, Gap)]
    assert len(blocks) == len(got)
    assert 7_000 < sum(map(len, blocks)) <= 16_000
    assert np.abs(np.concatenate(blocks)[2_000:6_000] - 0.5).max() < 1e-3
    assert (heard.source_rate_hz, heard.source_channels, heard.note) == (48_000, 2, "Mic")
    assert not stream.active


def test_what_the_device_lost_is_a_gap_before_the_block_that_says_so(
    device: Callable[..., Any],
) -> None:
    fake = device()
    with microphone(Heard()) as items:
        (stream,) = fake.opened
        stream.record(0.1)
        stream.record(0.2, overflow=True)
        first, gap, second = next(items), next(items), next(items)
    assert isinstance(gap, Gap)
    assert (gap.seconds, "input overflow" in gap.reason) == (None, True)
    assert not isinstance(first, Gap)
    assert not isinstance(second, Gap)
    assert (first[0], second[0]) == (np.float32(0.1), np.float32(0.2))


def test_what_scoring_was_too_slow_for_is_a_gap_in_its_place(device: Callable[..., Any]) -> None:
    fake = device()
    with microphone(Heard(), max_waiting=2) as items:
        (stream,) = fake.opened
        for level in (0.1, 0.2, 0.3, 0.4):  # there is room for two
            stream.record(level)
        got = [next(items), next(items)]
        stream.record(0.5)
        got += [next(items), next(items)]
    levels = [item.seconds if isinstance(item, Gap) else float(item[0]) for item in got]
    assert levels == pytest.approx([0.1, 0.2, 1_600 / 16_000, 0.5])
    assert isinstance(got[2], Gap)
    assert "slower" in got[2].reason


def test_a_device_that_is_gone_is_an_error(
    device: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = device()
    monkeypatch.setattr(module, "_POLL_S", 0.01)
    monkeypatch.setattr(module, "LOST_S", 0.03)
    with microphone(Heard()) as items:
        fake.opened[0].record(0.1)
        next(items)
        with pytest.raises(AudioError, match="gives nothing more"):
            next(items)


def test_ending_before_the_first_sample_is_no_error(device: Callable[..., Any]) -> None:
    device()
    stop = Stop()
    stop.requested = True
    with microphone(Heard(), stop=stop) as items:
        assert list(items) == []


def test_an_unknown_device_is_named_with_a_way_out(device: Callable[..., Any]) -> None:
    fake = device()
    with (
        pytest.raises(EnvironmentLacks, match="No input device matching 'none'") as raised,
        microphone(Heard(), device="none"),
    ):
        pass
    assert "--list-devices" in str(raised.value.fix)
    assert device_list() == "> 0 Built-in"
    fake.query_devices = lambda: ""
    assert device_list() == "There is no audio device."


def test_a_missing_package_or_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(EnvironmentLacks, match="sounddevice") as raised:
        device_list()
    assert raised.value.fix == "pip install 'aasist-deploy[microphone]'"

    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(EnvironmentLacks, match="PortAudio library not found"):
        device_list()
