"""Weights of frames: products of the weight of their type in the recipe and their own weight."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

from mlff_calc.datasets import Sample, read_structures
from mlff_calc.datasets.weights import frame_weights, refuse_unknown_types, weight_lines
from mlff_calc.errors import DatasetError


def sample(config_type: str = "", **stated: object) -> Sample:
    return Sample(Atoms("Cu"), config_type=config_type, path=Path("a.extxyz"), frame=4, stated_weights=stated)


def test_factors_multiply() -> None:
    by_type = {"surface": 4.0, "Default": 0.5}
    stated = {"config_weight": 2, "config_energy_weight": 0.25, "config_forces_weight": 0.0, "config_stress_weight": 3.0}
    assert frame_weights(sample("surface", **stated), by_type) == {"energy": 2.0, "forces": 0.0, "stress": 24.0}
    assert frame_weights(sample("surface", **stated), by_type, stated=False) == dict.fromkeys(
        ("energy", "forces", "stress"), 4.0
    )
    assert frame_weights(sample(config_weight=np.int64(3)), by_type)["energy"] == 1.5
    assert frame_weights(sample("bulk"), by_type) == {"energy": 1.0, "forces": 1.0, "stress": 1.0}
    assert frame_weights(sample("bulk", config_virials_weight=np.array([7.0])), {})["stress"] == 7.0
    both = {"config_virials_weight": 7.0, "config_stress_weight": 7}
    assert frame_weights(sample(**both), {})["stress"] == 7.0
    with pytest.raises(DatasetError, match="config_stress_weight=2 and config_virials_weight=7 are two weights of one"):
        frame_weights(sample(**both | {"config_stress_weight": 2}), {})


@pytest.mark.parametrize("written", ["-1", "nan", "inf", "-inf", "high", "T", '"1 2 3"', "1e7", "1+2j", "_JSON {\"a\":1}"])
@pytest.mark.parametrize("name", ["config_weight", "config_energy_weight", "config_forces_weight", "config_stress_weight"])
def test_errors_of_invalid_weights_name_value_and_frame(tmp_path: Path, name: str, written: str) -> None:
    frame = '1\nProperties=species:S:1:pos:R:3 {} pbc="F F F"\nCu 0 0 0\n'
    quoted = f"'{written}'" if written.startswith("_JSON") else written
    (tmp_path / "a.extxyz").write_text(frame.format(f"{name}=2.5") + frame.format(f"{name}={quoted}"))
    good, bad = read_structures(tmp_path / "a.extxyz")
    assert 2.5 in frame_weights(good, {}).values()
    with pytest.raises(DatasetError, match=rf"a\.extxyz, frame 1: {name} is .*, which is not a valid weight"):
        frame_weights(bad, {})
    assert frame_weights(bad, {}, stated=False)["energy"] == 1.0


def test_weights_survive_every_format(tmp_path: Path) -> None:
    atoms = Atoms("Cu", info={"config_weight": 0.5, "config_type": "one"})
    for name in ("a.extxyz", "a.traj", "a.xyz.gz"):
        ase.io.write(tmp_path / name, [atoms, Atoms("Cu")])
        weights = [frame_weights(found, {"one": 3.0})["forces"] for found in read_structures(tmp_path / name)]
        assert weights == [1.5, 1.0]


def test_types_that_no_frame_has_are_refused() -> None:
    frames = [sample("surface"), sample("bulk"), sample("3")]
    refuse_unknown_types({"bulk": 1.0, "Default": 2.0, "3": 1.0}, frames, "r: loss.config_weights")
    with pytest.raises(DatasetError, match=r"r: loss\.config_weights names 'surfce', .* did you mean 'surface'\? There are"):
        refuse_unknown_types({"surfce": 1.0}, frames, "r: loss.config_weights")


def test_lines_name_spans() -> None:
    frames = [sample("surface"), sample("surface", config_forces_weight=0.5), sample()]
    weights = [frame_weights(one, {"surface": 4.0}) for one in frames]
    assert weight_lines(frames, weights) == [
        "Default: 1 frames, energy 1, forces 1, stress 1",
        "surface: 2 frames, energy 4, forces 2 to 4, stress 4",
    ]
