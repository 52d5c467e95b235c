"""The N-body simulator, compared with physics and a simple loop; its files; pairs of frames."""

from __future__ import annotations

import numpy as np
import pytest

from mlff_calc.datasets.motion import (
    NBODY_PROTOCOLS,
    NBodyOptions,
    NBodyStart,
    draw_start,
    make_nbody,
    read_motion,
    save_archive,
    simulate,
)
from mlff_calc.errors import DatasetError, OptionError

SMALL = {"train": 4, "valid": 3, "test": 3, "dtype": "float64", "frames": (0, 2, 3)}


def apart(n: int, n_trajectories: int = 3, seed: int = 7) -> NBodyStart:
    """Return bodies on a rattled cubic grid, so that no force is close to the limit."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)[:n] * 2.0
    shape = (n_trajectories, n, 3)
    charges = np.where(rng.random(shape[:2]) < 0.5, -1.0, 1.0)
    return NBodyStart(grid + 0.2 * rng.standard_normal(shape), 0.3 * rng.standard_normal(shape), charges)


def forces_by_loop(positions: np.ndarray, charges: np.ndarray, clip: float) -> np.ndarray:
    forces = np.zeros_like(positions)
    for i in range(len(positions)):
        for j in range(len(positions)):
            if i != j:
                away = positions[i] - positions[j]
                forces[i] += charges[i] * charges[j] * away / np.linalg.norm(away) ** 3
    return np.clip(forces, -clip, clip)


def energy(positions: np.ndarray, velocities: np.ndarray, charges: np.ndarray) -> float:
    first, second = np.triu_indices(len(charges), 1)
    distance = np.linalg.norm(positions[first] - positions[second], axis=1)
    return 0.5 * float((velocities**2).sum()) + float((charges[first] * charges[second] / distance).sum())


@pytest.mark.parametrize("n", [2, 5, 20])
@pytest.mark.parametrize("clip", [0.15, 100.0])
def test_steps_are_those_of_a_plain_loop(n, clip):
    start = apart(n)
    x, v = simulate(start, [1], steps_per_frame=5, timestep=0.01, max_force=clip)
    clipped = False
    for row in range(len(x)):
        place, speed = start.positions[row].copy(), start.velocities[row].copy()
        for _ in range(5):
            speed += 0.005 * forces_by_loop(place, start.charges[row], clip)
            place += 0.01 * speed
            force = forces_by_loop(place, start.charges[row], clip)
            clipped |= bool((np.abs(force) == clip).any())
            speed += 0.005 * force
        np.testing.assert_allclose(x[row, 0], place, atol=1e-13)
        np.testing.assert_allclose(v[row, 0], speed, atol=1e-13)
    assert clipped == (clip == 0.15)


def test_momentum_is_conserved():
    start = apart(12)
    _, v = simulate(start, [0, 5])
    np.testing.assert_allclose(v[:, 1].sum(axis=1), start.velocities.sum(axis=1), atol=1e-12)


def test_energy_is_conserved_and_its_error_falls_with_the_square_of_the_timestep():
    start = apart(6)
    errors = []
    for timestep, steps in ((4e-3, 500), (2e-3, 1000)):
        x, v = simulate(start, [1], timestep=timestep, steps_per_frame=steps)
        before = [energy(start.positions[i], start.velocities[i], start.charges[i]) for i in range(3)]
        errors.append(max(abs(energy(x[i, 0], v[i, 0], start.charges[i]) - before[i]) for i in range(3)))
    assert errors[0] < 1e-4
    assert 3.0 < errors[0] / errors[1] < 5.0


def test_backwards_in_time_leads_to_the_start():
    start = apart(8)
    x, v = simulate(start, [2])
    back, speed = simulate(NBodyStart(x[:, 0], -v[:, 0], start.charges), [2])
    np.testing.assert_allclose(back[:, 0], start.positions, atol=1e-11)
    np.testing.assert_allclose(speed[:, 0], -start.velocities, atol=1e-11)


def test_two_charges_on_a_circle_come_round():
    radius = 0.5
    speed = np.sqrt(1.0 / (4.0 * radius))  # v^2 / r = 1 / (2 r)^2
    places, speeds = [[radius, 0, 0], [-radius, 0, 0]], [[0, speed, 0], [0, -speed, 0]]
    start = NBodyStart(np.asarray([places]), np.asarray([speeds]), np.asarray([[1.0, -1.0]]))
    period = 2 * np.pi * radius / speed
    x, _ = simulate(start, [1], steps_per_frame=4000, timestep=period / 4000)
    np.testing.assert_allclose(x[0, 0], start.positions[0], atol=1e-5)


@pytest.mark.parametrize("n", [5, 20])
def test_a_trajectory_does_not_depend_on_the_others(n):
    many, few = draw_start("egnn", n, 1100 if n == 5 else 300, 3), draw_start("egnn", n, 2, 3)
    np.testing.assert_array_equal(many.positions[:2], few.positions)
    np.testing.assert_array_equal(many.charges[:2], few.charges)
    np.testing.assert_array_equal(
        simulate(many, [1], steps_per_frame=20)[0][:2], simulate(few, [1], steps_per_frame=20)[0]
    )


@pytest.mark.parametrize("protocol", NBODY_PROTOCOLS)
@pytest.mark.parametrize("n", [5, 50])
def test_starts_follow_the_protocol(protocol, n):
    start = draw_start(protocol, n, 4000 // n * 5, 11)
    spread = (n / 5) ** (1 / 3) + (0.1 if protocol == "hegnn" else 0.0)
    assert start.positions.std() == pytest.approx(spread, rel=0.02)
    np.testing.assert_allclose(np.linalg.norm(start.velocities, axis=-1), 0.5, rtol=1e-12)
    np.testing.assert_allclose(start.velocities.mean(axis=(0, 1)), 0.0, atol=0.02)
    assert set(np.unique(start.charges)) == {-1.0, 1.0}
    assert abs(start.charges.mean()) < 0.05


def test_large_systems_move():
    x, v = simulate(draw_start("hegnn", 100, 2, 1), [0, 1], steps_per_frame=5)
    assert x.shape == v.shape == (2, 2, 100, 3)
    assert np.isfinite(x).all()
    assert np.abs(x[:, 1] - x[:, 0]).max() > 1e-4


def test_seeds_and_parts_are_streams_of_their_own():
    one, same = make_nbody(NBodyOptions(**SMALL, seed=1)), make_nbody(NBodyOptions(**SMALL, seed=1))
    other = make_nbody(NBodyOptions(**SMALL, seed=2))
    more = make_nbody(NBodyOptions(**{**SMALL, "valid": 5}, seed=1))
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
    assert not np.isclose(one["positions"][:, 0], other["positions"][:, 0]).any()
    np.testing.assert_array_equal(one["positions"][-3:], more["positions"][-3:])
    assert len(np.unique(one["positions"][:, 0, 0, 0])) == 10


def test_only_the_test_part_of_hegnn_is_turned_and_rigidly():
    arrays = make_nbody(NBodyOptions(**SMALL, protocol="hegnn", seed=5))
    for part, size in ((0, 4), (1, 3), (2, 3)):
        plain, _ = simulate(start := draw_start("hegnn", 5, size, [5, part]), (0, 2, 3))
        found, speeds = (arrays[name][arrays["split"] == part] for name in ("positions", "velocities"))
        if part < 2:
            np.testing.assert_array_equal(found, plain)
            continue
        assert np.abs(found - plain).max(axis=(1, 2, 3)).min() > 0.1
        for row in range(size):  # one proper rotation for all frames, applied to velocities as well
            turn = np.linalg.lstsq(plain[row, 0], found[row, 0], rcond=None)[0]
            np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-10)
            assert np.linalg.det(turn) == pytest.approx(1.0)
            np.testing.assert_allclose(plain[row] @ turn, found[row], atol=1e-10)
            np.testing.assert_allclose(start.velocities[row] @ turn, speeds[row, 0], atol=1e-10)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nbody.npz"
    save_archive(path, make_nbody(NBodyOptions(train=4, valid=3, test=3, frames=(1, 3, 4), dtype="float64")))
    return path


def test_pairs_of_frames(file):
    arrays = np.load(file)
    samples = read_motion(file, part="valid", start=1, horizon=3)
    assert len(samples) == 3
    for row, sample in enumerate(samples, start=4):
        np.testing.assert_array_equal(sample.positions, arrays["positions"][row, 0])
        np.testing.assert_array_equal(sample.velocities, arrays["velocities"][row, 0])
        np.testing.assert_array_equal(sample.target_positions, arrays["positions"][row, 2])
        np.testing.assert_array_equal(sample.target_velocities, arrays["velocities"][row, 2])
        np.testing.assert_array_equal(sample.scalars[:, 0], arrays["charges"][row])
        assert sample.horizon == pytest.approx(0.3)
        assert sample.edges.shape == (2, 20)
        i, j = sample.edges
        assert (i != j).all()
        assert (np.diff(i) >= 0).all()
        np.testing.assert_array_equal(sample.edge_scalars[:, 0], sample.scalars[i, 0] * sample.scalars[j, 0])
        np.testing.assert_array_equal(sample.kinds, 1)
    assert [len(read_motion(file, part=part, start=1, horizon=2)) for part in ("train", "test", None)] == [4, 3, 10]
    assert len(read_motion(file, part="train", start=1, horizon=2, limit=2)) == 2


def test_nearest_neighbours(file):
    sample = read_motion(file, part="train", start=1, horizon=2, neighbors=2)[0]
    distance = np.linalg.norm(sample.positions[:, None] - sample.positions, axis=-1)
    edges = set(map(tuple, sample.edges.T.tolist()))
    wanted = {(i, int(j)) for i in range(5) for j in np.argsort(distance[i])[1:3]}
    assert edges == wanted | {(j, i) for i, j in wanted}
    assert len(edges) == sample.edges.shape[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"start": 30}, r"no frame 30; it holds the frames \[1, 3, 4\].*--frames 30,40"),
        ({"start": 1, "horizon": 1}, "no frame 2"),
        ({"start": 1, "horizon": 2, "neighbors": 5}, "neighbors = 5.*4 others"),
        ({"start": 1, "horizon": 0}, "horizon = 0"),
        ({"start": 1, "horizon": 2, "limit": 0}, "limit = 0"),
        ({"part": "validation"}, "unknown part 'validation'.*train, valid, test"),
        ({"format": "xyz"}, "unknown format 'xyz'.*nbody, md17"),
    ],
)
def test_unreadable_files_give_one_error(file, given, said):
    with pytest.raises(DatasetError, match=said):
        read_motion(file, **{"part": "train", **given})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("positions", np.nan, "trajectory 0, frames 1 and 3, atom 2: positions are not finite"),
        ("velocities", np.inf, "trajectory 0, frames 1 and 3, atom 2: velocities are not finite"),
        ("positions", None, "bodies 1 and 2 are at the same place"),
    ],
)
def test_broken_numbers_name_their_place(file, name, value, said):
    arrays = dict(np.load(file))
    arrays[name][0, 0, 2] = arrays[name][0, 0, 1] if value is None else value
    save_archive(file, arrays)
    with pytest.raises(DatasetError, match=said):
        read_motion(file, part="train", start=1, horizon=2)


def test_files_that_are_cut_or_do_not_fit(file, tmp_path):
    arrays = dict(np.load(file))
    save_archive(tmp_path / "odd.npz", {**arrays, "charges": arrays["charges"][:, :4]})
    with pytest.raises(DatasetError, match=r"'charges' has shape \[10, 4\], expected \[10, 5\]"):
        read_motion(tmp_path / "odd.npz", part="train")
    save_archive(tmp_path / "lacking.npz", {k: v for k, v in arrays.items() if k != "frames"})
    with pytest.raises(DatasetError, match="lacks the arrays"):
        read_motion(tmp_path / "lacking.npz", part="train")
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:2000])
    with pytest.raises(DatasetError, match="is it complete"):
        read_motion(tmp_path / "cut.npz", part="train")
    with pytest.raises(DatasetError, match="no such file"):
        read_motion(tmp_path / "none.npz", part="train")
    save_archive(tmp_path / "alone.npz", {**arrays, **{k: arrays[k][:, :, :1] for k in ("positions", "velocities")},
                                          "charges": arrays["charges"][:, :1]})  # fmt: skip
    with pytest.raises(DatasetError, match=r"1 body.*at least two"):
        read_motion(tmp_path / "alone.npz", part="train", start=1, horizon=2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"protocol": "nri"}, "unknown N-body protocol 'nri'.*egnn or hegnn"),
        ({"n_bodies": 1}, "at least 2"),
        ({"train": -1}, "train = -1"),
        ({"train": 0, "valid": 0, "test": 0}, "nothing to make"),
        ({"frames": (40, 30)}, "frames = 40,30.*rise"),
        ({"frames": ()}, "rise"),
        ({"seed": -1}, "seed = -1"),
        ({"dtype": "int8"}, "float32 or float64"),
    ],
)
def test_options_out_of_range(given, said):
    with pytest.raises(OptionError, match=said):
        NBodyOptions(**given)


def test_bodies_that_meet_are_told_and_nothing_else_warns():
    start = NBodyStart(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), np.ones((1, 2)))
    with pytest.raises(DatasetError, match="met at one point"):
        simulate(start, [1])
