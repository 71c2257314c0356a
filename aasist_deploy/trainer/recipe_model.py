"""The section [model] of a recipe: which network, and its settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import RecipeError
from aasist_deploy.published import published
from aasist_deploy.trainer.recipe_values import convert, plain, unknown_key

if TYPE_CHECKING:
    from collections.abc import Mapping

# Keys of `model_config` in the published .conf files; a custom network has its own under `config`.
_RAWGAT_ST: Final = ("nb_samp", "first_conv", "filts")
_RAWNET2: Final = (
    "nb_samp", "first_conv", "in_channels", "filts", "blocks", "nb_fc_node", "gru_node",
    "nb_gru_layer", "nb_classes",
)  # fmt: skip
CUSTOM: Final = "custom"
SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "AASIST": (*_RAWGAT_ST, "gat_dims", "pool_ratios", "temperatures"),
    "RawGAT-ST": _RAWGAT_ST,
    "RawNetGatSpoofST": _RAWGAT_ST,
    "RawNet2": _RAWNET2,
    "RawNet2Spoof": _RAWNET2,
    CUSTOM: ("n_samples", "config"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The network that is trained.

    In TOML the settings stand in the section itself: `[model]`, `architecture = "AASIST"`, ...
    """

    settings: Mapping[str, Any] = field(
        default_factory=lambda: dict(published("aasist").model_config)
    )
    """Settings for `models.build_model`, `architecture` among them; plain JSON types."""
    code: str | None = None
    """"module:Class" or "path/file.py:Class" of a custom network; code that training runs."""

    def __post_init__(self) -> None:
        """Check the architecture and the names of its settings."""
        object.__setattr__(self, "settings", plain(dict(self.settings), "model"))
        object.__setattr__(self, "code", convert(self.code, str | None, "model.code"))
        architecture: Any = self.settings.get("architecture")
        if not isinstance(architecture, str) or architecture not in SETTINGS:
            raise RecipeError(
                f"model.architecture is {architecture!r}; known are {', '.join(SETTINGS)}.",
                fix='for a network of your own: architecture = "custom" and code = "file.py:Class"',
            )
        for key in self.settings.keys() - {"architecture", *SETTINGS[architecture]}:
            raise unknown_key(key, SETTINGS[architecture], f"[model] of {architecture}")
        if (architecture == CUSTOM) != (self.code is not None):
            raise RecipeError(
                "model.architecture is 'custom' and model.code is missing."
                if self.code is None
                else f"model.code is '{self.code}', and model.architecture is '{architecture}'.",
                fix='code = "file.py:Class" goes with architecture = "custom", and with no other',
            )
        if self.code is not None and not all(self.code.rpartition(":")[::2]):
            raise RecipeError(
                f"model.code is '{self.code}'; it must be module:Class or path/file.py:Class."
            )
