"""Processes of our own beside this one: how they start, what is said between them, how they end.

Messages are a length of four bytes and JSON; a message may be followed by the bytes of audio.
"""

from __future__ import annotations

import json
import os
import signal
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import aasist_deploy
from aasist_deploy import errors
from aasist_deploy.errors import AasistDeployError
from aasist_deploy.inputs import Address, AudioInput

if TYPE_CHECKING:
    from collections.abc import Mapping

_LENGTH: Final = struct.Struct("<I")


def send(stream: BinaryIO, message: Mapping[str, Any], content: bytes = b"") -> None:
    """Write one message; `content` follows it as it is."""
    text = json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    if content:
        stream.write(content)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any] | None:
    """Read one message, or None at the end of the stream, however early it comes."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    text = stream.read(length)
    if len(text) < length:
        return None
    message: dict[str, Any] = json.loads(text)
    return message


def environment() -> dict[str, str]:
    """Variables with which a process imports the package that this one runs."""
    package = str(Path(aasist_deploy.__file__).resolve().parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def how_it_ended(code: int) -> str:
    """Why a process is no more, from its return code; a part of a sentence."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def input_facts(source: AudioInput) -> dict[str, Any]:
    """What a message says of an input; its content follows the message, `content` bytes if any."""
    return {
        # What may be shown of an address is not what opens it.
        "address": source.path.url if isinstance(source.path, Address) else None,
        "path": str(source.path),
        "error": source.error,
        "content": None if source.content is None else len(source.content),
    }


def input_of(facts: Mapping[str, Any], content: bytes | None) -> AudioInput:
    """The input of a message, and what followed it."""
    path = Address(facts["address"]) if facts["address"] else Path(facts["path"])
    return AudioInput(path, content, facts["error"])


def input_from(facts: Mapping[str, Any], stream: BinaryIO) -> AudioInput:
    """The input of a message from this stream, whose content is read from it."""
    length = facts["content"]
    return input_of(facts, None if length is None else stream.read(length))


def error_text(error: AasistDeployError) -> str:
    """An error of ours as a value of a message."""
    return json.dumps([type(error).__name__, str(error), error.fix])


def error_of(text: str) -> AasistDeployError:
    """The error that `error_text` wrote."""
    name, message, fix = json.loads(text)
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, AasistDeployError)):
        kind = AasistDeployError
    return kind(message, fix=fix)
