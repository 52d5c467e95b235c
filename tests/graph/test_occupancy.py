"""Sites with several elements or partial occupancy are refused wherever a structure becomes a graph."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io import read, write

from mlff_calc import MLFFCalculator
from mlff_calc.errors import StructureError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.graph.occupancy import check_occupancy

CIF = """data_x
_cell_length_a 5.43
_cell_length_b 5.43
_cell_length_c 5.43
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
_symmetry_Int_Tables_number 1
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Si1 Si 0.00 0.00 0.00 {0}
{1}Si2 Si 0.25 0.25 0.25 1.0
Si3 Si 0.50 0.50 0.00 {2}
"""


def crystal(tmp_path, *fields):
    path = tmp_path / "x.cif"
    path.write_text(CIF.format(*fields))
    return read(path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("0.7", "Ge1 Ge 0.00 0.00 0.00 0.3\n", "1.0"), r"atom 0 \(Si\).*Si 0.7 Ge 0.3.*1 such atoms of 3"),
        (("1.0", "", "0.25"), r"atom 2 \(Si\).*Si 0.25"),
        (("0.9", "", "0.9"), r"atom 0 .*2 such atoms of 3"),
    ],
)
def test_shared_and_empty_sites(tmp_path, fields, said):
    atoms = crystal(tmp_path, *fields)
    with pytest.raises(StructureError, match=said):
        graph_from_atoms(atoms, 4.0)
    with pytest.raises(StructureError, match=said):
        MLFFCalculator("silicon").evaluate(atoms)
    with pytest.raises(StructureError, match="ordered structure"):
        atoms.calc = MLFFCalculator("silicon")


@pytest.mark.parametrize("full", ["1.0", "0.9995", "1.0(1)"])
def test_full_sites_pass(tmp_path, full):
    atoms = crystal(tmp_path, full, "", "1")
    assert "occupancy" in atoms.info
    assert len(graph_from_atoms(atoms, 4.0)["atomic_numbers"]) == 3


def test_structures_derived_from_disordered_ones(tmp_path):
    atoms = crystal(tmp_path, "1.0", "", "0.25")
    with pytest.raises(StructureError, match="4 such atoms of 12"):
        check_occupancy(atoms * (2, 2, 1))
    check_occupancy(atoms[:2])  # these atoms do not include the site
    write(tmp_path / "x.extxyz", atoms)
    with pytest.raises(StructureError, match="atom 2"):
        check_occupancy(read(tmp_path / "x.extxyz"))
    del atoms.arrays["spacegroup_kinds"]
    with pytest.raises(StructureError, match="on kind"):
        check_occupancy(atoms, "x.cif, frame 0")
    del atoms.info["occupancy"]
    check_occupancy(atoms)


def test_columns_of_occupancies():
    atoms = molecule("CH3CH2OH")
    atoms.set_array("occupancy", np.array([1.0] * 8 + [0.0]))
    check_occupancy(atoms)
    atoms.arrays["occupancy"][4] = 0.5
    with pytest.raises(StructureError, match=r"file, frame 3: atom 4 \(H\) has an occupancy of 0.5"):
        check_occupancy(atoms, "file, frame 3")


def test_notes_of_other_programs_pass():
    atoms = bulk("Si")
    atoms.info["occupancy"] = "full"
    check_occupancy(atoms)
    check_occupancy(bulk("Si"))
