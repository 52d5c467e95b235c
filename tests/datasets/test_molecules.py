"""Molecules in, and starting positions."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import AllChem

from mlff_calc.clock import Clock
from mlff_calc.datasets.embed import embed, number_of_conformers
from mlff_calc.datasets.molecules import MoleculeError, read_molecules
from mlff_calc.errors import OptionError
from mlff_calc.sampling.identity import Identity


def one(source, **options):
    (found,) = read_molecules(source, **options)
    return found


@pytest.mark.parametrize(
    ("smiles", "reason", "text"),
    [
        ("C1CC", "unreadable", "check the SMILES"),
        ("CN(C)(C)C", "unreadable", "Explicit valence"),
        ("", "unreadable", "no atoms"),
        ("[Na+].[Cl-]", "mixture", "2 molecules"),
        ("[CH3]", "radical", "unpaired electrons on C0"),
        ("[Cu+]C", "radical", "has 37 electrons with its charge of 1 e, an odd number"),
        ("*CC", "unreadable", "without an element"),
        ("molecule.pdb", "unreadable", "or the file's name"),
    ],
)
def test_what_cannot_be_read_says_why(smiles, reason, text):
    with pytest.raises(MoleculeError, match=text) as caught:
        read_molecules(smiles)
    assert caught.value.reason == reason


def test_charge_stereo_and_hydrogens_are_kept():
    assert one("CC(=O)[O-]").charge == -1
    alanine = one("C[C@H](N)C(=O)O")
    assert len(alanine.numbers) == 13
    assert Identity(alanine).stereo == {(1,): "S"}
    assert one(Chem.MolFromSmiles("CCO")).name == "CCO"


def test_open_stereo():
    assert one("CC=CC(F)O").open_stereo == ["C3", "C1=C2"]
    assert one("CC=C=CC").open_stereo == ["C1=C2=C3"]  # an axis, no E or Z; a SMILES cannot specify it
    assert one("CC=C=C").open_stereo == one("CC(C)=C=CC").open_stereo == one("CN=C=NC").open_stereo == []
    assert one("CC=NO").open_stereo == ["C1=N2"]


def test_files(tmp_path):
    mol = Chem.AddHs(Chem.MolFromSmiles("F/C=C/Cl"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    mol.SetProp("_Name", "trans")
    with Chem.SDWriter(str(tmp_path / "two.sdf")) as writer:
        writer.write(mol)
        writer.write(Chem.MolFromSmiles("CCO"))
    first, second = read_molecules(tmp_path / "two.sdf")
    assert (first.name, first.mol.GetNumConformers()) == ("trans", 1)
    assert list(Identity(first).stereo.values()) == ["E"]
    assert (second.name, second.mol.GetNumConformers(), len(second.numbers)) == ("CCO", 0, 9)
    with Chem.SDWriter(str(tmp_path / "conformers.sdf")) as writer:
        for seed in (1, 2):
            AllChem.EmbedMolecule(mol, randomSeed=seed)
            writer.write(mol)
        writer.write(Chem.RenumberAtoms(mol, [1, 0, *range(2, mol.GetNumAtoms())]))
    both, other = read_molecules(tmp_path / "conformers.sdf")
    assert (both.mol.GetNumConformers(), other.mol.GetNumConformers()) == (2, 1)
    (tmp_path / "list.smi").write_text("CCO ethanol\n\nCC\n")
    assert [m.name for m in read_molecules(tmp_path / "list.smi")] == ["ethanol", "CC"]
    frames = [molecule("CH3CH2OH") for _ in range(3)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.02, seed=seed)
    write(tmp_path / "frames.xyz", frames)
    found = one(tmp_path / "frames.xyz")
    assert (found.name, found.mol.GetNumConformers()) == ("CCO", 3)
    assert found.mol.GetConformer(2).GetPositions() == pytest.approx(frames[2].positions, abs=1e-6)


def test_bad_files(tmp_path):
    with pytest.raises(OptionError, match="no such file"):
        read_molecules(tmp_path / "absent.sdf")
    (tmp_path / "a.pdb").write_text("")
    with pytest.raises(OptionError, match=r"unknown kind of file; give one of \.sdf"):
        read_molecules(tmp_path / "a.pdb")
    (tmp_path / "empty.sdf").write_text("")
    with pytest.raises(MoleculeError, match="holds no molecule"):
        read_molecules(tmp_path / "empty.sdf")
    (tmp_path / "broken.sdf").write_text("x\n\n\n  2  1  0 and so on\nM  END\n$$$$\n")
    with pytest.raises(MoleculeError, match="RDKit refuses it"):
        read_molecules(tmp_path / "broken.sdf")
    bare = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(bare, randomSeed=1)
    Chem.MolToMolFile(Chem.RemoveHs(bare), str(tmp_path / "bare.mol"))
    with pytest.raises(MoleculeError, match="lacks hydrogens") as caught:
        read_molecules(tmp_path / "bare.mol")
    assert caught.value.reason == "hydrogens"
    write(tmp_path / "mixed.xyz", [molecule("H2O"), molecule("CH4")], format="xyz")
    with pytest.raises(MoleculeError, match="not of one molecule"):
        read_molecules(tmp_path / "mixed.xyz")
    for name in ("nothing.smi", "nothing.xyz"):
        (tmp_path / name).write_text("")
        with pytest.raises(MoleculeError, match=r"holds no SMILES|Empty file") as caught:
            read_molecules(tmp_path / name)
        assert caught.value.reason == "unreadable"
    with pytest.raises(MoleculeError, match="is periodic"):
        read_molecules(bulk("Cu"))
    (tmp_path / "words.xyz").write_text("this is no xyz file\n")
    with pytest.raises(MoleculeError, match="ASE cannot read it"):
        read_molecules(tmp_path / "words.xyz")


def test_bonds_that_cannot_be_perceived():
    with pytest.raises(MoleculeError, match="charge 0 cannot be perceived") as caught:
        read_molecules(molecule("NO2"))
    assert caught.value.reason == "bonds"
    with pytest.raises(MoleculeError, match="unpaired electrons"):
        read_molecules(Atoms("CH2", [(0, 0, 0), (0.9, 0.5, 0), (-0.9, 0.5, 0)]))
    torn = molecule("CH3CH2OH")
    del torn[[-2, -1]]
    with pytest.raises(MoleculeError, match="or hydrogens are missing in these positions") as caught:
        read_molecules(torn)
    assert caught.value.reason == "radical"
    ammonium = molecule("NH3")
    ammonium += Atoms("H", [ammonium.positions[0] + (0, 0, 1.0)])
    assert one(ammonium, charge=1).charge == 1


def test_same_seed_same_starts():
    hexanol = one("CCCCCCO")
    first, again, other = (embed(hexanol, 8, seed).positions for seed in (3, 3, 4))
    assert first.shape == (8, 21, 3)
    assert (first == again).all()
    assert not np.allclose(first, other)
    assert number_of_conformers(one("C")) == 20 < number_of_conformers(hexanol) <= 300
    ethanol = embed(one("CCO"), 30, 0).positions
    assert len(ethanol) > 10  # hydroxyl groups turn, too


@pytest.mark.parametrize("seed", [3, 2**30])  # RDKit folds the seeds of all but the first conformer of the second
def test_same_seed_same_starts_with_time_enough(seed):
    for smiles in ("OCC(F)Cl", "C1CCCC1", "[H][H]"):
        whole, in_time = embed(one(smiles), 12, seed), embed(one(smiles), 12, seed, Clock(60.0))
        assert (whole.positions == in_time.positions).all()
        assert in_time.is_whole
    assert len(whole.positions) == 1  # starts that are alike are one


def test_molecules_that_resist():
    norbornane = embed(one("C1CC2CCC1C2"), 3, 0)
    assert norbornane.rung in ("etkdg", "random coordinates")
    with pytest.raises(MoleculeError, match=r"finds no positions for it in 4 ways \(failures: .+\)") as caught:
        embed(one("C[C@@]12CC[C@](C)(C1)C2"), 1, 0)  # a bridge that would have to go through the ring
    assert caught.value.reason == "embedding"
    with pytest.raises(OptionError, match="0 conformers"):
        embed(one("C"), 0, 0)
    with pytest.raises(OptionError, match="a seed from 0 to 2147483645"):
        embed(one("C"), 1, 2**31 - 2)


def test_changes_are_told():
    alanine = one("C[C@H](N)C(=O)O")
    identity, place = Identity(alanine), embed(alanine, 1, 1).positions[0]
    assert identity.change(place) is None
    assert identity.change(place * (1, 1, -1)) == "stereo of C1 turned from S to R"
    torn = place.copy()
    torn[0] += 2.0
    assert "broke" in identity.change(torn)
    near = place.copy()
    near[2] = near[0] + (0.0, 0.0, 1.3)
    assert identity.change(near) is not None
