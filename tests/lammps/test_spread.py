"""Potentials with heads of errors and a threshold: `pair_style mlff` compares, warns once, counts, and stops if asked to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.export import export_potential, read_metadata
from mlff_calc.graph import graph_from_atoms
from mlff_calc.graph.domain import SPREAD, domain_of
from mlff_calc.potential import Potential, build_potential

from .conftest import Engine, noble, setup, write_data
from .models import LennardJones, metadata, save

pytestmark = pytest.mark.lammps

STYLE = "pair_style mlff"
MOVED = "group one id 5\ndisplace_atoms one move 1.5 1.5 0.0\n"
"""Moves the fifth atom next to another."""


def potential_of(threshold: float | None) -> Potential:
    """Make a tiny potential whose spreads grow where an atom has surroundings unlike the others."""
    backbone = {"name": "hegnn", "cutoff": 4.5, "l_max": 1, "channels": 4, "n_layers": 1}
    potential = build_potential({"backbone": backbone, "elements": ["Ar", "Ne"], "uncertainty": {}}, seed=3)
    potential = potential.to_precision("float64").eval()
    for head in potential.error_heads:
        head.seen = []
        potential(graph_from_atoms(noble((2, 2, 2)), 4.5))
        head.distance.measure(*head.seen[0])
        head.seen = None
    potential.domain = domain_of([noble((2, 2, 2))], 4.5) | ({} if threshold is None else {SPREAD: threshold})
    return potential


def spreads(moved: bool) -> np.ndarray:
    """Lengths of the spreads in Python [n_atoms], eV/Angstrom."""
    atoms: Atoms = noble((2, 2, 2))
    atoms.positions[4, :2] += 1.5 * moved
    calculator = MLFFCalculator(potential_of(None), precision="float64", device="cpu", domain="off")
    return np.linalg.norm(calculator.evaluate(atoms)["forces_std"], axis=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with a threshold below all spreads, with one between those of both structures, and without."""
    folder = tmp_path_factory.mktemp("spread")
    calm, wild = spreads(False).max(), spreads(True).max()
    assert wild > 1.1 * calm
    thresholds = {"low": 0.5 * calm, "middle": (calm * wild) ** 0.5, "none": None}
    for name, threshold in thresholds.items():
        export_potential(potential_of(threshold), folder / f"{name}.pt", to="lammps")
    return {name: folder / f"{name}.pt" for name in thresholds}


def said_of(engine: Engine, style: str, file: Path, runs: str, n_ranks: int = 1) -> list[str]:
    """Run LAMMPS, and return what the pair style says."""
    write_data(noble((2, 2, 2)), engine.folder / "atoms.data", [18, 10])
    status, said = engine.start(setup(style, str(file)) + "fix 1 all nve\ntimestep 1e-5\n" + runs, n_ranks)
    assert status == 0, said[-2000:]
    return [line for line in said.splitlines() if "pair mlff:" in line]


@pytest.mark.parametrize(("style", "n_ranks"), [(STYLE, 1), (STYLE, 2), (f"{STYLE} domain warn ghosts", 2)])
def test_one_warning_and_a_count_for_each_run(
    engine: Engine, files: dict[str, Path], style: str, n_ranks: int
) -> None:
    said = said_of(engine, style, files["middle"], f"run 2\n{MOVED}run 2\nrun 1\n", n_ranks)
    found = spreads(True)
    assert len(said) == 3
    assert said[0].startswith("WARNING: pair mlff: step 2 is outside of what")
    assert f"spread of the force on atom {found.argmax() + 1} is {found.max():.3g} eV/Angstrom" in said[0]
    threshold = read_metadata(files["middle"]).domain["forces_std"]
    assert f"trusted up to {threshold:.3g}" in said[0]
    assert said[1].startswith("Note: ")
    assert said[1].endswith("in 3 of 3 calculations")
    assert said[2].endswith("in 2 of 2 calculations")


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_stop(engine: Engine, files: dict[str, Path], n_ranks: int) -> None:
    write_data(noble((2, 2, 2)), engine.folder / "atoms.data", [18, 10])
    text = setup(f"{STYLE} domain stop", str(files["middle"]))
    status, said = engine.start(f"{text}run 0\n", n_ranks)
    assert status == 0, said[-2000:]
    said = engine.refusal(f"{text}run 0\n{MOVED}run 0\n", n_ranks)
    assert "pair mlff: step 0 is outside of what" in said
    assert f"on atom {spreads(True).argmax() + 1} is" in said


def test_off_is_silent(engine: Engine, files: dict[str, Path]) -> None:
    assert said_of(engine, f"{STYLE} domain off", files["low"], "run 1\n") == []
    assert len(said_of(engine, STYLE, files["low"], "run 1\n")) == 2


def test_atoms_of_other_styles_do_not_count(engine: Engine, files: dict[str, Path]) -> None:
    """The moved atom is of the second type here."""
    style = "pair_style hybrid/overlay lj/cut 4.0 mlff\npair_coeff * * lj/cut 0.001 1.0\n"
    style += f"pair_coeff * * mlff {files['low']} Ar"
    write_data(noble((2, 2, 2)), engine.folder / "atoms.data", [18, 10])
    head = setup("", "").split("\npair_coeff")[0]
    status, said = engine.start(f"{head}\n{style} NULL\nrun 0\n")
    assert status == 0, said[-2000:]
    warning = next(line for line in said.splitlines() if "pair mlff: step 0" in line)
    tag = int(warning.split("on atom ")[1].split()[0])
    assert noble((2, 2, 2)).numbers[tag - 1] == 18
    assert "in 1 of 1 calculations" in said  # LAMMPS's hybrid passes on the end of a run


def test_without_a_threshold_all_is_as_before(engine: Engine, files: dict[str, Path]) -> None:
    assert read_metadata(files["none"]).outputs == ["energies", "forces", "atomic_virial"]
    assert read_metadata(files["low"]).outputs == ["energies", "forces", "atomic_virial", "forces_std"]
    assert said_of(engine, STYLE, files["none"], "run 1\n") == []
    assert said_of(engine, f"{STYLE} domain warn", files["none"], "run 0\n") == []
    energies = [
        engine.run(setup(f"{STYLE} domain off", str(files[name])) + "#RUN\nrun 0\n").energy for name in ("none", "low")
    ]
    assert energies[0] == energies[1]


def test_a_file_with_a_threshold_and_no_spreads(engine: Engine) -> None:
    """Earlier versions wrote such files."""
    file = engine.folder / "old.pt"
    save(LennardJones(0.0104, 3.4, 8.0), file, metadata(8.0, 1, domain={"cutoff": 8.0, "forces_std": 0.1}))
    said = said_of(engine, STYLE, Path(file.name), "run 0\n")
    assert len(said) == 1
    end = "old.pt has a threshold for spreads of forces and no spreads to compare with it; export it again"
    assert said[0].endswith(end)
    assert said_of(engine, f"{STYLE} domain off", Path(file.name), "run 0\n") == []
    said = engine.refusal(setup(f"{STYLE} domain stop", file.name))
    assert "old.pt was exported without the spreads to compare with its threshold: export it again" in said


def test_spreads_that_break_their_promise(engine: Engine) -> None:
    write_data(noble((2, 2, 2)), engine.folder / "atoms.data", [18, 10])
    zero = "threshold for spreads of forces is not above zero"
    for domain, message in (({"forces_std": 0.0}, zero), (None, "gives 3 outputs")):
        facts = metadata(8.0, 1, domain=domain, outputs=["energies", "forces", "atomic_virial", "forces_std"])
        save(LennardJones(0.0104, 3.4, 8.0), engine.folder / "bad.pt", facts)
        assert message in engine.refusal(f"{setup(STYLE, 'bad.pt')}run 0\n")
