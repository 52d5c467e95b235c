"""Fields: a variational fixed point whose energy is exact to second order in the error of the fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.errors import OptionError, RecipeError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.heads.fields import FIELDS, FIELDS_RESIDUAL, START_FIELDS
from mlff_calc.potential import Potential, build_potential
from mlff_calc.potential.shadow import ShadowSizes, ShadowStep, solve_fields

BACKBONE = {"name": "hegnn", "cutoff": 4.0, "l_max": 2, "channels": 8, "n_layers": 1}


def make(backbone: dict[str, object] | None = None, **fields: object) -> Potential:
    """Potential in float64 with strong fields."""
    config = {"backbone": {**BACKBONE, **(backbone or {})}, "elements": ["H", "C", "O", "Si"], "fields": fields}
    potential = build_potential(config, seed=3)
    head = potential.fields
    assert head is not None
    head.source.weight.data *= 2.0
    return potential.to_precision("float64").eval().requires_grad_(False)


def graph_of(atoms: Atoms, potential: Potential) -> dict[str, torch.Tensor]:
    return graph_from_atoms(atoms, potential.cutoff)


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=2)
    return atoms


def test_energy_and_forces_converge_as_the_square_of_the_residual() -> None:
    exact, out = None, []
    for products in (60, 6, 8, 10, 12):
        potential = make(products=products, bound=4.0)
        graph = graph_of(ethanol(), potential)
        found = potential(graph)
        if exact is None:
            exact = found
            continue
        start, change, _ = solve_fields(potential, graph, 0.0, products)
        assert start.shape[0] == 9
        forces = float((found["forces"] - exact["forces"]).abs().max())
        out.append((change, abs(float(found["energy"] - exact["energy"])), forces))
    changes, energies, forces = np.log(np.array(out)).T
    assert np.ptp(changes) > 2.0
    assert np.polyfit(changes, energies, 1)[0] == pytest.approx(2.0, abs=0.25)
    assert np.polyfit(changes, forces, 1)[0] == pytest.approx(2.0, abs=0.35)


def test_the_energy_is_stationary_in_the_fields() -> None:
    potential = make(bound=4.0)
    graph = graph_of(ethanol(), potential)
    fields, change, _ = solve_fields(potential, graph, 1e-14, 500)
    assert change <= 1e-14
    moved = fields.clone().requires_grad_(True)
    with torch.enable_grad():
        features = potential.heads["fields"](
            {**potential.backbone(potential.inputs(graph, graph["edge_vec"])), START_FIELDS: moved, "energies": 0.0}
        )
        gradient = torch.autograd.grad(features["energies"].sum(), moved)[0]
    assert float(gradient.abs().max()) < 1e-12
    step = potential({**graph, START_FIELDS: fields + 0.1})
    assert float(step[FIELDS_RESIDUAL]) > 1e-2
    assert abs(float(step["energy"] - potential({**graph, START_FIELDS: fields})["energy"])) > 1e-6


@pytest.mark.parametrize("products", [1, 2])
def test_forces_at_given_fields_are_the_gradient_at_these(products: int) -> None:
    potential = make(bound=4.0)
    step = ShadowStep(potential, ShadowSizes(products))
    atoms, size = ethanol(), 1e-4
    fields = solve_fields(potential, graph_of(atoms, potential), 0.0, 2)[0] + 0.05
    out = step({**graph_of(atoms, potential), START_FIELDS: fields})
    for axis in range(3):
        energies = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions[1, axis] += sign * size
            energies.append(float(step({**graph_of(moved, potential), START_FIELDS: fields})["energy"]))
        assert -(energies[0] - energies[1]) / (2.0 * size) == pytest.approx(float(out["forces"][1, axis]), abs=1e-6)


def test_a_batch_has_a_residual_for_each_system() -> None:
    from mlff_calc.graph import collate

    potential = make()
    graphs = [graph_of(atoms, potential) for atoms in (ethanol(), molecule("H2O"))]
    fields = [solve_fields(potential, graph, 0.0, 2)[0] for graph in graphs]
    both = potential({**collate(graphs), START_FIELDS: torch.cat(fields)})
    for k, (graph, start) in enumerate(zip(graphs, fields, strict=True)):
        alone = potential({**graph, START_FIELDS: start})
        torch.testing.assert_close(both[FIELDS_RESIDUAL][k : k + 1], alone[FIELDS_RESIDUAL])
        torch.testing.assert_close(both["energy"][k : k + 1], alone["energy"])
    assert FIELDS in both
    assert FIELDS not in potential(graphs[0])


def test_a_crystal_of_images() -> None:
    potential = make()
    small = bulk("Si")
    one, eight = (potential(graph_of(atoms, potential)) for atoms in (small, small * 2))
    assert float(eight["energy"]) == pytest.approx(8.0 * float(one["energy"]), abs=1e-9)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"fields": {"bound": 0.0}}, "bound = 0.0 of head 'fields'; it must be between 0.01 and 16"),
        ({"fields": {"bound": 17}}, "bound = 17.0 of head 'fields'"),
        ({"fields": {"products": 0}}, "products = 0 of head 'fields'; it must be between 1 and 100"),
        ({"fields": {"l_max": 3}}, "head 'fields' needs features of degree 3; l_max is 2, raise it"),
        ({"fields": {"l_max": 4}}, "l_max = 4 of head 'fields'; it must be between 0 and 3"),
        ({"fields": {"bounds": 2}}, "bounds"),
        ({"fields": True}, "fields is True in a potential's configuration; give its options, or leave it out"),
        ({"fields": {}, "forces": "direct"}, "`fields` act through the energy, and direct forces take no gradient"),
        ({"fields": {}, "backbone": {"name": "deq", "l_max": 1}}, "`fields` with backbone 'deq'"),
    ],
)
def test_invalid_options(config: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build_potential({"backbone": BACKBONE, "elements": ["H"], **config})


def test_features_without_vectors_are_refused() -> None:
    potential = make()
    potential.backbone.limit_outputs(0)
    with pytest.raises(OptionError, match=r"fields of degree 1 need such features.*limit_outputs\(1\)"):
        potential(graph_of(ethanol(), potential))
