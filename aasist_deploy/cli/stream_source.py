"""Where the samples of `stream` come from: a file, stdin or a microphone."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aasist_deploy.audio import Pipe, check_pcm, file_blocks, microphone, pcm_blocks, pipe_blocks
from aasist_deploy.cli.common import stderr
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aasist_deploy.audio import Heard, Item, PcmFormat, Stop

_RATE_HZ: Final = 16_000  # of raw PCM that says nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSource:
    """What the command line says of the source.

    Attributes:
        place: A file, or "-" for stdin; None for none.
        from_microphone: --microphone.
        input_device: --input-device; None for the system's own choice.
        format: --format of raw PCM on stdin; None for a container.
        rate: --rate of raw PCM in Hz, or None.
        channels: --channels of raw PCM, or None.
        stall_s: Silence of a pipe, in seconds, that is worth a word.
        timeout_s: Silence of a pipe, in seconds, that ends the stream; 0 for none.
    """

    place: str | None
    from_microphone: bool
    input_device: str | None
    format: PcmFormat | None
    rate: int | None
    channels: int | None
    stall_s: float
    timeout_s: float

    def check_pcm(self) -> None:
        """Refuse options of raw PCM where there is none, and what raw PCM cannot be.

        Raises:
            UsageError: as said.
        """
        check_pcm(self._rate_hz, self._n_channels)
        if self.place == "-" and self.format is not None:
            return
        given = {"format": self.format, "rate": self.rate, "channels": self.channels}
        for option, value in given.items():
            if value is not None:
                raise UsageError(
                    f"--{option} {value} is of raw PCM on stdin; a file or container says it "
                    "itself.",
                    fix="give - and --format, or leave it out",
                )

    def check_one(self) -> None:
        """Refuse no source, and two.

        Raises:
            UsageError: as said.
        """
        if self.from_microphone and self.place is not None:
            raise UsageError(f"--microphone and {self.place} are two sources.", fix="leave one out")
        if not self.from_microphone and self.place is None:
            raise UsageError(
                "There is nothing to listen to.", fix="name a file, - for stdin, or --microphone"
            )

    @contextmanager
    def open(self, heard: Heard, stop: Stop, sample_rate_hz: int) -> Iterator[Iterator[Item]]:
        """Blocks of samples and gaps at a model's rate, while it is entered.

        Args:
            heard: Kept up to date.
            stop: Ends a wait for samples.
            sample_rate_hz: Of the model.

        Raises:
            AudioError: it cannot be read.
            EnvironmentLacks: there is no such microphone, or the package for it is missing.
        """
        if self.from_microphone:
            wanted = self.input_device
            device = int(wanted) if wanted is not None and wanted.isdecimal() else wanted
            with microphone(
                heard, device=device, stop=stop, sample_rate_hz=sample_rate_hz
            ) as items:
                yield items
        elif self.place == "-":
            number, timeout_s = sys.stdin.fileno(), self.timeout_s or None
            pipe = Pipe(number, "stdin", stop, self.stall_s, timeout_s, _say_stalled)
            if self.format is None:
                yield pipe_blocks(pipe, heard, sample_rate_hz=sample_rate_hz)
            else:
                yield pcm_blocks(
                    pipe,
                    heard,
                    format_=self.format,
                    rate_hz=self._rate_hz,
                    channels=self._n_channels,
                    sample_rate_hz=sample_rate_hz,
                )
        else:
            yield file_blocks(Path(self.place or ""), heard, sample_rate_hz=sample_rate_hz)

    @property
    def _rate_hz(self) -> int:
        return _RATE_HZ if self.rate is None else self.rate

    @property
    def _n_channels(self) -> int:
        return 1 if self.channels is None else self.channels


def _say_stalled(seconds: float) -> None:
    stderr.print(f"nothing came for {seconds:.0f} s; still waiting", style="yellow", markup=False)
