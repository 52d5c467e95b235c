"""AOTInductor files in LAMMPS give the forces of the TorchScript file of the same potential, on one and two ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk

from mlff_calc.export import Stepping, export_potential
from mlff_calc.potential import build_potential
from mlff_calc.potential.fixed_point_step import StepSizes

from .conftest import Engine, setup, write_data

pytestmark = [pytest.mark.lammps, pytest.mark.slow]

OPTIONS = {"equiformer": {"n_layers": 2}, "deq": {"tolerance": 1e-12}}
STEPPING = Stepping(StepSizes(2, 2, 2, 2), tolerance=1e-12, fit_ridge=1e-7, ridge=1e-6)


@pytest.fixture(scope="module", params=OPTIONS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Export a small potential with random weights in the format of the given suffix."""
    name = request.param
    backbone = {"name": name, "cutoff": 4.5, "l_max": 1, "channels": 8, **OPTIONS[name]}
    config = {"backbone": backbone, "elements": ["Si"], "repulsion": {"name": "zbl", "reach": 1.0}}
    potential = build_potential(config, seed=3).to_precision("float64").eval()
    if name == "deq":  # the map of a new network need not be contractive
        with torch.no_grad():
            potential.backbone.map.scale(0.3)
    folder, stepping = tmp_path_factory.mktemp(name), STEPPING if name == "deq" else None
    files = {suffix: folder / f"{name}{suffix}" for suffix in (".pt", ".pt2")}
    for file in files.values():
        export_potential(potential, file, to="lammps", stepping=stepping)
    return files


def test_both_kinds_of_file_give_the_same(engine: Engine, exported: dict[str, Path]) -> None:
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    atoms.positions += np.random.default_rng(8).normal(scale=0.05, size=(len(atoms), 3))
    write_data(atoms, engine.folder / "atoms.data", [14], temperature_K=300.0)
    run = "fix 1 all nve\ntimestep 0.0005\nthermo 1\n#RUN\nrun 5\n"
    expected = engine.run(setup("pair_style mlff", str(exported[".pt"]), ["Si"]) + run)
    assert np.abs(expected.forces).max() > 1e-3
    for suffix, n_ranks in ((".pt", 2), (".pt2", 1), (".pt2", 2)):
        found = engine.run(setup("pair_style mlff", str(exported[suffix]), ["Si"]) + run, n_ranks)
        assert np.abs(found.forces - expected.forces).max() < 1e-9
        np.testing.assert_allclose(found.thermo["PotEng"], expected.thermo["PotEng"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(
            found.pressures, expected.pressures, rtol=0, atol=1e-6 * np.abs(expected.pressures).max()
        )
