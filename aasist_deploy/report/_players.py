"""Audio of single trials inside the page, so that a person can hear what went wrong."""

from __future__ import annotations

import base64
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.audio import read_audio
from aasist_deploy.errors import AasistDeployError

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

MAX_PLAYERS: Final = 50
SAMPLE_RATE_HZ: Final = 16_000  # of the models' input: what is heard is what was scored
MAX_SECONDS: Final = 15.0
MAX_BYTES: Final = (
    8_000_000  # of all clips, before base64: mail and browsers still take such a page
)


def add_players(hardest: Sequence[dict[str, Any]], n_players: int) -> None:
    """Give the first trials a `player` (a data: URL) or a `player_note` that says why not.

    Args:
        hardest: Rows of report.json's `hardest`; changed in place.
        n_players: How many of them, from the first.
    """
    room = MAX_BYTES
    for row in hardest[:n_players]:
        path = row.get("path")
        if not path:
            row["player_note"] = "The report does not say where the audio is."
            continue
        try:
            content, cut = _flac(Path(str(path)))
        except (AasistDeployError, OSError) as error:
            log.warning("no player for %s: %s", row["utterance"], error)
            row["player_note"] = str(error)
            continue
        if len(content) > room:
            row["player_note"] = f"Left out: the players of a page hold {MAX_BYTES:,} bytes."
            continue
        room -= len(content)
        row["player"] = "data:audio/flac;base64," + base64.b64encode(content).decode("ascii")
        if cut:
            row["player_note"] = f"The first {MAX_SECONDS:g} seconds."


def _flac(path: Path) -> tuple[bytes, bool]:
    """The start of a file as 16-bit FLAC at the models' rate, and whether there is more of it."""
    import soundfile

    longest = int(MAX_SECONDS * SAMPLE_RATE_HZ)
    wave = read_audio(path, sample_rate_hz=SAMPLE_RATE_HZ, max_samples=longest + 1).wave
    cut = len(wave) > longest
    # Samples beyond full scale are legal in float files; FLAC has none, and wrapping would click.
    buffer = io.BytesIO()
    soundfile.write(
        buffer, np.clip(wave[:longest], -1, 1), SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16"
    )
    return buffer.getvalue(), cut
