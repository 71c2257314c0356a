"""Where compiled OpenVINO models are kept, when they are kept.

A compiled model is run as code, so it is only taken from a folder that nobody but the user can
write to. What is not the same file, settings, OpenVINO and CPU lies in another folder.
"""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasist_deploy.engines.cpu_features import cpu_flags, cpu_name
from aasist_deploy.engines.openvino_graph import import_openvino
from aasist_deploy.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

_OTHERS_MAY_WRITE = 0o022  # write permission of the group and of all others


def cache_folder(folder: Path | str, content: bytes, settings: Mapping[str, Any]) -> Path:
    """The folder for compiled models of this file with these settings; it is made.

    Args:
        folder: Folder of all compiled models.
        content: The bytes of the model file.
        settings: What it is compiled with, as JSON can hold it.

    Raises:
        OutputError: it cannot be made, is another user's, or others may write to it.
    """
    key = {
        "content": sha256(content).hexdigest(),
        "settings": dict(settings),
        "openvino": import_openvino().__version__,
        "cpu": [cpu_name(), *sorted(cpu_flags())],
        "limit": [os.environ.get(name) for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")],
    }
    name = sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    place = Path(folder).expanduser() / name
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(place.parent)
        place.mkdir(mode=0o700, exist_ok=True)
        _check_owner(place)
    except OSError as error:
        raise OutputError(
            f"Compiled models cannot be kept in {folder}: {error.strerror or error}.",
            fix="give another folder, or leave cache_dir out",
        ) from error
    return place


def _check_owner(folder: Path) -> None:
    status = folder.stat()
    if status.st_uid != os.geteuid():
        problem = f"it belongs to the user {status.st_uid}; this is {os.geteuid()}"
    elif status.st_mode & _OTHERS_MAY_WRITE:
        problem = f"others may write to it (mode {status.st_mode & 0o777:o})"
    else:
        return
    raise OutputError(
        f"Compiled models are run as code and are not taken from {folder}: {problem}.",
        fix=f"chmod 700 {folder}, or give a folder of your own",
    )
