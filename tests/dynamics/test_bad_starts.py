"""Structures that are no valid start of dynamics raise one error before anything is written."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian, FixedLine, FixSymmetry

from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions
from mlff_calc.dynamics.relax import relax
from mlff_calc.dynamics.structures import structure_to_start
from mlff_calc.errors import MLFFError, OptionError, StructureError

LANGEVIN = EnsembleOptions(ensemble="langevin")


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    return atoms


def refuse(atoms: Atoms, folder: Path, error: type[MLFFError], match: str, **options: object) -> None:
    with pytest.raises(error, match=match):
        MDRun.start(atoms, folder / "run", LANGEVIN, RunOptions(steps=1, **options))
    assert not (folder / "run").exists()


def test_a_constraint_without_a_meaning_for_momenta(tmp_path: Path) -> None:
    atoms = copper()
    atoms.set_constraint(FixSymmetry(atoms))
    refuse(atoms, tmp_path, OptionError, "FixSymmetry has no meaning in dynamics")


@pytest.mark.parametrize("constraint", [FixAtoms(range(4)), FixCartesian([0, 1, 2, 3])])
def test_nothing_is_left_to_move(tmp_path: Path, constraint: object) -> None:
    atoms = copper()
    atoms.set_constraint(constraint)
    refuse(atoms, tmp_path, OptionError, f"{type(constraint).__name__}.*leave no atom free")


@pytest.mark.parametrize("constraint", [FixAtoms([0]), FixedLine(1, [1, 0, 0]), FixBondLengths([[0, 1]])])
def test_constraints_that_dynamics_can_keep(tmp_path: Path, constraint: object) -> None:
    atoms = copper()
    atoms.set_constraint(constraint)
    assert MDRun.start(atoms, tmp_path / "run", LANGEVIN, RunOptions(steps=2)).run().completed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(tmp_path: Path, value: float) -> None:
    atoms = copper()
    atoms.positions[2, 1] = value
    refuse(atoms, tmp_path, StructureError, r"position of atom 2 \(Cu\)")
    atoms = copper()
    atoms.set_momenta(np.ones((4, 3)))
    atoms.arrays["momenta"][3, 0] = value
    refuse(atoms, tmp_path, StructureError, r"momentum of atom 3 \(Cu\)", velocities="keep")
    atoms = copper()
    atoms.cell.array[0, 0] = value
    refuse(atoms, tmp_path, StructureError, "the cell .* is not finite")


@pytest.mark.parametrize(("name", "words"), [(None, "no velocities"), ("vel", r"columns \['vel'\]"), ("momenta", "zeros")])
def test_velocities_to_keep_that_are_not_there(tmp_path: Path, name: str | None, words: str) -> None:
    atoms = copper()
    if name is not None:
        atoms.set_array(name, np.zeros((4, 3)) if name == "momenta" else np.full((4, 3), 0.01))
    refuse(atoms, tmp_path, OptionError, words, velocities="keep")


@pytest.mark.parametrize("cell", [False, True])
def test_relaxations_start_from_finite_numbers(tmp_path: Path, cell: bool) -> None:
    for change in ("positions", "cell"):
        atoms = copper()
        (atoms.positions if change == "positions" else atoms.cell.array)[1, 2] = np.nan
        with pytest.raises(StructureError, match=r"position of atom 1 \(Cu\) is" if change == "positions" else "the cell"):
            relax(atoms, cell=cell, trajectory=tmp_path / "steps.traj")
    assert not list(tmp_path.iterdir())


def test_structures_of_smiles() -> None:
    pytest.importorskip("rdkit")
    acid = structure_to_start("CC(=O)O")
    assert acid.get_chemical_formula() == "C2H4O2"
    assert acid.positions.tolist() == structure_to_start("CC(=O)O").positions.tolist()
    assert structure_to_start("CO").get_chemical_formula() == "CO"  # of the g2 set
    assert structure_to_start("smiles:CO").get_chemical_formula() == "CH4O"
    assert structure_to_start("[NH4+]").info == {"charge": 1}
    assert 1.5 < structure_to_start("[Na+].[Cl-]").get_distance(0, 1) < 3.0
    assert len(structure_to_start("CC(=O)O ")) == 8
    assert len(structure_to_start("C/C=C/C")) == 12


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("etanol", "structure etanol: no such file, no molecule of ASE's g2 set with this name, and no SMILES"),
        ("water.xzy", "structure water.xzy: no such file"),
        ("C" * 300 + "(", "no such file"),
        ("smiles:C1CC", "structure smiles:C1CC: 'C1CC': RDKit reads no molecule in it"),
        ("[CH3]", r"structure \[CH3\]: '\[CH3\]': unpaired electrons on C0"),
    ],
)
def test_texts_that_are_no_structure(text: str, match: str) -> None:
    pytest.importorskip("rdkit")
    with pytest.raises(StructureError, match=match):
        structure_to_start(text)


def test_a_smiles_without_rdkit_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(StructureError, match=r"no SMILES.*If it is a SMILES: .*pip install 'mlff_calc\[conformers\]'"):
        structure_to_start("CC(=O)O")
