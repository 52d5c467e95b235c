"""Distributions of the dynamics of many replicas, and detailed balance of their exchange."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.potential import build_potential
from mlff_calc.sampling.evaluators import BatchedPotential, Evaluation, Evaluator
from mlff_calc.sampling.langevin import Langevin
from mlff_calc.sampling.replica_exchange import exchange, geometric_ladder, swap
from mlff_calc.sampling.systems import Systems

STIFFNESS = 2.0  # eV/Angstrom^2


class Springs(Evaluator):
    """Pairs of atoms on a spring of length 1.5 Angstrom."""

    def __call__(self, systems: Systems, positions):
        bonds = positions[1::2] - positions[::2]
        lengths = np.linalg.norm(bonds, axis=1, keepdims=True)
        pull = STIFFNESS * (lengths - 1.5) * bonds / lengths
        forces = np.stack([pull, -pull], axis=1).reshape(-1, 3)
        return Evaluation(0.5 * STIFFNESS * (lengths[:, 0] - 1.5) ** 2, forces)


class DoubleWell(Evaluator):
    """Pairs of atoms with minima at distances of 2 and 4 Angstrom, the second one higher."""

    def energy(self, length):
        return 0.15 * ((length - 3.0) ** 2 - 1.0) ** 2 + 0.02 * (length - 3.0)

    def __call__(self, systems: Systems, positions):
        bonds = positions[1::2] - positions[::2]
        lengths = np.linalg.norm(bonds, axis=1, keepdims=True)
        slope = 0.6 * ((lengths - 3.0) ** 2 - 1.0) * (lengths - 3.0) + 0.02
        forces = np.stack([slope * bonds / lengths, -slope * bonds / lengths], axis=1).reshape(-1, 3)
        return Evaluation(self.energy(lengths[:, 0]), forces)


def pairs(n, length=1.5, symbols="N2"):
    return [Atoms(symbols, [(0, 0, 0), (length, 0, 0)]) for _ in range(n)]


def standard_error(values, n_blocks=20):
    return np.std([block.mean() for block in np.array_split(values, n_blocks)], ddof=1) / n_blocks**0.5


def test_kinetic_and_potential_energies_are_those_of_their_temperatures():
    temperatures = np.repeat([200.0, 400.0], 150)
    systems, positions = Systems.of(pairs(300))
    run = Langevin(systems, positions, Springs(), temperatures=temperatures, timestep=1.0, friction=20.0, seed=3)
    kinetic, lengths = [], []

    def look(run):
        if run.n_steps > 300 and run.n_steps % 10 == 0:
            kinetic.append(run.kinetic_energies())
            lengths.append(np.linalg.norm(run.positions[1::2] - run.positions[::2], axis=1))

    run.run(3000, look)
    kinetic, lengths = np.array(kinetic), np.array(lengths)
    for half, kT in ((slice(0, 150), 200.0 * units.kB), (slice(150, 300), 400.0 * units.kB)):
        values = kinetic[:, half]
        assert values.mean() == pytest.approx(1.5 * kT, abs=4 * standard_error(values.mean(axis=0)))  # 3 degrees of freedom
        assert values.var() == pytest.approx(1.5 * kT**2, rel=0.06)  # of the gamma distribution
        r = np.linspace(0.5, 3.0, 4000)
        weight = r**2 * np.exp(-0.5 * STIFFNESS * (r - 1.5) ** 2 / kT)
        squares = (lengths[:, half] - 1.5) ** 2
        exact = (weight * (r - 1.5) ** 2).sum() / weight.sum()
        assert squares.mean() == pytest.approx(exact, abs=4 * standard_error(squares.mean(axis=0)))
    momenta = systems.sums(systems.masses[:, None] * run.velocities)
    assert np.abs(momenta).max() < 1e-10


def test_exchange_keeps_the_distribution_of_a_double_well():
    ladder = geometric_ladder(150.0, 900.0, 6)
    found = exchange(
        pairs(1, 2.0)[0], DoubleWell(), temperatures=ladder, n_attempts=4000, steps_between=15, timestep=2.0,
        friction=10.0, seed=1,
    )  # fmt: skip
    assert (found.tried == 2000).all()
    lengths = np.linalg.norm(found.positions[:, 200:, 1] - found.positions[:, 200:, 0], axis=2)
    r = np.linspace(1.0, 6.0, 5000)
    for k, kT in enumerate(ladder * units.kB):
        weight = r**2 * np.exp(-DoubleWell().energy(r) / kT)
        exact = weight[r > 3.0].sum() / weight.sum()
        share = (lengths[k] > 3.0).astype(float)
        assert share.mean() == pytest.approx(exact, abs=4 * standard_error(share)), k
    # acceptance out of the exact distributions of the energies
    matrix = found.acceptance
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix, 1) > 0.3).all()
    assert np.count_nonzero(matrix) == 10
    assert set(found.visits[:, 0].tolist()) == set(range(6))  # a replica goes all the way
    reduced, counts = found.reduced_energies()
    assert reduced.shape == (6, 6 * 4000)
    assert counts.tolist() == [4000] * 6
    assert reduced[2, 4000] == pytest.approx(found.energies[1, 0] / (units.kB * ladder[2]))


def test_swaps_obey_detailed_balance():
    """Two levels at two temperatures: the joint distribution is the product of both."""
    random, beta = np.random.default_rng(0), np.array([2.0, 1.0])
    levels, holder = np.array([0.0, 1.0]), np.array([0, 1])
    counts, tried, accepted = np.zeros((2, 2)), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    for _ in range(40000):
        for k in (0, 1):  # Metropolis on each replica at its temperature
            change = (1.0 - levels[holder[k]]) - levels[holder[k]]
            if random.random() < np.exp(-beta[k] * change):
                levels[holder[k]] += change
        swap(holder, levels, beta, 0, random, tried, accepted)
        counts[int(levels[holder[0]]), int(levels[holder[1]])] += 1
    shares = np.exp(-beta) / (1.0 + np.exp(-beta))
    exact = np.outer([1 - shares[0], shares[0]], [1 - shares[1], shares[1]])
    assert counts / counts.sum() == pytest.approx(exact, abs=0.01)
    assert 0 < accepted[0] < tried[0] == 40000


def test_same_seed_same_trajectory():
    systems, positions = Systems.of([molecule("H2O"), molecule("CH4")])
    backbone = {"name": "hegnn", "channels": 16, "n_layers": 1, "l_max": 1, "cutoff": 4.0}
    potential = build_potential({"backbone": backbone, "elements": ["H", "C", "O"], "scale": 0.1}, seed=0)

    def final(seed):
        run = Langevin(systems, positions, BatchedPotential(potential), temperatures=300.0, seed=seed)
        run.run(20)
        return run.positions

    assert (final(1) == final(1)).all()
    assert not np.allclose(final(1), final(2))


def test_bad_options_and_breakdowns():
    systems, positions = Systems.of(pairs(2))
    cases = (
        ({"temperatures": 0.0}, "temperature is 0.0"),
        ({"temperatures": 300.0, "timestep": -1.0}, "timestep"),
        ({"temperatures": 300.0, "friction": np.nan}, "friction is nan"),
    )
    for options, text in cases:
        with pytest.raises(OptionError, match=text):
            Langevin(systems, positions, Springs(), **options)
    with pytest.raises(OptionError, match="ladder of 1"):
        geometric_ladder(300.0, 600.0, 1)
    with pytest.raises(OptionError, match="rise"):
        exchange(pairs(1)[0], Springs(), temperatures=np.array([300.0, 300.0]), n_attempts=3)

    class Broken(Springs):
        def __call__(self, systems, positions):
            found = super().__call__(systems, positions)
            return Evaluation(found.energies, found.forces, {1: "atoms overlap"})

    with pytest.raises(SimulationError, match=r"system 1 broke down at step 0: atoms overlap.*300 K"):
        Langevin(systems, positions, Broken(), temperatures=300.0)
