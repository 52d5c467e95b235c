"""Mathematics of fixed-point potentials in float64: uniqueness, gradients, the corrected energy, batches, starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import Tensor

from mlff_calc.fixed_point import SolveState
from mlff_calc.graph import Graph, collate, graph_from_atoms
from mlff_calc.potential import build_potential, evaluate_atoms, load_potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.model import pair_outputs

TOLERANCE = 1e-10


def make_potential(shake: float = 0.02, /, **options: object) -> FixedPointPotential:
    """Return a small potential in float64 with random weights, given options of the backbone or the potential."""
    backbone = {
        "name": "deq", "block": "equiformer", "prelude": 0, "cutoff": 4.0,
        "channels": 4, "l_max": 1, "heads": 2, "edge_channels": 8, "feedback": 0.1,
        "tolerance": TOLERANCE, "max_evaluations": 200,
    }  # fmt: skip
    config = {
        "elements": ["H", "C", "N", "O", "Si"],
        "reference_energies": {"H": -3.0, "C": -5.0, "N": -6.0, "O": -7.0, "Si": -11.0},
        "scale": 1.5,
    }
    for key, value in options.items():
        (config if key in ("forces", "repulsion") else backbone)[key] = value
    potential = build_potential({"backbone": backbone, **config}, seed=7)
    generator = torch.Generator().manual_seed(3)
    for parameter in potential.parameters():  # initial biases of zero would hide mistakes
        parameter.data += shake * torch.randn(parameter.shape, generator=generator)
    return potential.eval().to_precision("float64")


@pytest.fixture(scope="module")
def potential() -> FixedPointPotential:
    return make_potential()


def ethanol(seed: int = 3) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=seed)
    return atoms


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=2)
    return atoms


def crystal() -> Atoms:
    """Return two atoms in a skewed cell smaller than the cutoff."""
    atoms = bulk("Si")
    atoms.rattle(0.1, seed=4)
    skew = np.eye(3) + 0.03 * np.random.default_rng(1).normal(size=(3, 3))
    atoms.set_cell(atoms.cell.array @ skew, scale_atoms=True)
    return atoms


def graph_of(atoms: Atoms, **more: Tensor) -> Graph:
    return {**graph_from_atoms(atoms, 4.0), **more}


def with_tolerance(potential: FixedPointPotential, tolerance: float) -> FixedPointPotential:
    """Return the same potential with another tolerance."""
    other = potential.to_precision("float64")
    other.backbone.tolerance = tolerance
    return other


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


# The solution


def test_ten_random_starts_agree(potential: FixedPointPotential) -> None:
    """Solutions agree to the tolerance times |(1 - J)^-1|, which bounds the error for a given residual."""
    graph = graph_of(ethanol())
    expected = potential(graph)
    prepared = [tensor.detach() for tensor in potential.backbone.prepare(potential.inputs(graph, graph["edge_vec"]))]
    shape = expected["state"].shape
    jacobian = torch.autograd.functional.jacobian(
        lambda z: potential.backbone.evaluate(z.view(shape), graph["edge_index"], prepared).flatten(),
        expected["state"].flatten(),
    )
    amplified = 1.0 / float(torch.linalg.svdvals(torch.eye(jacobian.shape[0], dtype=torch.float64) - jacobian)[-1])
    transposed = 1.0 / float(torch.linalg.svdvals(torch.eye(jacobian.shape[0], dtype=torch.float64) - jacobian.T)[-1])
    assert amplified < 20.0
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        begin = {
            "start_state": 3.0 * torch.randn(shape, generator=generator, dtype=torch.float64),
            "start_adjoint": 3.0 * torch.randn(shape, generator=generator, dtype=torch.float64),
        }
        found = potential({**graph, **begin})
        assert float(found["residual"]) < TOLERANCE
        assert float(found["adjoint_residual"]) < TOLERANCE
        assert relative(found["state"], expected["state"]) < 2.0 * TOLERANCE * amplified
        assert relative(found["adjoint"], expected["adjoint"]) < 4.0 * TOLERANCE * transposed
        assert float(found["energy"] - expected["energy"]) == pytest.approx(0.0, abs=1e-11)


def test_the_residual_is_that_of_the_state(potential: FixedPointPotential) -> None:
    loose = with_tolerance(potential, 1e-3)
    graph = graph_of(ethanol())
    found = loose(graph)
    inputs = potential.inputs(graph, graph["edge_vec"])
    prepared = [tensor.detach() for tensor in potential.backbone.prepare(inputs)]
    state = found["state"].clone().requires_grad_()
    value = potential.backbone.evaluate(state, graph["edge_index"], prepared)
    gap = (value - state).detach()
    assert float(gap.norm() / value.detach().norm()) == pytest.approx(float(found["residual"]), rel=1e-9)
    (cotangent,) = torch.autograd.grad(potential.read(inputs, state).sum(), state)
    pulled = cotangent + torch.autograd.grad(value, state, found["adjoint"])[0]
    expected = float((pulled - found["adjoint"]).norm() / pulled.norm())
    assert expected == pytest.approx(float(found["adjoint_residual"]), rel=1e-9)
    assert 1e-10 < expected < 1e-3


def slope(potential: FixedPointPotential, images: Sequence[Atoms], step: float) -> float:
    """Return a central difference of fourth order from values at -2, -1, 1, 2 steps."""
    energy = evaluate_atoms(potential, images)["energy"]
    return (energy[0] - 8.0 * energy[1] + 8.0 * energy[2] - energy[3]) / (12.0 * step)


@pytest.mark.parametrize("repulsion", [None, {"name": "zbl", "reach": 1.5}], ids=["plain", "repulsion"])
@pytest.mark.parametrize("make", [ethanol, crystal])
def test_forces_are_the_gradient(make: object, repulsion: dict | None) -> None:
    potential, atoms, step = make_potential(repulsion=repulsion), make(), 1e-3
    forces = evaluate_atoms(potential, [atoms])["forces"]
    generator = np.random.default_rng(5)
    for _ in range(4):
        direction = generator.normal(size=forces.shape)
        images = []
        for factor in (-2, -1, 1, 2):
            images.append(atoms.copy())
            images[-1].positions += factor * step * direction / np.linalg.norm(direction)
        expected = -np.sum(forces * direction) / np.linalg.norm(direction)
        assert slope(potential, images, step) == pytest.approx(expected, rel=1e-6)


def test_stress_is_the_strain_derivative(potential: FixedPointPotential) -> None:
    atoms, step = crystal(), 2e-4
    out = evaluate_atoms(potential, [atoms])
    stress, generator = out["stress"][0], np.random.default_rng(6)
    np.testing.assert_allclose(stress, -out["virial"][0] / atoms.get_volume(), atol=1e-13)
    for _ in range(3):
        strain = generator.normal(size=(3, 3))
        strain = 0.3 * (strain + strain.T)
        images = []
        for factor in (-2, -1, 1, 2):
            images.append(atoms.copy())
            images[-1].set_cell(atoms.cell.array @ (np.eye(3) + factor * step * strain), scale_atoms=True)
        expected = np.sum(stress * strain) * atoms.get_volume()
        assert slope(potential, images, step) == pytest.approx(expected, rel=1e-6)


def unrolled_outputs(potential: FixedPointPotential, graph: Graph, steps: int) -> dict[str, Tensor]:
    """Return energy and forces by autograd through `steps` evaluations that start at the embedding."""
    edge_vec = graph["edge_vec"].detach().requires_grad_()
    inputs = potential.inputs(graph, edge_vec)
    prepared = potential.backbone.prepare(inputs)
    state = prepared[0]
    for _ in range(steps):
        state = potential.backbone.evaluate(state, graph["edge_index"], prepared)
    inputs["node_features"] = potential.backbone.read(state)
    energies = potential.heads["energy"](inputs)["energies"]
    out = potential.totals(energies, graph)
    (gradient,) = torch.autograd.grad(out["energy"].sum(), edge_vec, create_graph=True)
    return {**out, **pair_outputs(gradient, edge_vec.detach(), graph)}


def loss_of(out: dict[str, Tensor]) -> Tensor:
    return (out["energy"] ** 2).sum() * 1e-3 + (out["forces"] ** 2).sum() + out["forces"].abs().sum()


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_implicit_training_gradient_is_that_of_200_unrolled_evaluations(n_blocks: int) -> None:
    options = {"n_blocks": n_blocks, "gradient": "implicit", "feedback": 0.1}  # plain evaluations converge
    solve = {"training_tolerance": 1e-12, "training_evaluations": 100}
    potential = make_potential(**options, **solve).train()
    graph = collate([graph_of(water()), graph_of(molecule("CO"))])
    names, weights = zip(*((n, w) for n, w in potential.named_parameters() if w.requires_grad), strict=True)
    expected_out = unrolled_outputs(potential, graph, 200)
    expected = torch.autograd.grad(loss_of(expected_out), weights, allow_unused=True)
    found_out = potential(graph)
    assert relative(found_out["forces"].detach(), expected_out["forces"].detach()) < 1e-9
    found = torch.autograd.grad(loss_of(found_out), weights, allow_unused=True)
    whole = torch.cat([g.flatten() for g in expected if g is not None]).norm()
    acting = 0
    for name, one, other in zip(names, found, expected, strict=True):
        if other is None or float(other.norm()) < 1e-9 * float(whole):
            assert one is None or float(one.norm()) < 1e-8 * float(whole), name
            continue
        acting += name.startswith("backbone.map")
        assert relative(one, other) < 1e-6, name
    assert acting >= 6 * n_blocks


@pytest.mark.parametrize("gradient", ["phantom", "implicit"])
def test_training_forces_are_those_of_use(gradient: str) -> None:
    options = {"gradient": gradient, "training_tolerance": 1e-12, "training_evaluations": 200}
    potential = make_potential(**options)
    graph = graph_of(ethanol())
    used = potential(graph)
    trained = potential.train()(graph)
    for key in ("energy", "forces", "virial"):
        assert relative(trained[key].detach(), used[key]) < 1e-8


def test_more_phantom_steps_come_nearer_to_the_exact_gradient() -> None:
    """The rate of convergence is given by the contraction."""
    graph, distances = graph_of(water()), []
    solve = {"training_tolerance": 1e-12, "training_evaluations": 200}

    def gradient(**options: object) -> Tensor:
        potential = make_potential(**solve, **options).train()
        loss = loss_of(potential(graph))
        weights = [weight for weight in potential.parameters() if weight.requires_grad]
        found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in found])

    exact = gradient(gradient="implicit")
    for steps in (1, 4, 16):
        distances.append(relative(gradient(gradient="phantom", phantom_steps=steps), exact))
    assert distances[0] > 1.5 * distances[1]
    assert distances[1] > 3.0 * distances[2]
    assert distances[0] < 1.0


# The corrected energy


def energies_at(potential: FixedPointPotential, graph: Graph, state: Tensor, adjoint: Tensor) -> tuple[float, float]:
    """Return corrected and plain energy."""
    corrected = potential.outputs(graph, state, adjoint)["energy"].sum()
    plain = potential.read(potential.inputs(graph, graph["edge_vec"]), state).sum()
    return float(corrected.detach()), float(plain.detach())


def fitted_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def test_the_corrected_energy_falls_with_the_product_of_the_residuals(potential: FixedPointPotential) -> None:
    """This holds over a range of tolerances, while the error of the plain energy falls with one residual."""
    graphs = [graph_of(ethanol(seed)) for seed in range(4)]
    exact = [potential(graph) for graph in graphs]
    residuals, products, corrected, plain = [], [], [], []
    for tolerance in 10.0 ** np.arange(-1.0, -5.1, -0.5):
        loose, errors = with_tolerance(potential, float(tolerance)), []
        for graph, reference in zip(graphs, exact, strict=True):
            found = loose(graph)
            one, other = energies_at(loose, graph, found["state"], found["adjoint"])
            energy = float(reference["energy"].sum())
            errors.append((float(found["residual"]), float(found["residual"] * found["adjoint_residual"]),
                           abs(one - energy), abs(other - energy)))  # fmt: skip
        for values, mean in zip((residuals, products, corrected, plain), np.mean(errors, axis=0), strict=True):
            values.append(mean)
    assert fitted_slope(products, corrected) == pytest.approx(1.0, abs=0.15)
    assert fitted_slope(residuals, plain) == pytest.approx(1.0, abs=0.15)
    assert corrected[-1] < 1e-3 * plain[-1]


@pytest.mark.parametrize("both", [True, False], ids=["both", "state"])
def test_orders_of_energies_and_forces_in_the_errors(potential: FixedPointPotential, both: bool) -> None:
    """Along one direction of error, energy L is accurate to second order, plain energy and forces to first order."""
    graph = graph_of(ethanol())
    exact, generator = potential(graph), torch.Generator().manual_seed(0)
    away = [torch.randn(exact[key].shape, generator=generator, dtype=torch.float64) * exact[key].abs().mean()
            for key in ("state", "adjoint")]  # fmt: skip
    sizes, errors = 10.0 ** np.arange(-1.0, -4.1, -0.5), []
    for size in sizes:
        state, adjoint = exact["state"] + size * away[0], exact["adjoint"] + both * size * away[1]
        corrected, plain = energies_at(potential, graph, state, adjoint)
        reference = float(exact["energy"].sum())
        forces = potential.outputs(graph, state, adjoint)["forces"]
        errors.append((abs(corrected - reference), abs(plain - reference), float((forces - exact["forces"]).norm())))
    second, first, of_forces = np.array(errors).T
    assert fitted_slope(sizes[2:], second[2:]) == pytest.approx(2.0, abs=0.1)
    assert fitted_slope(sizes[2:], first[2:]) == pytest.approx(1.0, abs=0.1)
    assert fitted_slope(sizes[2:], of_forces[2:]) == pytest.approx(1.0, abs=0.1)


def test_the_corrected_energy_is_stationary(potential: FixedPointPotential) -> None:
    """Its derivatives by state and adjoint vanish at the solution, and the force is its partial gradient everywhere."""
    graph, step = graph_of(water()), 1e-4
    state = torch.randn(potential(graph)["state"].shape, generator=torch.Generator().manual_seed(1)).double()
    adjoint = torch.randn(state.shape, generator=torch.Generator().manual_seed(2)).double()
    forces = potential.outputs(graph, state, adjoint)["forces"].numpy()
    direction = np.random.default_rng(0).normal(size=forces.shape)
    energy = []
    for factor in (-2, -1, 1, 2):
        moved = water()
        moved.positions += factor * step * direction
        energy.append(energies_at(potential, graph_of(moved), state, adjoint)[0])
    found = (energy[0] - 8.0 * energy[1] + 8.0 * energy[2] - energy[3]) / (12.0 * step)
    assert found == pytest.approx(-np.sum(forces * direction), rel=1e-7)


# Batches


NAMES = (
    "CH4", "H2O", "NH3", "C2H2", "C2H4", "C2H6", "HCN", "CO", "N2", "H2CO", "CH3OH", "N2H4", "H2O2", "CO2", "C3H4_C3v",
    "C3H8", "CH3CH2OH", "CH3OCH3", "CH3CHO", "HCOOH", "CH3COOH", "H3CNH2", "C6H6", "C4H4O", "C4H4NH", "C5H5N", "NCCN",
    "CH3CN", "H2", "OH", "SiH4", "Si2H6",
)  # fmt: skip


def test_a_batch_of_32_molecules_equals_single_runs(potential: FixedPointPotential) -> None:
    """Results agree to the tolerance, and so do counts: a hard system does not cost other systems evaluations."""
    potential = with_tolerance(potential, 1e-8)
    structures = [molecule(name) for name in NAMES]
    for number, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=number)
    structures[4].positions *= 0.6  # a hard system
    graphs = [graph_of(atoms) for atoms in structures]
    together, start = potential(collate(graphs)), 0
    counts = {"evaluations": [], "adjoint_evaluations": []}
    for index, graph in enumerate(graphs):
        alone, stop = potential(graph), start + len(structures[index])
        for key, values in counts.items():
            values.append(int(alone[key]))
            assert int(together[key][index]) == int(alone[key]), (NAMES[index], key)
        assert float(together["residual"][index]) < 1e-8
        assert float(together["adjoint_residual"][index]) < 1e-8
        assert float(together["energy"][index]) == pytest.approx(float(alone["energy"]), abs=1e-9)
        torch.testing.assert_close(together["forces"][start:stop], alone["forces"], rtol=0.0, atol=1e-9)
        assert relative(together["state"][start:stop], alone["state"]) < 1e-8
        start = stop
    for values in counts.values():
        assert len(set(values)) >= 4
        assert max(values) > 1.5 * min(values)


def test_a_perfect_start_costs_one_evaluation_each(potential: FixedPointPotential) -> None:
    graph = collate([graph_of(ethanol()), graph_of(water())])
    cold = potential(graph)
    assert min(cold["evaluations"].tolist() + cold["adjoint_evaluations"].tolist()) > 5
    found = potential({**graph, "start_state": cold["state"], "start_adjoint": cold["adjoint"]})
    assert found["evaluations"].tolist() == [1, 1]
    assert found["adjoint_evaluations"].tolist() == [1, 1]
    for key in ("energy", "forces", "state", "adjoint"):
        torch.testing.assert_close(found[key], cold[key], rtol=0.0, atol=0.0)


# Kinds and edges


def test_states_on_the_way(potential: FixedPointPotential, monkeypatch: pytest.MonkeyPatch) -> None:
    """States are those of the solvers after a number of evaluations, or the solutions of systems that ended sooner."""
    graphs = [graph_of(ethanol()), graph_of(water())]
    ready, batch = potential(graphs[1]), collate(graphs)
    first = len(ethanol())
    embedding = potential.backbone.prepare(potential.inputs(batch, batch["edge_vec"]))[0].detach()
    start = {"start_state": torch.cat([embedding[:first], ready["state"]])}
    cotangent = torch.zeros_like(ready["adjoint"][:1]).expand(first, -1, -1)
    start["start_adjoint"] = torch.cat([cotangent, ready["adjoint"]])
    told: list[Tensor] = []
    tell = type(potential.backbone.solver).tell

    def noted(self: object, known: SolveState, value: Tensor) -> SolveState:
        told.append(known.z.view_as(start["start_state"]))
        return tell(self, known, value)

    monkeypatch.setattr(type(potential.backbone.solver), "tell", noted)
    found = potential.solve({**batch, **start}, [0, 3, 900])
    n = int(found["evaluations"].max())
    tried = {"state": told[:n], "adjoint": told[n:]}
    assert n > 4
    assert len(tried["adjoint"]) == int(found["adjoint_evaluations"].max()) > 4
    assert found["evaluations"][1] == found["adjoint_evaluations"][1] == 1
    for name, states in tried.items():
        path = found[f"path_{name}s"]
        expected = torch.stack([start[f"start_{name}"], states[3], found[name]])
        torch.testing.assert_close(path, expected, rtol=0.0, atol=0.0)
        assert torch.equal(path[1, first:], ready[name])
        assert float((path[1, :first] - found[name][:first]).abs().max()) > 1e-6
    plain = potential.solve({**batch, **start})
    assert plain.keys() == found.keys() - {"path_states", "path_adjoints"}
    assert all(torch.equal(plain[name], found[name]) for name in plain)


def test_states_on_the_way_with_direct_forces() -> None:
    potential = make_potential(forces="direct")
    found = potential.solve(graph_of(water()), [0, 2])
    assert found["path_states"].shape == found["path_adjoints"].shape == (2, 3, 4, 4)
    assert not bool(found["path_adjoints"].any())
    assert float((found["path_states"][1] - found["state"]).abs().max()) > 1e-6


@pytest.mark.parametrize("gradient", ["phantom", "implicit"])
def test_direct_forces(gradient: str) -> None:
    potential = make_potential(forces="direct", gradient=gradient, training_evaluations=100, training_tolerance=1e-10)
    graph = graph_of(ethanol())
    out = potential(graph)
    assert "stress" not in out
    assert out["adjoint_evaluations"].tolist() == [0]
    assert float(out["forces"].abs().max()) > 1e-3
    again = potential({**graph, "start_state": out["state"]})
    assert again["evaluations"].tolist() == [1]
    weights = potential.backbone.map.blocks[0].attention.project.weight
    (found,) = torch.autograd.grad(loss_of(potential.train()(graph)), [weights])
    assert float(found.norm()) > 0.0


def test_repulsion_is_added_to_energy_forces_and_stress() -> None:
    from mlff_calc.heads import Features, ZBLRepulsion

    plain, added = make_potential(), make_potential(repulsion={"name": "zbl", "reach": 2.0})
    for atoms in (ethanol(), crystal()):
        graph = graph_of(atoms)
        edge_vec = graph["edge_vec"].clone().requires_grad_()
        zeros = torch.zeros(len(atoms), dtype=torch.float64)
        head = ZBLRepulsion(Features(0, 1, plain.cutoff, species=plain.elements), 2.0)
        energies = head({**plain.inputs(graph, edge_vec), "energies": zeros})["energies"]
        (gradient,) = torch.autograd.grad(energies.sum(), edge_vec)
        extra = pair_outputs(gradient, edge_vec.detach(), graph)
        before, after = plain(graph), added(graph)
        assert float(energies.sum().detach()) > 1e-3
        torch.testing.assert_close(after["energies"] - before["energies"], energies.detach(), rtol=0.0, atol=1e-9)
        for key in ("forces", "stress", "atomic_virial"):
            torch.testing.assert_close(after[key] - before[key], extra[key], rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("repulsion", [None, {"name": "zbl", "reach": 1.0}], ids=["plain", "repulsion"])
def test_an_isolated_atom_and_none_at_all(repulsion: dict | None) -> None:
    potential = make_potential(repulsion=repulsion)
    alone = potential(graph_of(Atoms("C", positions=[[0, 0, 0]])))
    assert float(alone["residual"]) < TOLERANCE
    assert bool(torch.isfinite(alone["energy"]).all())
    torch.testing.assert_close(alone["forces"], torch.zeros(1, 3, dtype=torch.float64), rtol=0.0, atol=0.0)
    nothing = potential(graph_of(Atoms()))
    assert nothing["energy"].tolist() == [0.0]
    assert nothing["forces"].shape == (0, 3)
    assert nothing["state"].shape == (0, 4, 4)
    batch = potential(collate([graph_of(Atoms()), graph_of(water()), graph_of(Atoms("C", positions=[[0, 0, 0]]))]))
    torch.testing.assert_close(batch["energy"][1], potential(graph_of(water()))["energy"][0], rtol=0.0, atol=1e-9)
    torch.testing.assert_close(batch["energy"][2], alone["energy"][0], rtol=0.0, atol=1e-9)


def test_save_and_load(tmp_path: object) -> None:
    potential = make_potential(n_blocks=2, solver="broyden", tolerance=1e-6, history=12).to_precision("float32")
    loaded = load_potential(potential.save(f"{tmp_path}/p", card="# a card\n"))
    assert isinstance(loaded, FixedPointPotential)
    assert loaded.config == potential.config
    assert loaded.backbone.tolerance == 1e-6
    before, after = potential(graph_of(ethanol())), loaded(graph_of(ethanol()))
    for key, value in before.items():
        assert torch.equal(after[key], value), key


@pytest.mark.parametrize("solver", ["picard", "anderson", "broyden"])
def test_solvers_agree(potential: FixedPointPotential, solver: str) -> None:
    """The option selects the solver, and the solution does not depend on it."""
    other = make_potential(solver=solver)
    graph = graph_of(ethanol())
    assert type(other.backbone.solver).__name__.lower() == solver
    expected, found = potential(graph), other(graph)
    assert float(found["residual"]) < TOLERANCE
    assert relative(found["forces"], expected["forces"]) < 1e-8
