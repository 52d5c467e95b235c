"""Heads by name: valid configurations, and networks with exactly the named heads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import Tensor

from mlff_calc.errors import RecipeError
from mlff_calc.graph import declare
from mlff_calc.heads import Features, Head, available_heads, build_head, build_heads, register_head, resolve_heads
from mlff_calc.heads.base import HEADS
from mlff_calc.potential import build_potential, evaluate_atoms, load_potential

CHARGES = declare("charges", "atom", (), None, "e", "charges of atoms")
BACKBONES = [
    {"name": "hegnn", "cutoff": 3.0, "channels": 8, "l_max": 1},
    {"name": "deq", "cutoff": 3.0, "channels": 8, "l_max": 1},
]


@pytest.fixture
def charge() -> Iterator[None]:
    """A head from another package, for atomic charges."""

    @register_head("charge")
    class ChargeHead(Head):
        provides = (CHARGES,)

        def __init__(self, features: Features, scale: float = 0.5) -> None:
            super().__init__()
            self.last = torch.nn.Linear(features.channels, 1)
            self.scale = scale

        def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
            return {**graph, "charges": self.scale * self.last(graph["node_features"][:, 0]).squeeze(1)}

    yield
    del HEADS.parts["charge"]


def test_every_default_is_written_out() -> None:
    assert resolve_heads([{"name": "energy"}, {"name": "zbl", "reach": 1}]) == [
        {"name": "energy", "scale": 1.0},
        {"name": "zbl", "reach": 1.0},
    ]
    for name in available_heads():
        (resolved,) = resolve_heads([{"name": name}])
        assert resolve_heads([resolved]) == [resolved]
        assert isinstance(build_head(resolved, features=Features(1, 4, species=[1])), Head)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("energy", r"head is 'energy'; give its name and options"),
        ({"scale": 1.0}, r"head is \{'scale': 1.0\}; give its name and options"),
        ({"name": "enrgy"}, r"unknown head 'enrgy'; .*did you mean 'energy'\?"),
        ({"name": "energy", "scael": 1.0}, r"unknown option 'scael' of head 'energy'; did you mean 'scale'\?"),
        ({"name": "energy", "scale": True}, r"scale of head 'energy' is True; give a finite number"),
        ({"name": "energy", "scale": float("nan")}, r"scale of head 'energy' is nan"),
        ({"name": "direct_forces"}, r"head 'direct_forces' needs features of degree 1; l_max is 0, raise it"),
    ],
)
def test_a_wrong_head_is_one_clear_error(head: object, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build_heads([head], Features(0, 4))


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: str(backbone["name"]))
def test_a_potential_has_the_heads_that_are_named(backbone: dict, charge: None, tmp_path: object) -> None:
    heads = [{"name": "energy"}, {"name": "denoising"}, {"name": "charge", "scale": 2.0}]
    potential = build_potential({"backbone": backbone, "elements": ["H", "O"], "heads": heads}, seed=0)
    plain = build_potential({"backbone": backbone, "elements": ["H", "O"]}, seed=0)
    assert {name.split(".")[1] for name in plain.state_dict() if name.startswith("heads.")} == {"energy"}
    assert list(potential.heads) == ["energy", "denoising", "charge"]
    plain.load_state_dict({name: potential.state_dict()[name] for name in plain.state_dict()})
    water = molecule("H2O")
    found = evaluate_atoms(load_potential(potential.save(f"{tmp_path}/p")), [water])
    expected = evaluate_atoms(plain.eval(), [water])
    assert found["noise"].shape == (3, 3)
    assert found["charges"].shape == (3,)
    np.testing.assert_allclose(found["forces"], expected["forces"], rtol=0, atol=1e-6)
    assert np.abs(found["noise"]).max() > 1e-6 < np.abs(found["charges"]).max()
