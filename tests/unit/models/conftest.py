from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALL: dict[str, dict[str, Any]] = {
    "AASIST": {
        "architecture": "AASIST",
        "nb_samp": 8_000,
        "first_conv": 32,
        "filts": [24, [1, 4], [4, 4], [4, 6], [6, 6]],
        "gat_dims": [6, 4],
        "pool_ratios": [0.5, 0.7, 0.5, 0.5],
        "temperatures": [2.0, 2.0, 100.0, 100.0],
    },
    "RawGAT-ST": {
        "architecture": "RawNetGatSpoofST",
        "nb_samp": 8_000,
        "first_conv": 32,
        "filts": [24, [1, 4], [4, 4], [4, 6], [6, 6]],
    },
    "RawNet2": {
        "architecture": "RawNet2Spoof",
        "nb_samp": 8_000,
        "first_conv": 64,
        "in_channels": 1,
        "filts": [24, [24, 24], [24, 8], [8, 8]],
        "blocks": [2, 4],
        "nb_fc_node": 6,
        "gru_node": 5,
        "nb_gru_layer": 2,
        "nb_classes": 2,
    },
}


@pytest.fixture(params=SMALL)
def small_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The configuration of a small network, once for each architecture."""
    return SMALL[request.param]


@pytest.fixture
def settings_of() -> Callable[[str], dict[str, Any]]:
    """Name of an architecture -> the configuration of a small network of it."""
    return lambda name: SMALL[name]


@pytest.fixture
def published_shapes(shared: Path) -> Callable[[str], dict[str, tuple[int, ...]]]:
    """Name -> name and shape of everything in the published state dict."""

    def read(name: str) -> dict[str, tuple[int, ...]]:
        with (shared / "spec" / "state_dict" / f"{name}.state_dict.tsv").open() as file:
            return {
                row["name"]: tuple(
                    int(size) for size in row["shape"].strip("()").split(",") if size
                )
                for row in csv.DictReader(file, delimiter="\t")
            }

    return read
