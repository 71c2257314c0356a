"""What Prometheus reads at /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server, in a registry of its own.

    Args:
        facts: What runs, as labels of `aasist_deploy_model_info`.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "aasist_deploy_requests",
            "Requests answered, by path and HTTP status; 499 is a client that went away.",
            ["path", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            "aasist_deploy_request_seconds",
            "From a request's head to the end of its answer, of /score.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._files = Counter(
            "aasist_deploy_files",
            "Uploaded files, by their HTTP status.",
            ["status"],
            registry=self._registry,
        )
        self._windows = Counter(
            "aasist_deploy_windows", "Windows that the engine scored.", registry=self._registry
        )
        self._batches = Histogram(
            "aasist_deploy_batch_windows",
            "Windows of each call of the engine.",
            buckets=_BATCHES,
            registry=self._registry,
        )
        self._calls = Histogram(
            "aasist_deploy_engine_seconds",
            "Duration of each call of the engine.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        Info("aasist_deploy_model", "What runs.", registry=self._registry).info(dict(facts))
        self.window_s = 0.0  # a moving mean of the engine's seconds for one window

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Show a value that is asked for when Prometheus reads."""
        Gauge(f"aasist_deploy_{name}", meaning, registry=self._registry).set_function(value)

    def batch_done(self, n_windows: int, seconds: float) -> None:
        """See `batching.Watcher`."""
        self._windows.inc(n_windows)
        self._batches.observe(n_windows)
        self._calls.observe(seconds)
        self.window_s += 0.2 * (seconds / n_windows - self.window_s)

    def request_done(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(path, str(status)).inc()
        if path == "/score":
            self._latency.observe(seconds)

    def file_done(self, status: int) -> None:
        """A file was scored or refused."""
        self._files.labels(str(status)).inc()

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self._registry)
