"""Shadow dynamics in LAMMPS: fields migrate with atoms, and one product a step suffices, on any number of ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.calculators.stepping import stepping_of
from mlff_calc.export import export_potential
from mlff_calc.potential import Potential, build_potential

from .conftest import HEAD, Engine
from .test_dynamics import DYNAMICS, EXTRA, crystal, evaluations, frames, moving

pytestmark = pytest.mark.lammps

KNOWN = 6  # steps that the rule needs
N_STEPS = 20


def small_fields() -> Potential:
    """Make a potential of silicon whose fields carry a part of its energy."""
    backbone = {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 1, "avg_num_neighbors": 16.0}
    config = {"backbone": backbone, "elements": ["Si"], "repulsion": {"name": "zbl", "reach": 1.0}, "fields": {}}
    potential = build_potential(config, seed=3)
    assert potential.fields is not None
    potential.fields.source.weight.data *= 2.0
    return potential.to_precision("float64").eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, potential = tmp_path_factory.mktemp("fields") / "fields.pt", small_fields()
    export_potential(potential, path, to="lammps", stepping=stepping_of("shadow", potential))
    return path


@pytest.mark.parametrize("n_ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_are_as_one_and_as_the_calculator(engine: Engine, exported: Path, n_ranks: int) -> None:
    dump = "dump d all custom 1 all.dump id xu yu zu\ndump_modify d sort id format float %.16g\n"
    text = moving(engine, exported) + dump + f"#RUN\nrun {N_STEPS}\nundump d\n"
    one, more = engine.run(text, 1, extra=EXTRA), engine.run(text, n_ranks, extra=EXTRA)
    np.testing.assert_array_equal(evaluations(more), evaluations(one))
    np.testing.assert_allclose(more.thermo["PotEng"], one.thermo["PotEng"], rtol=0, atol=1e-9)
    assert (evaluations(one)[:KNOWN, 0] > 5).all()
    assert (evaluations(one)[KNOWN:, 0] == 1).all()
    assert (evaluations(one)[:, 1] == 0).all()
    assert (one.thermo["c_c[5]"] == 1).all()
    atoms, potential = crystal(), small_fields()
    atoms.calc = MLFFCalculator(potential, precision="float64", device="cpu", reuse="shadow", domain="off")
    solved = atoms.copy()
    solved.calc = MLFFCalculator(potential, precision="float64", device="cpu", domain="off")
    ours = []
    for rows in frames(engine.folder / "all.dump", 64):
        atoms.positions = solved.positions = rows[:, 1:4]
        ours.append((atoms.get_potential_energy(), solved.get_potential_energy()))
    shadow, three = np.array(ours).T
    np.testing.assert_allclose(one.thermo["PotEng"], shadow, rtol=0, atol=1e-8)
    assert np.abs(shadow - three).max() > 1e-7  # the shadow energy is another one than that of three products
    kept = np.ptp(one.thermo["TotEng"])
    assert kept < 0.05 * np.ptp(one.thermo["PotEng"])


def test_a_restart_goes_on_with_the_fields(engine: Engine, exported: Path) -> None:
    first = engine.run(moving(engine, exported) + "#RUN\nrun 20\n", 2, extra=EXTRA)
    engine.run(moving(engine, exported) + "#RUN\nrun 10\nwrite_restart half.restart\n", 2, extra=EXTRA)
    style = f"pair_style mlff\npair_coeff * * {exported} Si\n"
    rest = engine.run(f"{HEAD}read_restart half.restart\n{style}{DYNAMICS}#RUN\nrun 10\n", 2, extra=EXTRA)
    np.testing.assert_allclose(rest.thermo["PotEng"], first.thermo["PotEng"][-11:], rtol=0, atol=1e-9)
    assert (evaluations(rest)[:, 0] == 1).all()


def test_minimizations_are_refused(engine: Engine, exported: Path) -> None:
    said = engine.refusal(moving(engine, exported) + "minimize 0 1e-3 10 10\n")
    assert "holds shadow dynamics, which follows a motion in time, and minimize has none" in said
