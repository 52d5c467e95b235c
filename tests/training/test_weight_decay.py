"""The parameters to which weight decay is applied."""

from __future__ import annotations

from mlff_calc.potential import build_potential
from mlff_calc.training.module import decayed_names


def test_matrices_decay_and_nothing_else() -> None:
    backbone = {"name": "equiformer", "channels": 8, "n_layers": 1, "l_max": 1}
    potential = build_potential({"backbone": backbone, "elements": ["H"]}, seed=0)
    decayed = decayed_names(potential)
    parameters = dict(potential.named_parameters())
    every = set(parameters)
    assert decayed < every
    assert {"backbone.embedding.radial.layers.0.weight", "backbone.blocks.0.attention.source.weight"} <= decayed
    spared = (
        "bias",
        "norm.scale",
        "norm.shift",
        "species.weight",
        "centre_embedding.weight",
        "neighbor_embedding.weight",
    )
    for name in every - decayed:
        assert name.endswith(spared) or "bias" in name or parameters[name].ndim < 2, name
    assert not any(name.endswith(spared) for name in decayed)
