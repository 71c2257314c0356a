"""A connection to a Ray cluster, or a cluster begun on this machine for one run."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from aasist_deploy.errors import EnvironmentLacks, UsageError
from aasist_deploy.pipeline.ray_quiet import messages_in_log, quiet_start

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

STORE_BYTES: Final = 256 << 20  # memory for windows under way, of a cluster that is begun here
_CONNECT_S: Final = 10.0
# Runs under way: what is left of one when its cluster ends would begin another, to end there.
RUNS: Final[WeakSet[Generator[Any, None, None]]] = WeakSet()


@contextmanager
def ray_cluster(address: str | None, *, n_cpus: int | None = None) -> Iterator[None]:
    """Connect to a cluster, or begin one on this machine and end it afterwards.

    Args:
        address: `HOST:PORT` of its head or "auto", from one of its machines; None to begin one.
        n_cpus: Decoding tasks at a time of a cluster that is begun here.

    Raises:
        EnvironmentLacks: Ray is not installed, or the cluster does not answer.
        UsageError: an address of Ray's client, which cannot stream results.
    """
    if address is not None and address.startswith("ray://"):
        raise UsageError(
            f"{address} is an address for Ray's client, which has no streams of results.",
            fix="run this command on a machine of the cluster, with --ray-address auto",
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to its maker
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data  # needs more packages than ray alone
    except ImportError as error:
        raise EnvironmentLacks(
            "Scoring on a cluster needs the package ray, which is not installed.",
            fix="pip install 'aasist-deploy[ray]'",
        ) from error
    mine = not ray.is_initialized()
    if mine:
        begin: dict[str, Any] = {"address": address}
        if address is not None:
            require_listener(address)
        else:
            begin = {
                "address": "local",
                "_node_ip_address": "127.0.0.1",  # nobody else's business
                "num_cpus": n_cpus,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
            }
        try:
            with quiet_start():
                ray.init(**begin, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            reason = " ".join(str(error).split())[:300]
            raise EnvironmentLacks(
                f"There is no Ray cluster at {address or 'this machine'} ({reason}).",
                fix="`ray status` on one of its machines says its address; for a cluster with a "
                "token set RAY_AUTH_MODE=token",
            ) from error
    if not mine:
        yield
        return
    with messages_in_log():
        try:
            yield
        finally:
            for run in list(RUNS):
                run.close()
            ray.shutdown()


def require_listener(address: str) -> None:
    """Refuse an address at which nothing listens; Ray tries for minutes.

    Raises:
        UsageError: it is not like HOST:PORT.
        EnvironmentLacks: nothing answers there.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--ray-address is '{address}'; it must be auto or like HOST:6379.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise EnvironmentLacks(
            f"Nothing answers at {address} ({error.strerror or error})."
            if isinstance(error, OSError)
            else f"{address} has no such port.",
            fix="`ray status` on a machine of the cluster says its address",
        ) from error
