"""Files of energies: one level, numbers that survive, and clear errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from mlff_calc.datasets.energy_files import EnergyFile, EnergyFrame, failures_of, one_level, write_energies
from mlff_calc.errors import DatasetError

LEVEL = "ccsd(t)/6-31g*, conv_tol 1e-09 Ha, frozen core"


def frame(source: int = 0) -> EnergyFrame:
    atoms = molecule("H2O")
    return EnergyFrame(atoms.numbers, atoms.positions, -2078.1234567890123, np.full((3, 3), 0.25), -1, source)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    write_energies(path, [frame(), frame(3)], LEVEL, [(1, "no"), (2, "never")])
    file = EnergyFile(path)
    assert (file.level, file.failures) == (LEVEL, [(1, "no"), (2, "never")])
    one = file.frames[1]
    assert (one.energy, one.charge, one.source) == (frame().energy, -1, 3)
    np.testing.assert_allclose(one.positions, frame().positions, atol=1e-8)
    np.testing.assert_array_equal(one.forces, frame().forces)
    write_energies(path, [frame()], LEVEL)
    assert not failures_of(path).exists()


def test_levels_do_not_mix() -> None:
    atoms = [Atoms("H2", info={"level": level} if level else {}) for level in ("pbe/sto-3g", "", "hf/sto-3g")]
    assert one_level(atoms[:1], ["a"]) == "pbe/sto-3g"
    assert one_level(atoms[1:2], ["a"]) is None
    with pytest.raises(DatasetError, match=r"mixed: a is of the level 'pbe/sto-3g', b is of no named level"):
        one_level(atoms[:2], ["a", "b"])
    with pytest.raises(DatasetError, match=r"a is of the level 'pbe/sto-3g', b is of the level 'hf/sto-3g'"):
        one_level(atoms[::2], ["a", "b"])


def test_files_that_do_not_say_enough_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    write(path, molecule("H2O"))
    with pytest.raises(DatasetError, match="does not say the level"):
        EnergyFile(path)
    write(path, Atoms("H2", [[0, 0, 0], [0, 0, 1]], info={"level": LEVEL, "source": 0}))
    with pytest.raises(DatasetError, match="frame 0 lacks energy"):
        EnergyFile(path)
    write_energies(path, [frame()], LEVEL, [(1, "no")])
    failures_of(path).write_text("{")
    with pytest.raises(DatasetError, match="is damaged"):
        EnergyFile(path)
