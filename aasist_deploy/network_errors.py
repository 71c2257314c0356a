"""What went wrong on the way to a server, told from the nested errors of requests and urllib3."""

from __future__ import annotations

import email.utils
import http.client
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WAIT_S: Final = 10.0  # the longest Retry-After that is honoured


def retry_after_s(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header (seconds or a date), at most MAX_WAIT_S."""
    if header is None:
        return None
    if header.strip().isdecimal():
        seconds = float(header)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), MAX_WAIT_S)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it wraps: requests and urllib3 keep causes in three places."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def reason_of(error: BaseException) -> str:
    """A few words instead of the nested texts of requests and urllib3."""
    found = list(_causes(error))
    for kind, words in (
        (socket.gaierror, "its name cannot be resolved"),
        (ConnectionRefusedError, "connection refused"),
        (ssl.SSLCertVerificationError, "its certificate is not trusted"),
        (ssl.SSLError, "TLS failed"),
        (TimeoutError, "timed out"),
        (ConnectionResetError, "connection reset"),
        (http.client.IncompleteRead, "fewer bytes than declared"),
        (http.client.RemoteDisconnected, "no answer"),
    ):
        if any(isinstance(one, kind) for one in found):
            return words
    if any("Timeout" in type(one).__name__ for one in found):
        return "timed out"
    return " ".join(str(found[-1]).split())[:120] or type(error).__name__


def is_unreachable(error: BaseException) -> bool:
    """Whether the host was never reached: no name, no route, refused, no TLS, no proxy."""
    import requests

    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.SSLError):
        return True
    if isinstance(error, requests.ConnectTimeout):
        return True
    kinds = {"NewConnectionError", "NameResolutionError"}
    return any(type(one).__name__ in kinds for one in _causes(error))
