"""Molecules in the layouts of MD17 as pairs of frames, and faults of such files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from mlff_calc.datasets.motion import find_format, read_motion
from mlff_calc.datasets.motion.edges import bonds, complete_edges, nearest_edges, within_hops
from mlff_calc.errors import DatasetError

ETHANOL = molecule("CH3CH2OH")
HEAVY = ETHANOL.numbers > 1


def moving(n_frames: int = 400) -> np.ndarray:
    """Return ethanol on smooth paths, with each atom on a small ellipse."""
    rng = np.random.default_rng(3)
    time = np.arange(n_frames)[:, None, None]
    size, pace = 0.1 * rng.standard_normal((2, 9, 3)), rng.uniform(0.01, 0.05, (9, 1))
    return ETHANOL.positions + size[0] * (np.cos(pace * time) - 1.0) + size[1] * np.sin(pace * time)


def write(path: Path, positions: np.ndarray, **more: object) -> Path:
    np.savez(path, **{"R": positions, "z": ETHANOL.numbers, "E": np.zeros(len(positions)), "F": positions, **more})
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "ethanol.npz", moving())


def test_pairs_follow_the_protocol(file):
    x = moving()
    parts = {part: read_motion(file, part=part, horizon=50) for part in ("train", "valid", "test")}
    span = 400 - 51 - 20  # number of first frames from 20 on with both the end and the frame after it in the file
    assert [len(samples) for samples in parts.values()] == [int(0.1 * span), int(0.05 * span), int(0.05 * span)]
    starts = set()
    for samples in parts.values():
        for sample in samples:
            start, end = (int(word) for word in sample.place.rsplit("frames ")[1].split(" and "))
            assert (end, sample.horizon) == (start + 50, 50.0)
            assert start not in starts
            starts.add(start)
            np.testing.assert_array_equal(sample.positions, x[start, HEAVY])
            np.testing.assert_array_equal(sample.velocities, x[start + 1, HEAVY] - x[start, HEAVY])
            np.testing.assert_array_equal(sample.target_positions, x[end, HEAVY])
            np.testing.assert_array_equal(sample.target_velocities, x[end + 1, HEAVY] - x[end, HEAVY])
    assert min(starts) >= 20
    assert len(read_motion(file, part=None, horizon=50)) == len(starts)
    assert [s.place for s in read_motion(file, part="train", horizon=50, limit=3)] == [
        s.place for s in parts["train"][:3]
    ]


def test_heavy_atoms_and_hops(file):
    sample = read_motion(file, part="train", horizon=5)[0]
    assert sample.kinds.tolist() == ETHANOL.numbers[HEAVY].tolist()
    assert sample.scalars.shape == (3, 0)
    kinds = {"CC": 1.0, "CO": 1.0}  # C-C-O, with the methyl carbon two bonds from the oxygen
    flags = {}
    for (i, j), flag in zip(sample.edges.T.tolist(), sample.edge_scalars[:, 0], strict=True):
        flags[i, j] = flag
    assert len(flags) == 6
    assert sum(flags.values()) == 2 * len(kinds)
    assert all(flags[i, j] == flags[j, i] for i, j in flags)
    assert read_motion(file, part="train", horizon=5, hops=1)[0].edges.shape == (2, 4)
    whole = read_motion(file, part="train", horizon=5, hops=1, heavy_atoms=False)[0]
    assert whole.kinds.tolist() == ETHANOL.numbers.tolist()
    assert whole.edges.shape[1] >= 2 * 8


def test_nearest_neighbours_of_molecules_flag_the_bonds(file):
    sample = read_motion(file, part="train", horizon=5, neighbors=1)[0]
    assert sample.edge_scalars[:, 0].tolist() == [1.0] * 4
    both = read_motion(file, part="train", horizon=5, neighbors=2)[0]
    assert sorted(both.edge_scalars[:, 0].tolist()) == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]


def test_original_names_and_short_files(tmp_path):
    path = tmp_path / "original.npz"
    np.savez(path, coords=moving(), nuclear_charges=ETHANOL.numbers, energies=np.zeros(400), forces=moving())
    assert find_format(path) == "md17"
    assert len(read_motion(path, part="train", horizon=10)) == int(0.1 * (400 - 20 - 20))


def test_long_files_leave_out_ten_thousand_frames_at_either_end(tmp_path):
    time = np.arange(200_000)[:, None, None]
    path = tmp_path / "long.npz"
    np.savez(path, R=np.asarray([[0.0, 0, 0], [1.2, 0, 0]]) + 1e-6 * time, z=np.asarray([6, 8]))
    counts, starts = {}, []
    for part in ("train", "valid", "test"):
        samples = read_motion(path, part=part)
        counts[part] = len(samples)
        starts += [int(sample.place.rsplit("frames ")[1].split(" and ")[0]) for sample in samples]
    assert counts == {"train": 500, "valid": 2000, "test": 2000}
    assert 10_000 <= min(starts) < 10_500
    assert 189_500 < max(starts) < 190_000
    assert len(set(starts)) == 4500


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"horizon": 399},
            r"has 400 frames, and pairs 399 frames apart need at least 421: frames closer than the horizon",
        ),
        ({}, r"400 frames, and pairs 3000.*smaller `horizon`"),
        ({"horizon": 375, "part": "test"}, r"too few for part 'test' \(5% of them\)"),
        ({"horizon": 5, "start": 3}, r"start = 3.*md17"),
        ({"horizon": 5, "neighbors": 3}, r"neighbors = 3.*each of the 3 bodies has 2 others"),
        ({"horizon": 5, "hops": 0}, "hops = 0"),
    ],
)
def test_pairs_that_cannot_be_made(file, given, said):
    with pytest.raises(DatasetError, match=said):
        read_motion(file, **{"part": "train", **given})


def broken(positions: np.ndarray, what: str) -> np.ndarray:
    if what == "nan":
        positions[123, 4, 1] = np.nan
    if what == "swap":
        positions[200:, [0, 1]] = positions[200:, [1, 0]]
    if what == "shuffled":
        positions = positions + 5.0 * np.random.default_rng(0).standard_normal((len(positions), 1, 3))
    if what == "coincident":
        positions[:, 1] = positions[:, 0]
    if what == "far":
        positions += 10.0 * np.arange(9)[:, None]
    return positions


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nan", r"frame 123, atom 4: the position is not finite"),
        ("swap", r"frame 200, atom 0: it is 1\.\d+ Angstrom from where.*order of atoms changes"),
        ("shuffled", r"frame 1, atom 0.*do not follow each other in time"),
        ("coincident", r"frames \d+ and \d+: bodies 0 and 1 are at the same place"),
        ("far", r"no two of the 3 bodies are connected. Give `neighbors`"),
    ],
)
def test_broken_trajectories_name_frame_and_atom(tmp_path, what, said):
    path = write(tmp_path / "broken.npz", broken(moving(), what))
    with pytest.raises(DatasetError, match=said):
        read_motion(path, part="train", horizon=5)


def test_an_order_of_atoms_that_changes_by_name(tmp_path):
    numbers = np.tile(ETHANOL.numbers, (400, 1))
    assert len(read_motion(write(tmp_path / "same.npz", moving(), z=numbers), part="train", horizon=5)) > 0
    numbers[77] = numbers[77][::-1]
    with pytest.raises(DatasetError, match=r"frame 77: 'z' is .* in frame 0. The order of atoms must not change"):
        read_motion(write(tmp_path / "other.npz", moving(), z=numbers), part="train", horizon=5)


def test_one_atom_and_one_heavy_atom(tmp_path):
    water = molecule("H2O")
    frames = np.tile(water.positions, (100, 1, 1))
    path = write(tmp_path / "water.npz", frames, z=water.numbers)
    with pytest.raises(DatasetError, match=r"without hydrogens 1 of 3 atoms are left.*heavy_atoms: false"):
        read_motion(path, part="train", horizon=5)
    assert read_motion(path, part="train", horizon=5, heavy_atoms=False)[0].edges.shape == (2, 6)
    path = write(tmp_path / "argon.npz", np.zeros((100, 1, 3)), z=np.asarray([18]))
    with pytest.raises(DatasetError, match=r"1 body.*at least two"):
        read_motion(path, part="train", horizon=5)


def test_files_of_other_kinds(tmp_path, data_dir):
    with pytest.raises(DatasetError, match=r"revised MD17, or a cut of it.*mlff data trajectory"):
        read_motion(data_dir / "rmd17/ethanol.npz", part="train")
    np.savez(tmp_path / "odd.npz", a=np.zeros(3))
    with pytest.raises(DatasetError, match=r"holds the arrays \['a'\], which no known format"):
        read_motion(tmp_path / "odd.npz", part="train")
    with pytest.raises(DatasetError, match=r"r_unit is .Bohr"):
        read_motion(write(tmp_path / "bohr.npz", moving(), r_unit="Bohr"), part="train", horizon=5)
    with pytest.raises(DatasetError, match=r"'R' has shape \[400, 9\]"):
        read_motion(write(tmp_path / "flat.npz", moving()[..., 0]), part="train", horizon=5)
    with pytest.raises(DatasetError, match=r"'z' has shape \[8\]"):
        read_motion(write(tmp_path / "few.npz", moving(), z=ETHANOL.numbers[1:]), part="train", horizon=5)


def test_graphs_of_a_chain():
    chain = np.stack([1.5 * np.arange(5.0), np.zeros(5), np.zeros(5)], axis=1)
    near = bonds(chain)
    assert set(map(tuple, near.T.tolist())) == {(i, j) for i in range(5) for j in range(5) if abs(i - j) == 1}
    for hops in (1, 2, 3):
        edges, flags = within_hops(near, 5, hops)
        assert set(map(tuple, edges.T.tolist())) == {
            (i, j) for i in range(5) for j in range(5) if 0 < abs(i - j) <= hops
        }
        np.testing.assert_array_equal(flags[:, 0], np.abs(edges[0] - edges[1]) == 1)
    triangle, flags = within_hops(complete_edges(3), 3, 2)
    assert triangle.shape == (2, 6)
    assert flags.all()
    one_way, _ = within_hops(near[:, near[0] < near[1]], 5, 1)
    np.testing.assert_array_equal(one_way, near)
    ends = nearest_edges(chain, 1, "chain")
    assert {(0, 1), (1, 0), (4, 3), (3, 4)} <= set(map(tuple, ends.T.tolist()))
