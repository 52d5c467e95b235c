"""Exported and compiled steps of shadow dynamics do what the calculator does in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from mlff_calc import MLFFCalculator
from mlff_calc.calculators.shadow import Shadow
from mlff_calc.calculators.stepping import stepping_of
from mlff_calc.errors import OptionError
from mlff_calc.export import ExportedPotential, Stepping, compile_potential, export_potential, load_exported
from mlff_calc.fixed_point.warm_start import WarmStart
from mlff_calc.graph import graph_from_atoms
from mlff_calc.heads.fields import START_FIELDS
from mlff_calc.potential import Potential, build_potential
from mlff_calc.potential.engine import COLD, CONTINUE, PREDICT
from mlff_calc.potential.fixed_point_step import StepSizes
from mlff_calc.potential.shadow import ShadowSizes, ShadowStep
from mlff_calc.potential.shadow_engine import AGAIN


def make(fields: bool = True) -> Potential:
    backbone = {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 1}
    config = {"backbone": backbone, "elements": ["H", "C", "O"], "fields": {"bound": 3.0} if fields else None}
    return build_potential(config, seed=3)


def motion(n: int) -> list[Atoms]:
    """Ethanol whose atoms move smoothly in time, as in a trajectory."""
    start, generator = molecule("CH3CH2OH"), np.random.default_rng(0)
    sizes, phases = generator.normal(scale=0.1, size=(9, 3)), generator.uniform(0, 6, size=(9, 3))
    frames = []
    for k in range(n):
        atoms = start.copy()
        atoms.positions += sizes * np.sin(0.1 * k + phases)
        frames.append(atoms)
    return frames


class Engine:
    """Drive a file like `pair_style mlff`."""

    def __init__(self, exported: ExportedPotential) -> None:
        self.exported, self.facts, self.mode = exported, exported.metadata.fixed_point or {}, COLD
        self.memory = torch.zeros(9, self.facts["slots"], self.facts["width"], dtype=torch.float64)
        self.calls: list[int] = []

    def energy(self, atoms: Atoms) -> float:
        inputs = self.exported._inputs(graph_from_atoms(atoms, self.exported.cutoff))
        mode, self.mode = self.mode, PREDICT
        tolerance = self.facts["cold_tolerance" if mode == COLD else "tolerance"]
        warm, residuals = WarmStart.of_record(self.facts), []
        self.calls.append(0)
        while True:
            self.calls[-1] += 1
            control = torch.tensor([mode, 0.0, 0.0, tolerance], dtype=torch.float64)
            out = self.exported._call({**inputs, "memory": self.memory, "control": control})
            self.memory, mode = out["memory"], CONTINUE
            residuals.append(float(out["residuals"].max()))
            if residuals[-1] < tolerance:
                break
            assert warm.goes_on(residuals, cold=False)
        return float(out["energies"].sum())


@pytest.mark.parametrize("shadow", [Shadow(), Shadow(products=2, dissipation=3)], ids=["one", "two"])
def test_an_engine_does_what_the_calculator_does(tmp_path: Path, shadow: Shadow) -> None:
    potential = make()
    stepping = stepping_of(shadow, potential)
    record = export_potential(
        potential, tmp_path / "s.pt", to="lammps", precision="float64", stepping=stepping
    ).fixed_point
    assert record is not None
    assert (record["n_forward"], record["n_adjoint"], record["width"]) == (shadow.products, 0, 16)
    engine, atoms, found = Engine(load_exported(tmp_path / "s.pt")), molecule("CH3CH2OH"), []
    atoms.calc = MLFFCalculator(potential, precision="float64", domain="off", reuse=shadow)
    for frame in motion(40):
        atoms.positions = frame.positions
        found.append((atoms.get_potential_energy(), engine.energy(frame)))
    ours, theirs = np.array(found).T
    known = atoms.calc.stats.n_cold
    assert known == shadow.dissipation + 1
    assert min(engine.calls[:known]) > 5
    assert set(engine.calls[known:]) == {1}
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    assert np.ptp(ours) > 1e-2


def test_the_same_structure_again_changes_nothing(tmp_path: Path) -> None:
    """LAMMPS computes the last structure again where a run begins."""
    potential = make()
    export_potential(
        potential, tmp_path / "s.pt", to="lammps", precision="float64", stepping=stepping_of("shadow", potential)
    )
    engine, other = Engine(load_exported(tmp_path / "s.pt")), Engine(load_exported(tmp_path / "s.pt"))
    for number, frame in enumerate(motion(20)):
        energy = engine.energy(frame)
        if number > 8:
            engine.mode = AGAIN
            assert engine.energy(frame) == pytest.approx(energy, abs=1e-12)
        assert other.energy(frame) == pytest.approx(energy, abs=1e-12)
    assert set(engine.calls[8:]) == {1}


def test_a_step_above_the_limit_begins_a_new_history(tmp_path: Path) -> None:
    potential, shadow = make(), Shadow(limit=3e-3)
    export_potential(
        potential, tmp_path / "s.pt", to="lammps", precision="float64", stepping=stepping_of(shadow, potential)
    )
    engine, atoms, found = Engine(load_exported(tmp_path / "s.pt")), molecule("CH3CH2OH"), []
    atoms.calc = MLFFCalculator(potential, precision="float64", domain="off", reuse=shadow)
    frames = motion(41)
    for frame in [*frames[:20], *frames[21:]]:
        atoms.positions = frame.positions
        found.append((atoms.get_potential_energy(), engine.energy(frame)))
    assert atoms.calc.stats.n_retries == 1
    assert [k for k, calls in enumerate(engine.calls) if calls > 1] == [*range(6), *range(20, 26)]
    np.testing.assert_allclose(*np.array(found).T, rtol=0, atol=1e-10)


def test_python_solves_the_fields_of_such_a_file(tmp_path: Path) -> None:
    """A single call has no history: the fields are solved, as those of the calculator's first step."""
    potential = make()
    export_potential(
        potential, tmp_path / "s.pt", to="torchscript", precision="float64", stepping=stepping_of("shadow", potential)
    )
    frame = motion(1)[0]
    frame.calc = MLFFCalculator(potential, precision="float64", domain="off", reuse="shadow")
    solved = load_exported(tmp_path / "s.pt")(graph_from_atoms(frame, 4.0))
    assert float(solved["energy"]) == pytest.approx(frame.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(solved["forces"], frame.get_forces(), rtol=0, atol=1e-8)


def test_without_shadow_the_file_has_no_memory(tmp_path: Path) -> None:
    potential = make()
    assert stepping_of("auto", potential) is None
    record = export_potential(potential, tmp_path / "c.pt", to="lammps", precision="float64")
    assert record.fixed_point is None
    assert (record.n_layers, record.exchange_width) == (5, 33)


def test_shadow_needs_fields(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="reuse='shadow' needs a potential with fields"):
        stepping_of("shadow", make(fields=False))
    stepping, without = stepping_of("shadow", make()), make(fields=False)
    with pytest.raises(OptionError, match="steps of shadow dynamics are for potentials with fields"):
        export_potential(without, tmp_path / "s.pt", to="lammps", stepping=stepping)
    other, potential = Stepping(StepSizes(2, 2, 4, 4), 1e-3, 1e-8, 1e-6), make()
    with pytest.raises(OptionError, match="stepping is for potentials on a fixed point"):
        export_potential(potential, tmp_path / "s.pt", to="lammps", stepping=other)
    assert not list(tmp_path.iterdir())


def test_a_compiled_step(tmp_path: Path) -> None:
    potential = make().eval()
    compiled = compile_potential(potential, step=ShadowSizes(1), cache_dir=tmp_path)
    step = ShadowStep(potential.to_precision("float32").eval(), ShadowSizes(1))
    graph = graph_from_atoms(motion(1)[0], 4.0)
    graph[START_FIELDS] = 0.3 * torch.randn(9, 4, 4, generator=torch.Generator().manual_seed(0))
    found, expected = compiled(graph), step(graph)
    for name in ("energy", "forces", "fields", "fields_residual"):
        torch.testing.assert_close(found[name], expected[name].detach(), rtol=1e-4, atol=1e-5)
