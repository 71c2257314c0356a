"""What can be scored: files, and audio inside archives, named one by one in constant memory."""

from aasist_deploy.inputs._address import Address, addresses_of, fetch, is_address
from aasist_deploy.inputs._archives import MAX_MEMBER_BYTES, audio_inside, is_archive
from aasist_deploy.inputs._named import NamedInputs
from aasist_deploy.inputs._protocols import protocol_files
from aasist_deploy.inputs._types import AudioInput

__all__ = [
    "MAX_MEMBER_BYTES",
    "Address",
    "AudioInput",
    "NamedInputs",
    "addresses_of",
    "audio_inside",
    "fetch",
    "is_address",
    "is_archive",
    "protocol_files",
]
