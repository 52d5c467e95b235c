"""Priors are invariant, and the last step of a flow ends at the prediction."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from mlff_calc.electronic.hamiltonian import build_hamiltonian
from mlff_calc.electronic.hamiltonian.flow import between, draw_noise, noise_by_place, sample, with_state
from mlff_calc.electronic.hamiltonian.keys import FOCK_ATOMS, FOCK_PAIRS
from mlff_calc.electronic.hamiltonian.model import HamiltonianNetwork, reverse_of
from mlff_calc.electronic.hamiltonian.predict import matrix_graph, predict_fock

from .test_model import SMALL
from .turning import of_shells, random_turn


def _network(prior: str, **options: Any) -> HamiltonianNetwork:  # noqa: ANN401
    return build_hamiltonian(SMALL | {"flow": {"prior": prior}} | options, seed=1).to_precision("float64")


@pytest.mark.parametrize("prior", ["goe", "expansion"])
def test_noise_is_symmetric_and_invariant(prior: str) -> None:
    """Second moments of blocks, from many draws, do not change if the blocks are turned."""
    network = _network(prior)
    n, generator = 20000, torch.Generator().manual_seed(0)
    two = torch.arange(n).view(-1, 2).T
    graph = {
        "atomic_numbers": torch.full((n,), 8), "edge_index": torch.cat([two, two.flip(0)], dim=1),
        "edge_vec": torch.ones(n, 3), "system_index": torch.zeros(n, dtype=torch.long),
    }  # fmt: skip
    atoms, pairs = draw_noise(network, graph, generator)
    assert torch.equal(atoms, atoms.transpose(1, 2))
    assert torch.equal(pairs, pairs.transpose(1, 2)[reverse_of(graph["edge_index"])])
    shells = [0, 1, 2]
    chosen = torch.tensor([0, 3, 4, 5, 9, 10, 11, 12, 13])  # one shell of each degree
    for mirrored in (False, True):
        turn = of_shells(random_turn(1, mirrored=mirrored), shells)
        for drawn in (atoms, pairs[: n // 2]):  # the other pairs are transposed
            blocks = drawn[:, chosen][:, :, chosen]
            turned = turn @ blocks @ turn.T
            moments, after = (one.flatten(1).T @ one.flatten(1) / len(blocks) for one in (blocks, turned))
            assert (moments - after).abs().max() < 0.1 * moments.diagonal().max()
            assert moments.diagonal().max() > 0.1


def test_noise_without_the_right_variances_would_be_noticed() -> None:
    """A mirrored triangle of independent numbers, with equal variances everywhere, is not invariant."""
    whole = torch.randn(10000, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lower = whole.tril() + whole.tril(-1).transpose(1, 2)
    turn = random_turn(1, mirrored=False)
    turned = turn @ lower @ turn.T
    moments, after = (one.flatten(1).T @ one.flatten(1) / len(whole) for one in (lower, turned))
    assert (moments - after).abs().max() > 0.2 * moments.diagonal().max()


@pytest.mark.parametrize("steps", [1, 3])
def test_the_last_step_ends_at_the_prediction(steps: int) -> None:
    network = _network("goe")
    graph, _ = matrix_graph(network, [molecule("H2O")])
    states: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Watched(torch.nn.Module):
        def __getattr__(self, name: str) -> Any:  # noqa: ANN401
            return getattr(network, name)

        def forward(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            states.append((given["state_atoms"], given["flow_time"]))
            return network(given)

    with torch.no_grad():
        out = sample(Watched(), graph, 0, steps)
        last = network(with_state(graph, _state_of(network, graph, steps), states[-1][1]))
    assert len(states) == steps
    assert torch.allclose(out[FOCK_ATOMS], last[FOCK_ATOMS], atol=1e-12)
    assert torch.allclose(out[FOCK_PAIRS], last[FOCK_PAIRS], atol=1e-12)


def _state_of(network: HamiltonianNetwork, graph: dict[str, torch.Tensor], steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """State before the last step, by the formula of a path from noise to the predictions."""
    species, ends = network.species_of(graph)
    masks = network.masks(species, ends)
    state = noise_by_place(network, graph, 0)
    times = np.linspace(0.01, 1.0, steps + 1)
    for now, later in pairwise(times[:-1]):
        out = network(with_state(graph, state, torch.tensor([now], dtype=torch.float64)))
        end = network.scales.divide(out[FOCK_ATOMS], out[FOCK_PAIRS], species, ends)
        speed = [(e * mask - s) / (1.0 - now) for e, s, mask in zip(end, state, masks, strict=True)]
        state = (state[0] + (later - now) * speed[0], state[1] + (later - now) * speed[1])
    return state


def test_states_between_are_linear() -> None:
    network = _network("goe")
    graph, _ = matrix_graph(network, [molecule("H2O")])
    noise = noise_by_place(network, graph, 0)
    data = draw_noise(network, graph, torch.Generator().manual_seed(1))
    found = between(noise, data, torch.tensor([0.25], dtype=torch.float64), graph)
    for one, start, end in zip(found, noise, data, strict=True):
        assert torch.allclose(one, 0.75 * start + 0.25 * end)


def test_flows_predict_with_a_seed() -> None:
    network, atoms = _network("expansion", target="means"), molecule("H2O")
    first, again = (predict_fock(network, [atoms], steps=2, seed=4)[0] for _ in range(2))
    assert np.array_equal(first, again)
    assert np.abs(predict_fock(network, [atoms], steps=2, seed=5)[0] - first).max() > 1e-8


@pytest.mark.parametrize("prior", ["goe", "expansion"])
def test_predictions_of_flows_do_not_depend_on_the_batch(prior: str) -> None:
    network = _network(prior, target="means")
    molecules = [molecule(name) for name in ("H2O", "H2O2", "H2O", "OH")]
    molecules[2].rattle(0.05, seed=1)
    together = predict_fock(network, molecules, steps=2, seed=3)
    backwards = predict_fock(network, molecules[::-1], steps=2, seed=3)[::-1]
    for one, other, atoms in zip(together, backwards, molecules, strict=True):
        alone = predict_fock(network, [atoms], steps=2, seed=3)[0]
        assert np.abs(one - alone).max() < 1e-12
        assert np.abs(other - alone).max() < 1e-12


def test_noise_of_a_molecule_has_no_block_twice() -> None:
    network = _network("goe")
    graph, _ = matrix_graph(network, [molecule("H2O"), molecule("H2O2")])
    atoms, pairs = noise_by_place(network, graph, 0)
    second = atoms[3:, 0, 0].tolist() + pairs[graph["edge_index"][0] >= 3][:, 0, 0].tolist()
    assert len({round(value, 9) for value in second}) == 4 + 6  # a pair and its reverse share their first entry
    assert torch.equal(atoms[:3, 0, 0], atoms[3:6, 0, 0])
