"""Frames of isolated atoms are recognized by their config type, and give one energy per element."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase import Atoms

from mlff_calc.datasets import LabelKeys, Sample, read_structures
from mlff_calc.datasets.isolated import is_marked, isolated_energies, part_isolated
from mlff_calc.errors import DatasetError


def sample(symbols: str, energy: float | None = None, config_type: str = "IsolatedAtom", frame: int = 0) -> Sample:
    return Sample(Atoms(symbols), energy, config_type=config_type, path=Path("a.extxyz"), frame=frame)


@pytest.mark.parametrize("name", ["IsolatedAtom", "isolated_atom", "isolatedatom", "Isolated Atom", "isolated-atoms"])
def test_spellings(name: str) -> None:
    assert is_marked(name)


@pytest.mark.parametrize("name", ["", "atom", "isolated", "isolated_molecule", "not_an_isolated_atom", "Default"])
def test_other_types(name: str) -> None:
    assert not is_marked(name)


def test_energies_by_element() -> None:
    frames = [sample("O", -432.1), sample("CO", -5.0, "dimer"), sample("H", -13.5), sample("H", -13.500001), sample("C")]
    others, isolated = part_isolated(frames)
    assert [found.energy for found in others] == [-5.0]
    assert list(isolated_energies(isolated).items()) == [(1, -13.5), (8, -432.1)]


def test_two_atoms_and_disagreement_are_named() -> None:
    with pytest.raises(DatasetError, match=r"a\.extxyz, frame 7: .*'IsolatedAtom' .* but it has 2 atoms \(H2\)"):
        part_isolated([sample("H", -1.0), sample("H2", -2.0, frame=7)])
    with pytest.raises(DatasetError, match=r"atoms of H disagree: -13\.5 eV in a\.extxyz, frame 0, -13\.6 eV .* 3;"):
        isolated_energies([sample("H", -13.5), sample("O", 1.0, frame=1), sample("H", -13.6, frame=3)])


def test_a_file_of_isolated_atoms_needs_no_forces(tmp_path: Path) -> None:
    frame = '1\nProperties=species:S:1:pos:R:3 config_type={} REF_energy={} pbc="F F F"\n{} 0 0 0\n'
    keys = LabelKeys(energy="REF_energy", forces="REF_forces")
    path = tmp_path / "a.extxyz"
    path.write_text(frame.format("IsolatedAtom", -1, "H") + frame.format("IsolatedAtom", -2, "O"))
    assert isolated_energies(read_structures(path, keys=keys)) == {1: -1.0, 8: -2.0}
    path.write_text(frame.format("IsolatedAtom", -1, "H") + frame.format("other", -2, "O"))
    with pytest.raises(DatasetError, match="no frame holds the forces label 'REF_forces'"):
        read_structures(path, keys=keys)
    path.write_text(frame.format("IsolatedAtom", -1, "H"))
    with pytest.raises(DatasetError, match="no frame holds the energy label 'E'"):
        read_structures(path, keys=LabelKeys(energy="E"))
