"""Scanned recordings as a picture or as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import OutputError
from aasist_deploy.report._render import render
from aasist_deploy.report._scan_figure import (
    NOT_DECODED,
    OF_PAGE,
    SIZE_INCHES,
    draw_png,
    draw_recording,
)
from aasist_deploy.report._svg import picture
from aasist_deploy.streaming.scan import MAX_KEPT_SEGMENTS, warnings_of
from aasist_deploy.streaming.summary import EXTREMES
from aasist_deploy.textfile import write_text_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from aasist_deploy.streaming.scan import Recording

_DPI: Final = 120
_CAPTION: Final = (
    "A point is the score of the window around it; higher is bona fide. Scores below the "
    "threshold, where there is one, are marked and shaded. Where there are too many points, each "
    "is the mean of several and the band their range."
)


def write_scan_png(out: Path, recordings: Sequence[Recording], result: Mapping[str, Any]) -> None:
    """Draw the scores of recordings over their waves.

    Args:
        out: The file; replaced when it is there.
        recordings: With envelope and course.
        result: What `scan --json` prints of them.

    Raises:
        OutputError: the place cannot be written.
    """
    from matplotlib.figure import Figure

    width, height = SIZE_INCHES
    figure = Figure(figsize=(width, (height + 0.3) * len(recordings)), layout="constrained")
    draw_png(figure, list(recordings), result["threshold"])
    try:
        figure.savefig(out, dpi=_DPI, format="png")
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}.") from error


def write_scan_page(out: Path, recordings: Sequence[Recording], result: Mapping[str, Any]) -> None:
    """Write the page of recordings that were scanned.

    Args:
        out: The file; replaced when it is there.
        recordings: With envelope and course.
        result: What `scan --json` prints of them.

    Raises:
        OutputError: the place cannot be written.
    """
    threshold = result["threshold"]
    parts = [
        _part(number, recording, figures, threshold)
        for number, (recording, figures) in enumerate(zip(recordings, result["files"], strict=True))
    ]
    page = render(
        "scan.html.j2",
        title=f"Scan of {recordings[0].path.name}"
        if len(recordings) == 1
        else f"Scan of {len(recordings)} recordings",
        verdict=_verdict(result),
        warnings=[
            (file["path"] + ":" if len(recordings) > 1 else "Note:", warning)
            for file in result["files"]
            for warning in warnings_of(file)
        ],
        contents=[(part["id"], part["name"]) for part in parts] if len(parts) > 1 else [],
        parts=parts,
        has_threshold=threshold is not None,
        extremes=EXTREMES,
        facts=_facts(result),
    )
    write_text_atomically(out, [page])


def _verdict(result: Mapping[str, Any]) -> str:
    scored = sum(file["n_scored"] for file in result["files"])
    windows = "window" if scored == 1 else "windows"
    if not scored:
        return "No window has a score."
    if result["threshold"] is None:
        lowest = min(file["min"] for file in result["files"] if file["min"] is not None)
        return f"{scored:,} {windows}; the lowest score is {lowest:.3f}."
    below = sum(file["n_spoof"] for file in result["files"])
    return (
        f"{below:,} of {scored:,} {windows} {'is' if below == 1 else 'are'} below the threshold "
        f"{result['threshold']:g}, which calls them spoof."
    )


def _part(
    number: int, recording: Recording, figures: Mapping[str, Any], threshold: float | None
) -> dict[str, Any]:
    name = recording.path.name
    drawn = recording.seconds > 0
    svg = (
        picture(
            lambda figure: draw_recording(figure, recording, threshold, OF_PAGE),
            name=f"scan{number}",
            label=f"Scores of {name} over time, and its wave",
            size=SIZE_INCHES,
        )
        if drawn
        else ""
    )
    return {
        "id": f"recording-{number}",
        "name": name,
        "figure": {
            "svg": svg,
            "said": NOT_DECODED,
            "caption": _CAPTION if drawn else "",
        },
        "rows": _rows(figures),
        "segments": [
            {
                "start": _clock(segment.start_s),
                "end": _clock(segment.end_s),
                "n_windows": f"{segment.n_windows:,}",
                "mean": f"{segment.mean:.3f}",
                "min": f"{segment.min:.3f}",
            }
            for segment in recording.spoof_segments
        ],
        "n_segments": recording.n_spoof_segments,
        "most": MAX_KEPT_SEGMENTS,
    }


def _rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    def score(key: str, at: str | None = None) -> str:
        if figures[key] is None:
            return "-"
        where = "" if at is None else f", window from {_clock(figures[at])}"
        return f"{figures[key]:.3f}{where}"

    return [
        ("Recording", figures["path"]),
        ("Duration", _clock(figures["seconds"])),
        ("Windows", f"{figures['n_windows']:,}, scored {figures['n_scored']:,}"),
        ("Mean score", score("mean")),
        ("Lowest score", score("min", "min_start_s")),
        (f"Mean of the {EXTREMES} lowest", score(f"mean_of_{EXTREMES}_lowest")),
        ("Highest score", score("max", "max_start_s")),
        ("At its end in no window", f"{figures['unscored_s']:.2f} s"),
    ]


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    threshold, speech = result["threshold"], result["vad_min_speech"]
    return [
        ("Model", result["model"]),
        ("Backend", f"{result['backend']}, {result['device']}"),
        ("Window", f"{result['window_s']:.4f} s every {result['hop_s']:.4f} s, {result['way']}"),
        ("Threshold", "none" if threshold is None else f"{threshold:g}"),
        ("Least speech in a window", "not measured" if speech is None else f"{speech:.0%}"),
    ]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:05.2f}"
