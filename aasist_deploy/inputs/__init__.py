"""What can be scored: files, and audio inside archives, named one by one in constant memory."""

from aasist_deploy.inputs._archives import audio_inside, is_archive
from aasist_deploy.inputs._named import NamedInputs
from aasist_deploy.inputs._types import AudioInput

__all__ = ["AudioInput", "NamedInputs", "audio_inside", "is_archive"]
