"""Files of all earlier formats. `old/` contains small files as they were written then, with their results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from mlff_calc.datasets.motion import MotionSample
from mlff_calc.errors import PotentialFileError
from mlff_calc.networks import WEIGHTS, list_networks, read_header
from mlff_calc.networks.files import FORMAT_VERSION, fingerprints
from mlff_calc.networks.upgrades import UPGRADES
from mlff_calc.potential import evaluate_atoms, load_potential
from mlff_calc.propagator import load_propagator, motion_graph

OLD = Path(__file__).parent / "old"
EXPECTED = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
POSITIONS = np.array(EXPECTED["positions"])
POTENTIALS = ["v1_potential", "v2_potential", "v2_direct_forces", "v2_fixed_point", "v3_fixed_point"]


def outputs(folder: Path) -> dict[str, np.ndarray]:
    atoms = Atoms(EXPECTED["numbers"], POSITIONS)
    return evaluate_atoms(load_potential(folder), [atoms])


@pytest.mark.parametrize("name", POTENTIALS)
def test_old_potentials_give_the_same_results(name: str, tmp_path: Path) -> None:
    found = outputs(OLD / name)
    again = outputs(load_potential(OLD / name).save(tmp_path / name))
    for key, expected in EXPECTED[name].items():
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=1e-6 * np.abs(expected).max(), err_msg=key)
        np.testing.assert_array_equal(again[key], found[key], err_msg=key)
    assert read_header(tmp_path / name)["format_version"] == FORMAT_VERSION


def test_old_propagators_give_the_same_results(tmp_path: Path) -> None:
    expected = EXPECTED["v2_propagator"]
    sample = MotionSample(
        positions=POSITIONS,
        velocities=np.array(expected["velocities_in"]),
        kinds=np.array([8, 1, 1]),
        scalars=np.array([[0.4], [-1.0], [0.3]]),
        edges=np.array([[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]),
        edge_scalars=np.array([[1.0], [1.0], [1.0], [2.0], [1.0], [2.0]]),
        horizon=0.5,
        target_positions=POSITIONS,
        target_velocities=None,
        place="water",
    )
    found = load_propagator(OLD / "v2_propagator")(motion_graph(sample))
    again = load_propagator(load_propagator(OLD / "v2_propagator").save(tmp_path / "p"))(motion_graph(sample))
    for key in ("positions", "velocities"):
        np.testing.assert_allclose(found[key].detach().numpy(), expected[key], rtol=0, atol=1e-6, err_msg=key)
        assert torch.equal(found[key], again[key])


def test_old_headers_are_read_as_those_of_today() -> None:
    kinds = {entry.name: entry.kind for entry in list_networks(OLD)}
    assert kinds == dict.fromkeys(POTENTIALS, "potential") | {"v2_propagator": "propagator"}
    assert read_header(OLD / "v2_potential")["domain"]["neighbors"] == [1, 4]
    with pytest.raises(PotentialFileError, match="holds a propagator, not a potential; use load_propagator"):
        load_potential(OLD / "v2_propagator")
    with pytest.raises(PotentialFileError, match="holds a potential, not a propagator; use load_potential"):
        load_propagator(OLD / "v1_potential")


def test_every_step_has_an_upgrade_and_an_old_file() -> None:
    assert list(UPGRADES) == list(range(1, FORMAT_VERSION))
    assert {int(entry.name[1]) for entry in list_networks(OLD)} == set(UPGRADES)


def test_an_old_file_is_checked_as_it_was_written(tmp_path: Path) -> None:
    """The checksum covers header and tensors as they are in the file, before they are upgraded."""
    shutil.copytree(OLD / "v2_potential", tmp_path / "p")
    data = bytearray((tmp_path / "p" / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (tmp_path / "p" / WEIGHTS).write_bytes(data)
    with pytest.raises(PotentialFileError, match="does not match its checksum"):
        load_potential(tmp_path / "p")


def test_a_file_of_format_2_is_known_by_its_checksum_of_format_1() -> None:
    assert [len(fingerprints(OLD / name)) for name in POTENTIALS] == [1, 2, 2, 2, 1]
