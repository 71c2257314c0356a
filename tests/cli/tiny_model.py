"""Moved to `tests.tiny_models`."""

from tests.tiny_models import write_tiny_model, write_tiny_stream_model

__all__ = ["write_tiny_model", "write_tiny_stream_model"]
