"""Long recordings and live streams: one score for each sliding window."""

from __future__ import annotations

from aasist_deploy.streaming.batching import StreamBatcher, push_all
from aasist_deploy.streaming.opening import open_stream_model
from aasist_deploy.streaming.shared_frames import StreamScorer
from aasist_deploy.streaming.windows import WindowScore, WindowScorer

__all__ = [
    "StreamBatcher",
    "StreamScorer",
    "WindowScore",
    "WindowScorer",
    "open_stream_model",
    "push_all",
]
