"""Only the frames selected by an index are read, so that faults in others do no harm."""

from __future__ import annotations

import time

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.datasets import read_structures
from mlff_calc.errors import DatasetError

GOOD = '2\nProperties=species:S:1:pos:R:3:forces:R:3 energy={} pbc="F F F"\nCu 0 0 0 0 0 1\nCu 2 2 2 0 0 -1\n'
TAILS = {
    "NaN": GOOD.format("nan"),
    "cut off": GOOD.format(9)[:-12],
    "no header": "these are no atoms\nat all\n",
    "too many atoms": f"{10**11}\n\nCu 0 0 0\n",
    "negative": "-3\n\n",
}


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("index", [":7", "0:7:3", "2:5", 6, "1:7:2"])
def test_a_bad_frame_outside_the_index_does_no_harm(tmp_path, name, index):
    path = tmp_path / "a.extxyz"
    path.write_text("".join(GOOD.format(-n) for n in range(7)) + TAILS[name])
    expected = list(range(7))[slice(*(int(x) if x else None for x in index.split(":")))] if isinstance(index, str) else [6]
    samples = read_structures(path, index)
    assert [sample.frame for sample in samples] == expected
    assert [sample.energy for sample in samples] == [-float(n) for n in expected]


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("index", [":", "5:", -1, "7", "::-1"])
def test_a_bad_frame_inside_the_index_is_named(tmp_path, name, index):
    path = tmp_path / "a.extxyz"
    path.write_text("".join(GOOD.format(-n) for n in range(7)) + TAILS[name])
    with pytest.raises(DatasetError, match="frame 7"):
        read_structures(path, index)


@pytest.mark.parametrize("name", ["a.extxyz", "a.extxyz.gz", "a.xyz", "a.traj", "a.json"])
@pytest.mark.parametrize("index", [":", "2:9:3", "-3:", ":-8", "::-4", "9:2:-2", -2, 0, 11, "5", "20:3:-1"])
def test_index_as_in_ase(tmp_path, name, index):
    frames = []
    for number in range(12):
        atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.0 + 0.1 * number]])
        atoms.calc = SinglePointCalculator(atoms, energy=float(number), forces=np.zeros((2, 3)))
        frames.append(atoms)
    ase.io.write(tmp_path / name, frames)
    whole = list(range(12))
    chosen = ase.io.formats.string2index(index) if isinstance(index, str) else index
    expected = whole[chosen] if isinstance(chosen, slice) else [whole[chosen]]
    samples = read_structures(tmp_path / name, index)
    assert [sample.frame for sample in samples] == expected
    assert [sample.energy for sample in samples] == [float(number) for number in expected]
    for wrong in (12, -13, "a:b", "1:2:0"):
        with pytest.raises(DatasetError, match="index"):
            read_structures(tmp_path / name, wrong)


def test_ten_frames_of_a_large_file_cost_as_much_as_ten(tmp_path):
    path = tmp_path / "a.extxyz"
    path.write_text(GOOD.format(-1) * 8000)
    read_structures(path, ":10")
    start = time.process_time()
    read_structures(path, ":10")
    ours = time.process_time() - start
    start = time.process_time()
    read_structures(path, ":")
    assert ours < 0.05 * (time.process_time() - start)
