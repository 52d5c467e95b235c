"""Copies of conformers by symmetry, conformers that are nearly alike, and searches in which something fails."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import units

pytest.importorskip("rdkit")

from mlff_calc.datasets.embed import Embedded, embed
from mlff_calc.datasets.molecules import MoleculeError
from mlff_calc.errors import OptionError
from mlff_calc.sampling.conformer_search import conformers
from mlff_calc.sampling.evaluators import Evaluation, Evaluator
from mlff_calc.sampling.pieces import PieceStore
from mlff_calc.sampling.relax import relax_systems
from mlff_calc.sampling.settings import Search
from mlff_calc.sampling.symmetry import best_rmsd, symmetries, symmetry_number
from mlff_calc.sampling.systems import Systems
from mlff_calc.sampling.torsions import rotatable_torsions, torsion_angles, turned

from .test_conformers import Mmff, one


def test_weights_count_every_copy_of_a_conformer():
    """Weights are those of the nine wells of pentane's torsions, each found by a relaxation of its own."""
    pentane, mmff = one("CCCCC"), Mmff("CCCCC")
    torsions = rotatable_torsions(pentane)
    assert len(torsions) == 2
    place = embed(pentane, 1, 0).positions[0]
    starts = []
    for wanted in product((180.0, 65.0, -65.0), repeat=2):
        shape = place
        for torsion, angle in zip(torsions, wanted, strict=True):
            shape = turned(pentane, shape, torsion, np.array([angle]) - torsion_angles(shape[None], torsion))[0]
        starts.append(shape)
    systems, positions = Systems.of([atoms_of(pentane, shape) for shape in starts])
    ends = relax_systems(systems, positions, mmff, fmax=1e-3)
    factors = np.exp(-(ends.energies - ends.energies.min()) / (units.kB * 298.15))
    is_anti = [np.abs(torsion_angles(ends.positions.reshape(9, -1, 3), torsion)) > 120.0 for torsion in torsions]
    wells = {n: factors[sum(map(np.int64, is_anti)) == n].sum() / factors.sum() for n in (2, 1, 0)}
    found = conformers("CCCCC", mmff, seed=1, fmax=1e-3, n=12)
    number_anti = sum((np.abs(torsion_angles(found.positions, torsion)) > 120.0).astype(int) for torsion in torsions)
    for n, share in wells.items():
        assert found.weights[number_anti == n].sum() == pytest.approx(share, abs=0.005), n
    assert found.rows()[0]["symmetry_number"] == 2
    assert found.rows()[1]["symmetry_number"] == 1


def atoms_of(molecule, place):
    from ase import Atoms

    return Atoms(molecule.numbers, place)


@pytest.mark.parametrize(
    ("smiles", "swapped", "n_symmetries"),
    [
        ("CC[N+](=O)[O-]", (3, 4), 2),
        ("CCC(=O)[O-]", (3, 4), 2),
        ("CCS(=O)(=O)[O-]", (3, 5), 6),
        ("CCC(=O)O", None, 1),  # its oxygens differ
        ("CC(=C)CO", None, 1),  # a methyl and a methylene group are not the same
        ("CC(C)(C)O", (0, 2), 6),
    ],
)
def test_ends_of_a_group_are_the_same(smiles, swapped, n_symmetries):
    molecule = one(smiles)
    assert len(symmetries(molecule)[1]) == n_symmetries
    place = embed(molecule, 1, 0).positions[0]
    assert best_rmsd(molecule, place, place + 1.0) < 1e-6
    if swapped is not None:
        other = place.copy()
        other[list(swapped)] = place[list(swapped[::-1])]
        assert best_rmsd(molecule, place, other) < 1e-6


def test_symmetry_numbers():
    for smiles, number in (("C1CCCCC1", 6), ("C1=CC=CC=C1", 12), ("CCO", 1), ("O", 2), ("[He]", 1), ("OO", 2)):
        molecule = one(smiles)
        (place,) = embed(molecule, 1, 0).positions[:1]
        expected = symmetry_number(molecule, place)
        assert expected == number, smiles


class Soft(Mmff):
    """A fifth of MMFF94."""

    def __call__(self, systems, positions):
        found = super().__call__(systems, positions)
        return Evaluation(found.energies / 5.0, found.forces / 5.0)


def test_one_flat_minimum_is_one_conformer(monkeypatch):
    """Forces are below fmax all over the well, so that structures stay where they are."""
    whole = conformers("CCCC", Mmff("CCCC"), n=6, fmax=1e-3, check=False)
    butane, anti = whole.molecule, whole.positions[0]
    (torsion,) = rotatable_torsions(butane)
    starts = turned(butane, anti, torsion, np.array([-22.0, -8.0, 0.0, 9.0, 24.0]))
    monkeypatch.setattr("mlff_calc.sampling.starts.embed", lambda *_: Embedded(starts, "etkdg"))

    def search():
        return conformers("CCCC", Soft("CCCC"), n=5, screen=1, fmax=0.05, check=False)

    found = search()
    assert len(found) == 1
    assert np.abs(torsion_angles(found.positions, torsion)) == pytest.approx(180.0, abs=6.0)
    monkeypatch.setattr("mlff_calc.sampling.duplicates.NEAR", 0.0)  # relax nothing further
    assert len(search()) > 1


class Sometimes(Evaluator):
    """Another evaluator that fails in calls of some numbers, for one structure."""

    def __init__(self, inner, fails):
        self.inner, self.fails, self.calls = inner, fails, 0

    def __call__(self, systems, positions):
        self.calls += 1
        found = self.inner(systems, positions)
        if not self.fails(self.calls, systems):
            return found
        energies = found.energies.copy()
        energies[-1] = np.nan
        return Evaluation(energies, found.forces, {len(systems) - 1: "no convergence"})


@pytest.mark.parametrize("search", ["md", "exchange"])
def test_dynamics_that_break_down_cost_no_conformer(search):
    begun = []

    def fails(call, systems):  # once in the dynamics, which have eight structures
        begun.extend([call] * (len(systems) == 8))
        return len(begun) == 40 and begun[-1] == call

    found = conformers("CCO", Sometimes(Mmff("CCO"), fails), n=9, search=search, seed=5, screen=1, check=False)
    assert len(begun) >= 40
    assert len(found) == 3
    if search == "md":  # replicas begin again
        assert found.counts.generated > 9
        assert not found.problems
    else:
        assert "no convergence" in " ".join(found.problems)


def test_no_time_is_left_for_dynamics():
    def refuse(*_, **__):
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlff_calc.sampling.conformer_search.by_dynamics", refuse)
        found = conformers("CCO", Mmff("CCO"), n=4, search="md", minutes=1e-6)
    assert not found.finished
    assert found.lowest_modes is None


def test_a_conformer_without_free_energy_is_left_out():
    def fails(_, systems):
        return len(systems) == 2 * 3 * 9  # displaced structures of a minimum

    with pytest.raises(MoleculeError, match=r"no conformer has a free energy .*no convergence"):
        conformers("CCO", Sometimes(Mmff("CCO"), fails), n=4, weights="rrho", check=False)
    seen = []

    def once(call, systems):
        seen.extend([call] * fails(call, systems))
        return len(seen) == 1 and seen[0] == call

    found = conformers("CCO", Sometimes(Mmff("CCO"), once), n=8, weights="rrho", check=False)
    whole = conformers("CCO", Mmff("CCO"), n=8, weights="rrho", check=False)
    assert 1 <= len(found) < len(whole)
    assert found.problems == {"no free energy: no convergence": 1}
    assert found.weights.sum() == pytest.approx(1.0)


def test_isotopes_have_their_masses():
    light, heavy = (conformers(smiles, Mmff(smiles), n=4, weights="rrho") for smiles in ("CO", "[2H]C([2H])([2H])O"))
    assert sorted(heavy.molecule.masses.round(2))[:4] == [1.01, 2.01, 2.01, 2.01]
    assert len(light) == len(heavy) == 1
    assert heavy.energies[0] == pytest.approx(light.energies[0], abs=1e-4)
    # Three vibrations of C-H and three bends have about 0.7 of their zero-point energies.
    assert -0.6 < heavy.free_energies[0] - light.free_energies[0] < -0.25


def test_energies_for_the_rank_are_checked_first():
    mmff = Mmff("CCS")
    with pytest.raises(MoleculeError, match="unknown element S"):
        conformers("CCS", mmff, rescore="ethanol")
    assert mmff.calls == 0


def test_pieces_of_other_work_are_not_found(tmp_path):
    molecule, calls = one("CCO"), []

    def make(given):
        calls.append(given)
        return {"value": given.sum()}

    def look(**options):
        return float(PieceStore.open(tmp_path, molecule, Search(**options), "any").piece("kind", np.ones(3), make)["value"])

    assert look(search="exchange", temperature=300.0) == look(search="exchange", temperature=300.0) == 3.0
    assert len(calls) == 1
    look(search="exchange", temperature=400.0)  # another ladder
    assert len(calls) == 2
    look(temperature=300.0)
    look(temperature=400.0)  # the same relaxations
    assert len(calls) == 3
    for file in tmp_path.glob("*.npz"):
        file.write_bytes(file.read_bytes()[:40])  # damaged
    assert look(temperature=300.0) == 3.0
    assert len(calls) == 4


def test_stereo_that_is_not_specified_is_said():
    found = conformers("C[C@H](O)CF", Mmff("C[C@H](O)CF"), n=2, check=False)
    assert found.warnings() == []
    both = conformers("CC(O)CF", Mmff("CC(O)CF"), n=2, check=False)
    assert "stereo of C1 is not specified" in both.summary()
    with pytest.raises(OptionError, match="charge of 0 e, and 1 is asked for"):
        conformers("CCO", "ethanol", charge=1)
