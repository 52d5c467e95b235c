"""Many structures at once end where each ends alone."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.optimize import FIRE, LBFGS

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.errors import OptionError, StructureError, UnknownElementError
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.graph.many import NeighborLists
from mlff_calc.potential import build_potential
from mlff_calc.sampling.evaluators import BatchedPotential, OneByOne
from mlff_calc.sampling.relax import relax_many
from mlff_calc.sampling.systems import Systems
from mlff_calc.sampling.workers import Workers


def rattled(names, amount=0.1):
    structures = []
    for seed, name in enumerate(names):
        atoms = bulk("Cu", cubic=True) if name == "Cu" else molecule(name)
        atoms.rattle(amount, seed=seed)
        structures.append(atoms)
    return structures


NAMES = ("H2O", "CH3CH2OH", "C2H6", "CH4", "H2O")


@pytest.fixture(scope="module")
def potential():
    backbone = {"name": "hegnn", "channels": 16, "n_layers": 1, "l_max": 2, "cutoff": 4.0}
    config = {"backbone": backbone, "elements": ["H", "C", "O", "Cu"], "scale": 0.5, "repulsion": {"name": "zbl"}}
    return build_potential(config, seed=0).to_precision("float64")


@pytest.mark.parametrize(("name", "reference"), [("FIRE", FIRE), ("LBFGS", LBFGS)])
def test_each_makes_the_steps_of_ase(name, reference):
    structures = rattled(NAMES)
    some, _ = relax_many(structures, OneByOne(EMT), fmax=0.02, steps=12, optimizer=name)
    _, ends = relax_many(structures, OneByOne(EMT), fmax=0.02, steps=400, optimizer=name)
    assert ends.converged.all()
    assert not ends.problems
    for number, atoms in enumerate(structures):
        for steps in (12, 400):
            atoms = atoms.copy()
            atoms.calc = EMT()
            run = reference(atoms, logfile=None) if name == "FIRE" else reference(atoms, logfile=None, memory=30)
            run.run(fmax=0.02, steps=steps)
            if steps == 12:
                assert some[number].positions == pytest.approx(atoms.positions, abs=1e-10)
                atoms = structures[number]
        if name == "FIRE":
            assert ends.steps[number] == run.nsteps
            assert ends.energies[number] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        else:  # rounding differs, which tells after a hundred steps in flat places; the minimum is the same
            assert ends.energies[number] == pytest.approx(atoms.get_potential_energy(), abs=1e-3)


def test_a_potential_in_one_batch_is_the_calculator_one_by_one(potential):
    structures = [*rattled(NAMES), *rattled(["Cu"])]
    batched = relax_many(structures, BatchedPotential(potential), fmax=0.02, steps=60)
    single = relax_many(structures, OneByOne(lambda: MLFFCalculator(potential, precision="float64")), fmax=0.02, steps=60)
    assert batched[1].energies == pytest.approx(single[1].energies, abs=1e-8)
    assert batched[1].steps.tolist() == single[1].steps.tolist()


def test_lists_of_many_are_those_of_each():
    structures = [*rattled(NAMES), *rattled(["Cu", "Cu"]), bulk("Cu") * (2, 1, 1), Atoms("H")]
    structures[5].pbc = (True, False, True)
    systems, positions = Systems.of(structures)
    lists = NeighborLists(systems.numbers, systems.sizes, systems.cells, systems.pbc, cutoff=4.0, skin=0.4)
    random = np.random.default_rng(0)
    for _ in range(12):
        graph = lists.graph(positions)
        for atoms, start, size in zip(structures, systems.starts, systems.sizes, strict=True):
            atoms.positions = positions[start : start + size]
        expected = collate([graph_from_atoms(atoms, 4.0) for atoms in structures])
        assert set(graph) == set(expected)
        for key in expected:
            assert graph[key].equal(expected[key]), key
        positions = positions + random.normal(0.0, 0.04, positions.shape)
    n_periodic = 3
    assert len(structures) + n_periodic <= lists.n_rebuilds < 12 * n_periodic + len(structures)


def test_what_fails_fails_alone(potential):
    structures = rattled(NAMES)
    structures[1].positions[0] = np.nan
    with pytest.raises(StructureError, match="finite"):
        Systems.of(structures)
    structures = rattled(NAMES)
    structures[2].positions[1] = structures[2].positions[0]
    copies, ends = relax_many(structures, BatchedPotential(potential), fmax=0.05, steps=40)
    assert list(ends.problems) == [2]
    assert "step 0: " in ends.problems[2]
    assert np.isnan(ends.energies[2])
    assert np.isfinite(np.delete(ends.energies, 2)).all()
    assert (copies[2].positions == structures[2].positions).all()


class Stubborn(EMT):
    """Raises for ethanol, hangs for ethane."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        formula = atoms.get_chemical_formula()
        if formula == "C2H6O":
            raise RuntimeError("no convergence")
        if formula == "C2H6":
            import time

            time.sleep(60)
        super().calculate(atoms, properties, system_changes)


def test_calculators_that_raise_or_hang():
    structures = rattled(NAMES)
    with Workers(Stubborn, n_workers=2, timeout=4.0) as workers:
        _, ends = relax_many(structures, workers, fmax=0.05, steps=30)
    assert sorted(ends.problems) == [1, 2]
    assert "RuntimeError: no convergence" in ends.problems[1]
    assert "no answer within 4 s" in ends.problems[2]
    _, expected = relax_many([structures[k] for k in (0, 3, 4)], OneByOne(EMT), fmax=0.05, steps=30)
    assert (ends.energies[[0, 3, 4]] == expected.energies).all()


def test_bad_options(potential):
    structures = rattled(["H2O"])
    for options, text in (({"fmax": 0.0}, "fmax is 0.0"), ({"steps": -1}, "steps is -1"), ({"optimizer": "lbgfs"}, "LBFGS")):
        with pytest.raises(OptionError, match=text):
            relax_many(structures, BatchedPotential(potential), **options)
    with pytest.raises(StructureError, match="no structures"):
        relax_many([], BatchedPotential(potential))
    with pytest.raises(UnknownElementError, match=r"unknown element S .*this potential knows H C O Cu"):
        relax_many([molecule("SH2")], BatchedPotential(potential))
    with pytest.raises(OptionError, match="workers is 0"):
        Workers(EMT, n_workers=0)
