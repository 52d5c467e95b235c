"""From a molecule to its weighted ensemble."""

from __future__ import annotations

import csv
import json
import sys
import time

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.data import atomic_masses
from ase.io import read
from ase.optimize import BFGS
from ase.thermochemistry import IdealGasThermo
from ase.vibrations import Vibrations

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import AllChem

from mlff_calc.cli.work_folder import work_folder
from mlff_calc.clock import Clock
from mlff_calc.datasets.embed import Embedded, embed
from mlff_calc.datasets.molecules import MoleculeError, read_molecules
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.potential import load_potential
from mlff_calc.sampling.conformer_search import conformers
from mlff_calc.sampling.duplicates import KCAL, MIRROR, distinct, rotational_constants
from mlff_calc.sampling.ensemble import Ensemble
from mlff_calc.sampling.evaluators import Evaluation, Evaluator, OneByOne
from mlff_calc.sampling.identity import Identity
from mlff_calc.sampling.modes import frequencies
from mlff_calc.sampling.starts import by_mmff, starting_structures
from mlff_calc.sampling.symmetry import best_rmsd
from mlff_calc.sampling.systems import Systems
from mlff_calc.sampling.torsions import rotatable_torsions, torsion_angles, torsional_free_energy, turned
from mlff_calc.sampling.weights import boltzmann_weights, ensemble_entropy, rrho_free_energy
from mlff_calc.sampling.writers import write_ensemble


def one(source):
    (found,) = read_molecules(source)
    return found


class Mmff(Evaluator):
    """MMFF94 by RDKit for one molecule, which is quick and knows its bonds."""

    def __init__(self, smiles):
        from rdkit.Chem import rdForceFieldHelpers

        self.mol = Chem.Mol(one(smiles).mol)
        self.mol.RemoveAllConformers()
        self.mol.AddConformer(Chem.Conformer(self.mol.GetNumAtoms()))
        self.field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
            self.mol, rdForceFieldHelpers.MMFFGetMoleculeProperties(self.mol)
        )
        self.calls = 0

    def __call__(self, systems, positions):
        shapes = positions.reshape(len(systems), -1)
        self.calls += 1
        energies, forces = [], []
        for shape in shapes:  # the gradient is right after the energy of the same positions alone
            energies.append(self.field.CalcEnergy(list(shape)) * KCAL)
            forces.append(-np.array(self.field.CalcGrad(list(shape))) * KCAL)
        return Evaluation(np.array(energies), np.array(forces).reshape(-1, 3))


def test_butane_has_three_conformers_and_their_weights():
    found = conformers("CCCC", Mmff("CCCC"), seed=1, fmax=1e-3)
    assert len(found) == 3
    (torsion,) = rotatable_torsions(found.molecule)
    angles = torsion_angles(found.positions, torsion)
    assert abs(angles[0]) == pytest.approx(180.0, abs=1.0)
    assert sorted(angles[1:]) == pytest.approx([-65.0, 65.0], abs=3.0)
    assert found.energies[1] == pytest.approx(found.energies[2], abs=1e-5)
    gap = found.energies[1] - found.energies[0]
    gauche = np.exp(-gap / (units.kB * 298.15))
    assert found.weights == pytest.approx(np.array([1.0, gauche, gauche]) / (1.0 + 2.0 * gauche), abs=1e-4)
    assert found.converged.all()
    assert found.counts.generated == found.counts.duplicates + 2
    assert found.counts.mirrored == 1  # of the gauche conformer
    assert best_rmsd(found.molecule, found.positions[1] * (1, 1, -1), found.positions[2]) < 1e-6
    chiral = conformers("C[C@H](F)CO", Mmff("C[C@H](F)CO"), n=6)
    assert chiral.counts.mirrored == 0
    hot = conformers("CCCC", Mmff("CCCC"), seed=1, fmax=1e-3, temperature=2000.0)
    assert hot.entropy > found.entropy > 0.0


def test_populations_do_not_depend_on_what_counts_as_equal():
    narrow, usual, wide = (conformers("CCCC", Mmff("CCCC"), n=4, rmsd=rmsd, check=False) for rmsd in (0.05, 0.125, 0.5))
    assert len(narrow) == len(usual) == len(wide) == 3
    assert wide.weights == pytest.approx(usual.weights, abs=1e-3)
    assert narrow.weights == pytest.approx(usual.weights, abs=1e-3)
    with pytest.raises(OptionError, match=r"rmsd is 0\.0 Angstrom; give 0\.05 or more"):
        conformers("CCCC", Mmff("CCCC"), rmsd=0.0)


def test_mmff_chooses_the_starts():
    glycerol = one("OCC(O)CO")
    places, energies, is_whole = by_mmff(glycerol, embed(glycerol, 30, 0).positions)
    assert is_whole
    every = distinct(glycerol, places, energies, atomic_masses[glycerol.numbers], mirror=True)
    assert len(every) < len(distinct(glycerol, places, energies, atomic_masses[glycerol.numbers]))
    found = starting_structures(glycerol, 6, 0)
    assert found.sources == ["mmff"] * 6
    assert found.positions == pytest.approx(places[every[:6]])
    few = starting_structures(one("C1CC1"), 4, 0)  # one conformer, which distance geometry makes several times
    assert few.sources == ["mmff"] + ["etkdg"] * (len(few.positions) - 1)
    assert set(starting_structures(glycerol, 6, 0, screen=1).sources) == {"etkdg"}
    beryllium = one("[BeH2]")  # no parameters
    assert starting_structures(beryllium, 2, 0).sources == embed(beryllium, 2, 0).positions.shape[0] * ["etkdg"]


@pytest.mark.parametrize("search", ["md", "exchange"])
def test_dynamics_finds_what_one_start_lacks(search, monkeypatch):
    monkeypatch.setattr("mlff_calc.sampling.starts.embed", lambda molecule, n, seed, clock: embed(molecule, 1, seed))
    alone = conformers("CCCC", Mmff("CCCC"), n=40, seed=5)
    found = conformers("CCCC", Mmff("CCCC"), n=40, search=search, seed=5)
    assert len(alone) == 1 + alone.counts.mirrored  # one well
    assert len(found) >= 3
    assert search in found.sources


class OneTorsion(Evaluator):
    """Energy of a torsion alone, with low barriers, and forces by differences."""

    def __init__(self, torsion):
        self.torsion = torsion

    def energy(self, degrees):
        phi = np.radians(degrees)
        return 0.02 * (1.0 + np.cos(3.0 * phi)) + 0.03 * np.cos(phi) + 0.01 * np.cos(2.0 * phi)

    def energies(self, positions, n):
        return self.energy(torsion_angles(positions.reshape(n, -1, 3), self.torsion))

    def __call__(self, systems, positions):
        forces, n = np.zeros_like(positions), len(systems)
        for atom in self.torsion:
            for axis in range(3):
                moved = [positions.reshape(n, -1, 3).copy() for _ in range(2)]
                moved[0][:, atom, axis] -= 1e-4
                moved[1][:, atom, axis] += 1e-4
                down, up = (self.energies(place, n) for place in moved)
                forces.reshape(n, -1, 3)[:, atom, axis] = (down - up) / 2e-4
        return Evaluation(self.energies(positions, n), forces)


def test_saddle_points_are_left(monkeypatch):
    anti = conformers("CCO", Mmff("CCO"), n=12, fmax=1e-5)
    (torsion,) = rotatable_torsions(anti.molecule)
    place = anti.positions[np.abs(torsion_angles(anti.positions, torsion)).argmax()]
    eclipsed = turned(anti.molecule, place, torsion, np.array([180.0]))  # it keeps its mirror plane as it relaxes
    monkeypatch.setattr("mlff_calc.sampling.starts.embed", lambda *_: Embedded(eclipsed, "etkdg"))
    kept = conformers("CCO", Mmff("CCO"), check=False, screen=1)
    assert len(kept) == 1
    assert kept.lowest_modes is None
    assert kept.converged.all()
    assert torsion_angles(kept.positions, torsion)[0] == pytest.approx(0.0, abs=1.0)
    found = conformers("CCO", Mmff("CCO"), screen=1)
    gauche = sorted(angle for angle in torsion_angles(anti.positions, torsion) if abs(angle) < 120.0)
    assert sorted(torsion_angles(found.positions, torsion)) == pytest.approx(gauche, abs=1.0)
    assert found.counts.saddles == 1
    assert (found.energies < kept.energies[0] - 0.02).all()
    assert (found.lowest_modes > 100.0).all()
    assert "1 saddle points" in found.summary()


def test_modes_are_told_and_saddle_points_flagged(monkeypatch):
    looked = []

    def as_saddle(alone, place, evaluator):
        looked.append(place)
        if len(looked) > 1:
            raise SimulationError("no forces")
        return -50.0, np.zeros_like(place)

    monkeypatch.setattr("mlff_calc.sampling.conformer_search.lowest_mode", as_saddle)
    monkeypatch.setattr("mlff_calc.sampling.conformer_search.ways_down", lambda _, place, *more: np.zeros((0, *place.shape)))
    found = conformers("CCCC", Mmff("CCCC"), n=6, screen=1)
    assert np.isnan(found.lowest_modes).sum() == 2  # both gauche
    assert np.nanmin(found.lowest_modes) == -50.0
    assert "1 of the conformers are saddle points" in found.summary()
    assert "2 of the conformers may be saddle points" in found.summary()
    assert "lowest_mode_per_cm" in found.rows()[2]


def test_a_flat_saddle_point_is_left(monkeypatch):
    anti = conformers("CCO", Mmff("CCO"), n=12, fmax=1e-5)
    (torsion,) = rotatable_torsions(anti.molecule)
    place = anti.positions[np.abs(torsion_angles(anti.positions, torsion)).argmax()]
    eclipsed = turned(anti.molecule, place, torsion, np.array([180.0]))
    monkeypatch.setattr("mlff_calc.sampling.starts.embed", lambda *_: Embedded(eclipsed, "etkdg"))
    found = conformers("CCO", Mmff("CCO"), screen=1, fmax=0.15)  # forces of a displaced hydroxyl group are smaller
    assert (found.lowest_modes > 100.0).all()
    assert found.counts.saddles == 1


def test_weights_of_wells_are_their_integrals():
    butane = one("CCCC")
    (torsion,) = rotatable_torsions(butane)
    evaluator, start = OneTorsion(torsion), embed(butane, 1, 0).positions[0]
    begin = torsion_angles(start[None], torsion)[0]
    every = np.arange(-180.0, 180.0, 0.25)
    energies = evaluator.energy(every)
    anti, gauche = -180.0, every[np.abs(every - 70.0) < 40.0][energies[np.abs(every - 70.0) < 40.0].argmin()]
    barrier = every[(every > 90.0) & (every < 150.0)][energies[(every > 90.0) & (every < 150.0)].argmax()]
    heights = np.exp(-energies / (units.kB * 298.15))
    exact = np.array([heights[np.abs(every) > barrier].sum(), heights[(every > 0.0) & (every < barrier)].sum()])
    places = np.concatenate([turned(butane, start, torsion, np.array([angle - begin])) for angle in (anti, gauche)])
    assert torsion_angles(places, torsion)[1] == pytest.approx(gauche, abs=1e-6)
    free = evaluator.energies(places, 2) + [
        torsional_free_energy(butane, place, evaluator, 298.15) for place in places
    ]
    expected = exact[0] / exact.sum()
    assert boltzmann_weights(free, 298.15)[0] == pytest.approx(expected, abs=0.005)
    assert abs(boltzmann_weights(evaluator.energies(places, 2), 298.15)[0] - expected) > 0.01  # energies alone do not tell
    methane = one("C")
    assert torsional_free_energy(methane, np.zeros((5, 3)), evaluator, 298.15) == 0.0


def test_mirror_images_are_two_and_symmetric_copies_are_one():
    butane = one("CCCC")
    masses = atomic_masses[butane.numbers]
    (torsion,) = rotatable_torsions(butane)
    starts = embed(butane, 40, 0).positions
    gauche = starts[np.abs(np.abs(torsion_angles(starts, torsion)) - 65.0) < 15.0][0]
    mirrored = gauche * (1, 1, -1)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = gauche @ (turn * np.sign(np.linalg.det(turn))) + 3.0
    swapped = gauche.copy()
    hydrogens = [n.GetIdx() for n in butane.mol.GetAtomWithIdx(0).GetNeighbors() if n.GetAtomicNum() == 1]
    swapped[hydrogens] = swapped[np.roll(hydrogens, 1)]
    every = np.array([gauche, mirrored, turned, swapped])
    assert distinct(butane, every, np.zeros(4), masses).tolist() == [0, 1]
    assert distinct(butane, every, np.zeros(4), masses, mirror=True).tolist() == [0]
    assert distinct(butane, every, np.array([0.0, 0.0, 1.0, 0.0]), masses).tolist() == [0, 1, 2]  # energies tell as well
    assert best_rmsd(butane, gauche, turned) < 1e-6
    assert rotational_constants(masses, gauche) == pytest.approx(rotational_constants(masses, mirrored))


def test_free_energies_are_those_of_ase(tmp_path):
    for name, geometry in (("H2O", "nonlinear"), ("CO", "linear")):
        atoms = molecule(name)
        atoms.calc = EMT()
        BFGS(atoms, logfile=None).run(fmax=1e-4, steps=400)
        systems, positions = Systems.of([atoms])
        (modes,) = frequencies(systems, positions, OneByOne(EMT))
        reference = Vibrations(atoms, name=str(tmp_path / name), delta=0.005)
        reference.run()
        expected = np.real(reference.get_frequencies())[-len(modes) :]
        assert modes == pytest.approx(expected, abs=0.05)
        thermo = IdealGasThermo(modes * units.invcm, geometry, atoms=atoms, symmetrynumber=1, spin=0)
        mass, temperature = atoms.get_masses().sum(), 300.0
        hbar = units._hbar * units.J * units.s
        wavelength = hbar * np.sqrt(2.0 * np.pi / (mass * units.kB * temperature))
        pressure = 1e5 * units.Pascal
        translation = -units.kB * temperature * np.log(units.kB * temperature / pressure / wavelength**3)
        found = rrho_free_energy(systems.masses, positions, modes, temperature, floor=1e-3)
        assert found == pytest.approx(thermo.get_gibbs_energy(temperature, 1e5, verbose=False) - translation, abs=1e-6)
    soft = rrho_free_energy(systems.masses, positions, np.array([-40.0]), 300.0)
    assert soft == rrho_free_energy(systems.masses, positions, np.array([100.0]), 300.0)


def test_weights():
    weights = boltzmann_weights(np.array([0.0, 0.05, 10.0]), 300.0)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[1] / weights[0] == pytest.approx(np.exp(-0.05 / (units.kB * 300.0)))
    assert ensemble_entropy(np.full(4, 0.25)) == pytest.approx(units.kB * np.log(4.0))
    with pytest.raises(OptionError, match="temperature is 0"):
        boltzmann_weights(np.zeros(2), 0.0)


def test_files_and_what_goes_on_after_a_stop(tmp_path):
    mmff = Mmff("CCCO")
    whole = conformers("CCCO", mmff, seed=2, n=120, screen=1)
    calls = []

    def stop(what, done, total):
        calls.append(done)
        if done > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conformers("CCCO", Mmff("CCCO"), seed=2, n=120, screen=1, folder=tmp_path / "work", on_progress=stop)
    assert 1 <= len(list((tmp_path / "work").glob("*.npz"))) < 8
    again = Mmff("CCCO")
    resumed = conformers("CCCO", again, seed=2, n=120, screen=1, folder=tmp_path / "work")
    assert (resumed.positions == whole.positions).all()
    assert again.calls < mmff.calls
    for ending in ("sdf", "extxyz", "csv", "html"):
        write_ensemble(whole, tmp_path / f"found.{ending}")
    records = [mol for mol in Chem.SDMolSupplier(str(tmp_path / "found.sdf"), removeHs=False)]
    assert len(records) == len(whole)
    assert float(records[0].GetProp("weight_298K")) == pytest.approx(whole.weights[0], abs=1e-6)
    assert Chem.MolToSmiles(Chem.RemoveHs(records[1])) == "CCCO"
    above = [float(record.GetProp("relative_energy")) for record in records]
    assert above == sorted(above)
    frames = read(tmp_path / "found.extxyz", index=":")
    assert frames[1].positions == pytest.approx(whole.positions[1], abs=1e-6)
    assert frames[1].info["converged"]
    with (tmp_path / "found.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    named = {"energy_kcal_mol", "relative_energy", "weight_298K", "converged", "rmsd_to_lowest", "source", "seed"}
    assert set(rows[0]) >= named
    page = (tmp_path / "found.html").read_text()
    assert "http" not in page
    assert page.count("<figure>") == 2 + len(rotatable_torsions(whole.molecule))
    assert page.count('<figure class="picture"') == min(len(whole), 12)
    with pytest.raises(OptionError, match="unknown kind of file"):
        write_ensemble(whole, tmp_path / "found.doc")


def embedded(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    return mol


def ensemble_of(mol):
    """An ensemble of the conformers of RDKit's molecule, without a search."""
    places = np.array([conformer.GetPositions() for conformer in mol.GetConformers()])
    n = len(places)
    return Ensemble(
        molecule=one(mol), positions=places, energies=np.zeros(n), weights=np.full(n, 1.0 / n), temperature=298.15,
        converged=np.ones(n, dtype=bool), fmax=np.zeros(n), sources=["etkdg"] * n, calculator="none", seed=0,
    )  # fmt: skip


def test_files_hold_no_old_properties_and_the_whole_name_and_charge(tmp_path):
    mol = embedded(r"F/C=C\C[O-]")
    mol.SetProp("old", "value")
    mol.SetProp("lowest_mode_per_cm", "77")
    found = ensemble_of(mol)
    write_ensemble(found, tmp_path / "a.sdf")
    (record,) = Chem.SDMolSupplier(str(tmp_path / "a.sdf"), removeHs=False)
    assert set(record.GetPropNames()) == set(found.rows()[0])
    assert found.molecule.mol.GetProp("old") == "value"
    write_ensemble(found, tmp_path / "a.extxyz")
    frame = read(tmp_path / "a.extxyz")
    assert "\\" in found.molecule.name
    assert (frame.info["name"], frame.info["charge"]) == (found.molecule.name, -1)
    assert "charge" not in ensemble_of(embedded("CC")).to_ase()[0].info


def test_symmetries_that_are_not_looked_at_are_told():
    few, many = (ensemble_of(embedded(smiles)) for smiles in ("CC(C)(C)C", "CC(C)(C)[Si](C(C)(C)C)(C(C)(C)C)C(C)(C)C"))
    assert "symmetries" not in few.summary()
    assert "more than 1000 symmetries" in many.summary()


def test_a_refused_molecule_leaves_no_work(tmp_path):
    def refuse(is_of_use):
        with work_folder([tmp_path / "a.sdf"], overwrite=False, resume=False) as work:
            work.folder.mkdir()
            raise MoleculeError("calculator", "every one failed", is_of_use=is_of_use)

    for is_of_use in (False, True):
        with pytest.raises(MoleculeError):
            refuse(is_of_use)
        assert (tmp_path / ".a.work").exists() == is_of_use


def test_a_budget_of_time_is_said(tmp_path):
    found = conformers("CCCO", Mmff("CCCO"), seed=2, n=150, screen=1, minutes=1e-6)
    assert not found.finished
    assert found.counts.generated == 1
    assert "budget of time" in found.summary()
    given = AllChem.AddHs(Chem.MolFromSmiles("CCCO"))
    AllChem.EmbedMultipleConfs(given, 40, randomSeed=1)
    found = conformers(given, Mmff("CCCO"), n=2, steps=5, minutes=1e-6, check=False)
    assert not found.finished
    assert found.counts.generated == 16  # one piece


LEU_ENKEPHALIN = "CC(C)C[C@@H](C(=O)O)NC(=O)[C@H](Cc1ccccc1)NC(=O)CNC(=O)CNC(=O)[C@H](Cc2ccc(cc2)O)N"


def test_a_budget_of_time_bounds_the_starts_of_a_large_molecule():
    begin = time.monotonic()
    found = conformers(LEU_ENKEPHALIN, Mmff(LEU_ENKEPHALIN), minutes=1.0 / 60.0, steps=1, check=False)
    assert time.monotonic() - begin < 15.0  # without a budget, minutes
    assert not found.finished
    assert 1 <= found.counts.generated < 300
    assert "budget of time" in found.summary()
    molecule, clock = one("OCC(O)CO"), Clock(1e-9)
    starts = starting_structures(molecule, 6, 0, clock=clock)
    assert (starts.sources, starts.is_whole) == (["mmff", "etkdg"], False)
    assert starts.positions[0] == pytest.approx(by_mmff(molecule, embed(molecule, 1, 0).positions).positions[0])
    some = by_mmff(molecule, embed(molecule, 4, 0).positions, clock=clock)
    assert (len(some.positions), some.is_whole) == (1, False)


def test_a_budget_that_ends_before_there_is_a_structure_is_a_reason():
    bridge = "C[C@@]12CC[C@](C)(C1)C2"  # no structure can be made of it
    with pytest.raises(MoleculeError, match="budget of time ended before RDKit found first") as caught:
        conformers(bridge, Mmff("CC"), n=4, minutes=1e-6)
    assert caught.value.reason == "time"


def test_the_mirror_image_of_a_meso_compound_is_the_molecule():
    meso, chiral = "C[C@H](F)[C@H](F)C", "C[C@H](F)[C@@H](F)C"
    found = conformers(meso, Mmff(meso), n=8, fmax=0.01)
    assert len(found) == 3
    (torsion,) = rotatable_torsions(found.molecule)
    anti, one_gauche, other = np.argsort(-np.abs(torsion_angles(found.positions, torsion)))
    assert abs(torsion_angles(found.positions[anti : anti + 1], torsion)[0]) > 170.0  # with a centre of inversion: once
    assert found.weights[one_gauche] == found.weights[other]
    assert found.counts.mirrored == 1
    identity = Identity(found.molecule)
    assert [identity.change(place) for place in found.positions] == [None] * 3
    place = found.positions[one_gauche]
    assert "stereo of C1 turned" in identity.change(place * MIRROR)  # R and S are the other way round
    assert best_rmsd(found.molecule, identity.image(place), found.positions[other]) < 1e-3
    assert Identity(one(chiral)).image(embed(one(chiral), 1, 0).positions[0]) is None
    few = conformers(meso, Mmff(meso), n=2, screen=1, seed=3, fmax=0.01)  # weights do not depend on which image was found
    assert (np.abs(torsion_angles(few.positions, torsion)) < 100.0).sum() in (0, 2)


def test_formulas_and_shapes_that_a_potential_never_saw_are_told():
    potential = load_potential("ethanol")
    potential.domain = potential.domain | {"formulas": ["C2H6O"]}
    options = {"n": 1, "steps": 2, "check": False, "screen": 1}
    assert conformers("CCO", potential, **options).warnings() == []
    (new,) = conformers("CCCO", potential, **options).warnings()
    assert "not trained on such conformers (the formula C3H8O was not in the training data, which had C2H6O)" in new
    (both,) = conformers("CC=O", potential, **options).warnings()
    assert "the formula C2H4O was not" in both
    assert "and 1 of 1 structures are outside" in both
    (judged,) = conformers("CC=O", Mmff("CC=O"), rescore=potential, **options).warnings()
    assert "1 of 1 structures are outside" in judged
    potential.domain = None  # of an older file
    assert conformers("CCCO", potential, **options).warnings() == []


class Pulling(Evaluator):
    """Pulls the first two atoms apart."""

    def __call__(self, systems, positions):
        forces = np.zeros_like(positions)
        away = positions[systems.starts] - positions[systems.starts + 1]
        distance = np.linalg.norm(away, axis=1, keepdims=True)
        push = np.where(distance < 4.0, 2.0, 0.0) * away / distance
        forces[systems.starts], forces[systems.starts + 1] = push, -push
        return Evaluation(np.minimum(-2.0 * distance[:, 0], 8.0), forces)


class Failing(Evaluator):
    def __call__(self, systems, positions):
        n = len(systems)
        return Evaluation(np.full(n, np.nan), np.zeros_like(positions), dict.fromkeys(range(n), "no convergence"))


def test_molecules_without_an_ensemble():
    cases = ((Pulling(), "reacted", r"bond C0-C1.* broke"), (Failing(), "calculator", "no convergence"))
    for evaluator, reason, text in cases:
        with pytest.raises(MoleculeError, match=text) as caught:
            conformers("CCO", evaluator, n=3)
        assert caught.value.reason == reason
    for smiles, advice in (("CCO", "check the molecule's charge and stereo"), ("[NH3+]CC(=O)[O-]", "a zwitterion passes")):
        with pytest.raises(MoleculeError, match=advice):
            conformers(smiles, Pulling(), n=1)
    with pytest.raises(MoleculeError, match="unknown element S") as caught:
        conformers("CCS", "ethanol")
    assert caught.value.reason == "element"
    for options, text in (({"search": "mdd"}, "did you mean 'md'"), ({"window": 0.0}, "window is 0"), ({"n": 0}, "n is 0"),
                          ({"weights": "free"}, "choose energy, torsions, rrho"),
                          ({"workers": 2}, "one batch"), ({"workers": 2, "rescore": "ethanol"}, "one batch")):  # fmt: skip
        with pytest.raises(OptionError, match=text):
            conformers("CCO", "ethanol", **options)
    with pytest.raises(OptionError, match="knows no charges"):
        conformers("CC[O-]", "ethanol")


def test_workers_belong_to_what_is_no_potential():
    found = conformers("CCO", EMT, n=2, workers=1, rescore="ethanol", steps=5, fmax=1.0, check=False)
    assert found.calculator == "ethanol//EMT"
    back = conformers("CCO", "ethanol", n=2, workers=1, rescore=EMT, steps=5, fmax=1.0, check=False)
    alone = conformers("CCO", "ethanol", n=2, rescore=EMT, steps=5, fmax=1.0, check=False)
    assert (back.energies == alone.energies).all()


def test_a_calculator_in_the_current_folder_also_in_workers(tmp_path, mlff, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "slow_here.py").write_text(
        "import time\nfrom ase.calculators.emt import EMT\n\ndef make():\n    return EMT()\n\n"
        "def sleep():\n    time.sleep(60)\n"
    )
    words = ["conformers", "C", "-n", "1", "--screen", "1", "--steps", "1", "--fmax", "99", "--no-check", "-o", "a.csv"]
    done = mlff(*words, "-c", "slow_here:make", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refused = mlff(*words, "--overwrite", "-c", "slow_here:sleep", "--workers", "1", "--timeout", "0.1", cwd=tmp_path)
    assert "no answer within 0.1 s" in refused.stderr
    assert "see that the calculator works" in " ".join(refused.stderr.split())


def test_factories_that_other_processes_cannot_get_are_refused():
    with pytest.raises(OptionError, match="cannot be given to other processes"):
        conformers("CCO", lambda: EMT(), n=1, workers=1)


def test_the_command(tmp_path, mlff):
    words = ["conformers", "CCO", "-c", "ethanol", "-n", "6", "-o", "a.sdf", "-o", "a.csv", "--fmax", "0.05"]
    done = mlff(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "conformers within" in done.stdout
    first = (tmp_path / "a.sdf").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.sdf"]
    refused = mlff(*words, cwd=tmp_path)
    assert refused.returncode == 1
    assert "a.sdf would be replaced" in refused.stderr
    assert mlff(*words, "--overwrite", "-q", cwd=tmp_path).returncode == 0
    assert (tmp_path / "a.sdf").read_text() == first
    compared = mlff("compare", "a.sdf", "a.sdf", "--json", cwd=tmp_path)  # all conformers of one file
    assert json.loads(compared.stdout)["reference"] == len(list(Chem.SDMolSupplier(str(tmp_path / "a.sdf")))) > 1
    short = ["conformers", "a.sdf", "-c", "ethanol", "-n", "60", "--screen", "1", "--fmax", "0.1", "--minutes", "0.0001"]
    done = mlff(*short, "-o", "short.csv", cwd=tmp_path)
    assert "Go on with --resume --overwrite." in done.stdout
    assert (tmp_path / ".short.work").is_dir()
    with work_folder([tmp_path / "short.csv"], overwrite=True, resume=True) as work:  # what was done is still there
        assert list(work.folder.glob("*.npz"))
    assert not work.folder.exists()
    (tmp_path / "short.csv").unlink()
    for more, text in (
        (["CCO", "-c", "ethanol", "-o", "no/b.sdf"], "there is no folder no"),
        (["C1CC", "-c", "ethanol", "-o", "b.sdf"], "check the SMILES"),
        (["CCO", "-c", "ethanol", "-o", "b.doc"], "unknown kind of file"),
        (["CCO", "-c", "no.module:make", "-o", "b.sdf"], "give module:function"),
    ):
        refused = mlff("conformers", *more, cwd=tmp_path)
        assert refused.returncode == 1
        assert text in refused.stderr
        assert "Traceback" not in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.sdf"]
