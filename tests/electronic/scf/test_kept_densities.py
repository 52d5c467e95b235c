"""Densities of base functionals that several trainings share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

pytest.importorskip("pyscf")

from mlff_calc.electronic.functional import build_functional
from mlff_calc.electronic.scf import kept_densities
from mlff_calc.electronic.scf.frozen import freeze
from mlff_calc.electronic.scf.kept_densities import KeptDensities

pytestmark = pytest.mark.electronic


def test_a_density_is_computed_once_and_is_that_of_its_molecule_and_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"basis": "sto-3g", "grid_level": 0, "elements": [1, 9], "reweight": "local", "readout": False}
    pbe, lda = (build_functional(config | {"base": name}).eval().requires_grad_(False) for name in ("pbe", "lda"))
    calls: list[str] = []

    def counted(functional: object, atoms: Atoms, **options: object) -> object:
        calls.append(atoms.get_chemical_formula())
        return freeze(functional, atoms, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(kept_densities, "freeze", counted)
    kept, atoms = KeptDensities(tmp_path / "kept"), Atoms("H2", [[0, 0, 0], [0, 0, 0.75]])
    first = kept.density(pbe, atoms)
    assert first.energy == freeze(pbe, atoms)[0].energy
    again = KeptDensities(tmp_path / "kept").density(pbe, atoms.copy())
    assert (again.energy, len(calls)) == (first.energy, 1)
    assert np.array_equal(again.matrix, first.matrix)
    others = [atoms.copy() for _ in range(2)]
    others[0].positions[1, 2] += 1e-3
    others[1].info["charge"] = 2
    assert kept.density(pbe, others[0]).energy != first.energy
    assert kept.density(lda, atoms).energy != first.energy
    assert kept._path(pbe, others[1], 1e-9) != kept._path(pbe, atoms, 1e-9)
    path = kept._path(pbe, atoms, 1e-9)
    path.write_bytes(path.read_bytes()[:100])
    assert kept.density(pbe, atoms).energy == pytest.approx(first.energy, abs=1e-9)
    assert len(calls) == 4
