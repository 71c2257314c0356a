"""Long recordings and live streams: one score for each sliding window."""

from __future__ import annotations

from aasist_deploy.streaming.windows import WindowScore, WindowScorer

__all__ = ["WindowScore", "WindowScorer"]
