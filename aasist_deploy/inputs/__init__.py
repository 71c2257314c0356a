"""What can be scored: files, and audio inside archives, named one by one in constant memory."""

from aasist_deploy.inputs._types import AudioInput

__all__ = ["AudioInput"]
