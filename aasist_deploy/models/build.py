"""From a configuration to a network, by the name of the architecture that it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import CheckpointError, UsageError
from aasist_deploy.models.aasist import Aasist, AasistConfig
from aasist_deploy.models.custom import CUSTOM, custom_network
from aasist_deploy.models.rawgat_st import RawGatSt, RawGatStConfig
from aasist_deploy.models.rawnet2 import RawNet2, RawNet2Config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aasist_deploy.models.network import Network

_BUILDERS: Final[dict[str, Callable[[Mapping[str, Any]], Network]]] = {
    "AASIST": lambda settings: Aasist(AasistConfig.from_mapping(settings)),
    "RawGAT-ST": lambda settings: RawGatSt(RawGatStConfig.from_mapping(settings)),
    "RawNet2": lambda settings: RawNet2(RawNet2Config.from_mapping(settings)),
}
# The names in the published `.conf` files.
_PUBLISHED_NAMES: Final = {"RawNetGatSpoofST": "RawGAT-ST", "RawNet2Spoof": "RawNet2"}


def build_model(settings: Mapping[str, Any], code: str | None = None) -> Network:
    """The network that a configuration names, with untrained weights.

    Args:
        settings: The `model_config` object of a published `.conf` file, or the `settings` of
            another network. Of a network of your own: "architecture": "custom", "config" (what its
            constructor is given) and, unless the class says it, "n_samples".
        code: "module:Class" or "path/to/file.py:Class" of a network of your own. Code is run only
            when it is named here; what `settings` says of it is a record.

    Raises:
        CheckpointError: the architecture is not known here, the configuration does not fit it, or
            the network needs code that is not named.
        UsageError: code is named for a built-in network, or the class cannot be found.
    """
    name = settings.get("architecture")
    if name == CUSTOM:
        return custom_network(settings, code)
    builder = _BUILDERS.get(_PUBLISHED_NAMES.get(str(name), str(name)))
    if builder is None:
        raise CheckpointError(
            f"The architecture '{name}' is not known; known are: AASIST (also AASIST-L), "
            f"RawGAT-ST, RawNet2 and {CUSTOM}.",
            fix="give one of these; a network of your own is 'custom', and its class is named "
            "beside it (--code FILE.py:Class)",
        )
    if code is not None:
        raise UsageError(
            f"{name} is built in, and the code {code} is named for it.",
            fix=f"leave the code out, or give a configuration with the architecture '{CUSTOM}'",
        )
    try:
        return builder(settings)
    except (MemoryError, RuntimeError) as error:  # torch says so in a RuntimeError
        raise CheckpointError(
            f"{name} of this configuration cannot be built here: {str(error).splitlines()[0]}",
            fix="check the sizes in its configuration",
        ) from error
