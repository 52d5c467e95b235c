"""Sizes that exceed any machine are refused before memory is allocated, in recipes and in headers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mlff_calc.backbones import available_backbones, build_backbone, resolve_backbone
from mlff_calc.backbones.base import LARGEST, backbone_options
from mlff_calc.errors import RecipeError
from mlff_calc.propagator.build import build_propagator


@pytest.mark.parametrize("name", available_backbones())
@pytest.mark.parametrize("key", sorted(LARGEST))
@pytest.mark.parametrize("value", [10**9, 10**400])
def test_every_width_and_count_has_a_bound(name: str, key: str, value: int) -> None:
    if key not in backbone_options(name):
        pytest.skip(f"{name} has no {key}")
    with pytest.raises(RecipeError, match=key):
        build_backbone({"name": name, key: value}, n_species=1)


@pytest.mark.parametrize("name", available_backbones())
def test_no_width_or_count_is_without_a_bound(name: str) -> None:
    sizes = {key for key, default in backbone_options(name).items() if isinstance(default, int) and default is not False}
    assert sizes - {key for key in sizes if isinstance(backbone_options(name)[key], bool)} <= set(LARGEST)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "equiformer", "channels": 4096, "n_layers": 64},
        {"name": "equiformer", "channels": 8, "ffn_channels": 16384, "n_layers": 64},
        {"name": "deq", "l_max": 6, "channels": 4096},
        {"name": "cg_egnn", "channels": 4096, "hops": 16},
        {"name": "hegnn", "steerable_channels": 256, "l_max": 6, "n_layers": 64},
    ],
)
def test_sizes_within_their_bounds_and_too_large_together(options: dict[str, Any]) -> None:
    start = time.monotonic()
    with pytest.raises(RecipeError, match="together are too large"):
        resolve_backbone(options)
    with pytest.raises(RecipeError, match="together are too large"):
        build_propagator({"backbone": options, "kinds": [1]})
    assert time.monotonic() - start < 5.0


def test_large_networks_as_trained_in_practice_pass() -> None:
    for options in (
        {"name": "equiformer", "l_max": 6, "channels": 128, "n_layers": 12},
        {"name": "equiformer", "l_max": 4, "channels": 256, "n_layers": 4},
        {"name": "hegnn", "l_max": 6, "channels": 512, "n_layers": 8},
        {"name": "cg_egnn", "channels": 256, "n_layers": 4},
    ):
        assert resolve_backbone(options)["channels"] == options["channels"]
