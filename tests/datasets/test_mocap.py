"""Motion capture: archives of trials, and ASF/AMC files with joints computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mlff_calc.datasets.motion import amc, find_format, motion_files, read_motion, read_motion_parts
from mlff_calc.datasets.motion.amc import read_amc, read_asf
from mlff_calc.errors import DatasetError

ASF = """# made up
:version 1.10
:name arm
:units
  mass 1.0
  length 0.45
  angle deg
:documentation
   a root with an arm of two bones up, and a leg down
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name upper
     direction 0 1 0
     length 2.0
     axis 0 0 0  XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
  begin
     id 2
     name lower
     direction 0 1 0
     length 1.0
     axis 0 0 90  XYZ
    dof ry
  end
  begin
     id 3
     name leg
     direction 0 -1 0
     length 3.0
     axis 0 0 0  XYZ
  end
:hierarchy
  begin
    root upper leg
    upper lower
  end
"""
HEAD = "#!made up\n:FULLY-SPECIFIED\n:DEGREES\n"


def frame(number: int, root: str = "0 0 0 0 0 0", upper: str = "0 0 0", lower: str = "0") -> str:
    return f"{number}\nroot {root}\nupper {upper}\nlower {lower}\n"


def joints(tmp_path, *frames: str, asf: str = ASF, head: str = HEAD) -> np.ndarray:
    (tmp_path / "arm.asf").write_text(asf)
    (tmp_path / "arm_01.amc").write_text(head + "".join(frames))
    return read_amc(tmp_path / "arm_01.amc", read_asf(tmp_path / "arm.asf"))


def same(found: np.ndarray, wanted: list[list[float]]) -> None:
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_a_straight_chain_and_its_translation(tmp_path):
    x = joints(tmp_path, frame(1), frame(2, root="1 2 3 0 0 0"))
    same(x[0], [[0, 0, 0], [0, 2, 0], [0, 3, 0], [0, -3, 0]])
    same(x[1], [[1, 2, 3], [1, 4, 3], [1, 5, 3], [1, -1, 3]])


def test_one_joint_turns_all_that_hangs_on_it(tmp_path):
    x = joints(tmp_path, frame(1, upper="0 0 90"), frame(2, root="0 0 5 90 0 0"), frame(3, upper="90 0 90"))
    same(x[0], [[0, 0, 0], [-2, 0, 0], [-3, 0, 0], [0, -3, 0]])  # y turns to -x
    same(x[1], [[0, 0, 5], [0, 0, 7], [0, 0, 8], [0, 0, 2]])  # y turns to z
    same(x[2], [[0, 0, 0], [0, 0, 2], [0, 0, 3], [0, -3, 0]])  # x turns y to z, which z keeps


def test_angles_are_about_the_bones_own_axes(tmp_path):
    x = joints(tmp_path, frame(1, lower="90"), frame(2, upper="0 0 90", lower="90"))
    same(x[0], [[0, 0, 0], [0, 2, 0], [0, 2, -1], [0, -3, 0]])  # its y axis is -x of the world, so y turns to -z
    same(x[1], [[0, 0, 0], [-2, 0, 0], [-2, 0, -1], [0, -3, 0]])  # this axis rotates with the upper bone


def test_the_order_of_letters_decides_the_order_of_rotations(tmp_path):
    turned = ASF.replace("axis 0 0 0  XYZ\n    dof rx ry rz", "axis 0 0 0  ZYX\n    dof rx ry rz")
    x = joints(tmp_path, frame(1, upper="90 0 90"), asf=turned)
    same(x[0], [[0, 0, 0], [-2, 0, 0], [-3, 0, 0], [0, -3, 0]])  # z turns y to -x, which x keeps


def test_radians(tmp_path):
    x = joints(tmp_path, frame(1, upper=f"0 0 {np.pi / 2}"), head=HEAD.replace("DEGREES", "RADIANS"))
    same(x[0], [[0, 0, 0], [-2, 0, 0], [-3, 0, 0], [0, -3, 0]])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("orientation 0 0 0", "orientation 0 90 0", "orientation is"),
        ("length 1.0", "length long", "bone lower: length is 'long', expected 1 numbers"),
        ("dof ry\n", "dof ry l\n", "bone lower: channel l is not known"),
        ("root upper leg", "root upper", "does not connect the bone leg"),
        ("upper lower", "upper hand", "names the bone hand"),
        ("upper lower", "upper lower leg", "leg as a child twice"),
        ("axis 0 0 90  XYZ", "axis 0 0 90  XYY", "order of its axes is .xyy"),
        (":hierarchy", ":tree", "no section :hierarchy"),
        ("name lower", "name upper", "two bones are called upper"),
    ],
)
def test_broken_skeletons(tmp_path, old, new, said):
    with pytest.raises(DatasetError, match=said):
        joints(tmp_path, frame(1), asf=ASF.replace(old, new))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no frames"),
        (frame(1) + "2\nroot 0 0 0 0 0 0\n", "frame 2 lacks upper, lower"),
        (frame(1, upper="0 0"), r"frame 1, bone upper: 2 numbers, and the skeleton has 3 channels \(rx ry rz\)"),
        (frame(1, upper="0 0 x"), "expected 3 numbers"),
        (frame(1, upper="0 0 nan"), "expected 3 numbers"),
        (frame(1) + "tail 1\n", "frame 1: tail is no bone"),
    ],
)
def test_broken_motions(tmp_path, text, said):
    with pytest.raises(DatasetError, match=said):
        joints(tmp_path, text)


@pytest.fixture
def folder(tmp_path):
    """Write eight trials of an arm that swings during walking."""
    (tmp_path / "arm.asf").write_text(ASF)
    for trial in range(8):
        lines = (
            frame(t + 1, root=f"0 {5 + trial} {0.1 * t} 0 0 0", upper=f"{30 * np.sin(0.1 * t)} 0 0") for t in range(60)
        )
        (tmp_path / f"arm_{trial:02d}.amc").write_text(HEAD + "".join(lines))
    return tmp_path


def test_pairs_of_asf_amc(folder):
    assert find_format(folder) == "asf_amc"
    parts = {part: read_motion(folder, part=part, horizon=20) for part in ("train", "valid", "test")}
    trials = {part: {sample.place.split(", ")[0] for sample in samples} for part, samples in parts.items()}
    assert [len(found) for found in trials.values()] == [4, 2, 2]
    assert len(set.union(*trials.values())) == 8
    assert len(parts["train"]) == 4 * (60 - 21)
    for sample in parts["train"][:20]:
        name, frames = sample.place.split(", frames ")
        x = read_amc(folder / name.rsplit("/")[-1], read_asf(folder / "arm.asf"))
        start, end = map(int, frames.split(" and "))
        assert end == start + 20
        np.testing.assert_array_equal(sample.positions, x[start])
        np.testing.assert_array_equal(sample.velocities, x[start + 1] - x[start])
        np.testing.assert_array_equal(sample.target_positions, x[end])
        np.testing.assert_array_equal(sample.scalars[:, 0], x[start][:, 1])
        assert sample.kinds.tolist() == [1, 2, 3, 4]
    again = read_motion(folder / "arm.asf", part="train", horizon=20)
    assert [sample.place for sample in again] == [sample.place for sample in parts["train"]]
    alone = read_motion(folder / "arm_03.amc", part=None, horizon=20)
    assert {sample.place.split(", ")[0] for sample in alone} == {str(folder / "arm_03.amc")}


def test_parts_are_read_together_and_every_trial_once(folder, monkeypatch):
    read = []
    monkeypatch.setattr(amc, "read_amc", lambda path, skeleton: (read.append(path.name), read_amc(path, skeleton))[1])
    parts = read_motion_parts(folder, {"train": 5, "test": None, None: 7}, horizon=20, neighbors=2)
    assert sorted(read) == [f"arm_{trial:02d}.amc" for trial in range(8)]
    for part, limit in (("train", 5), ("test", None), (None, 7)):
        alone = read_motion(folder, part=part, limit=limit, horizon=20, neighbors=2)
        assert [sample.place for sample in parts[part]] == [sample.place for sample in alone]
        assert all(np.array_equal(a.positions, b.positions) for a, b in zip(parts[part], alone, strict=True))
    assert len(parts[None]) == 7


def test_files_that_are_read(folder):
    (folder / "notes.txt").write_text("no motion")
    (folder / "older").mkdir()
    (folder / "older" / "arm_09.amc").write_text(HEAD)
    everything = [folder / "arm.asf", *(folder / f"arm_{trial:02d}.amc" for trial in range(8))]
    assert motion_files(folder) == motion_files(folder / "arm.asf") == everything
    assert motion_files(folder / "arm_03.amc") == [folder / "arm.asf", folder / "arm_03.amc"]
    np.savez(folder / "one.npz", R=np.zeros((2, 1, 3)), z=np.ones(1))
    assert motion_files(folder / "one.npz") == [folder / "one.npz"]


def test_trials_that_are_too_few_or_too_short(folder):
    with pytest.raises(DatasetError, match="1 trials cannot be shared out"):
        read_motion(folder / "arm_03.amc", part="train")
    with pytest.raises(
        DatasetError, match=r"has 60 frames, and pairs 59 frames apart need at least 61.*closer than the horizon"
    ):
        read_motion(folder, part="train", horizon=59)
    (folder / "leg.asf").write_text(ASF)
    with pytest.raises(DatasetError, match=r"one skeleton is needed, and .* has arm.asf, leg.asf"):
        read_motion(folder, part="train")


def test_the_archive_of_a_runner(data_dir):
    path = data_dir / "mocap/cmu_subject09_run.npz"
    arrays = np.load(path)
    counts = {}
    for part, key in (("train", "train"), ("valid", "val"), ("test", "test")):
        samples = read_motion(path, part=part)
        counts[part] = len(samples)
        found = {
            (sample.place.split("trial ")[1].split(",")[0], int(sample.place.split("frames ")[1].split()[0]))
            for sample in samples
        }
        wanted = {
            ("X" + name[-2:], int(start))
            for name in arrays.files
            if name.startswith(f"split_{key}")
            for start in arrays[name]
        }
        assert found == wanted
    assert counts == {"train": 400, "valid": 240, "test": 240}
    sample = read_motion(path, part="test", limit=1)[0]
    x, start = arrays["X03"].astype(float), int(arrays["split_test_case03"][0])
    np.testing.assert_array_equal(sample.positions, x[start])
    np.testing.assert_array_equal(sample.velocities, x[start + 1] - x[start])
    np.testing.assert_array_equal(sample.target_positions, x[start + 30])
    np.testing.assert_array_equal(sample.target_velocities, x[start + 31] - x[start + 30])
    np.testing.assert_array_equal(sample.scalars[:, 0], x[start, :, 1])
    assert sample.kinds.tolist() == list(range(1, 32))
    assert sample.edge_scalars.sum() == 60.0
    bones = set(map(tuple, arrays["edges"].tolist()))
    one = sample.edges[:, sample.edge_scalars[:, 0] == 1.0].T.tolist()
    assert set(map(tuple, one)) == bones | {(j, i) for i, j in bones}
    i, j = np.asarray(one).T
    lengths = [np.linalg.norm(xyz[i] - xyz[j], axis=1) for xyz in (sample.positions, sample.target_positions)]
    np.testing.assert_allclose(*lengths, rtol=1e-4)  # bones are rigid, to single precision


def test_archives_with_other_horizons(data_dir):
    path = data_dir / "mocap/cmu_subject09_run.npz"
    assert read_motion(path, part="train", horizon=10)[0].horizon == 10.0
    assert (
        read_motion(path, part="train", horizon=36)[0].target_velocities is None
    )  # the last frame has no successor
    with pytest.raises(DatasetError, match=r"trial X\d\d: the pair that starts at frame 8\d .*closer than the horizon"):
        read_motion(path, part="train", horizon=60)
    sparse = read_motion(path, part="train", neighbors=3, limit=1)[0]
    assert 31 * 3 <= sparse.edges.shape[1] <= 31 * 6
    assert 0.0 < sparse.edge_scalars.mean() < 1.0
