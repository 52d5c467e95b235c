"""Heads of errors in recorded graphs and exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from mlff_calc import MLFFCalculator
from mlff_calc.calculators.stepping import stepping_of
from mlff_calc.errors import SimulationError
from mlff_calc.export import ExportedPotential, compile_potential, export_potential, load_exported, read_metadata
from mlff_calc.export.trace import INPUTS, trace_for_training
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.graph.domain import SPREAD, domain_of
from mlff_calc.potential import Potential, build_potential
from mlff_calc.potential.engine import COLD, CONTINUE


def potential_of(**uncertainty: object) -> Potential:
    config = {
        "backbone": {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 1},
        "elements": ["H", "C", "O"],
        "uncertainty": uncertainty,
    }
    potential = build_potential(config, seed=3).to_precision("float64").eval()
    for head in potential.error_heads:
        head.distance.measure(torch.randn(40, 8, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 3)
    return potential


def batch(potential: Potential, *names: str) -> dict[str, torch.Tensor]:
    return collate([graph_from_atoms(molecule(name), potential.cutoff) for name in names])


def evaluated(potential: Potential | ExportedPotential, atoms: Atoms) -> dict[str, Any]:
    return MLFFCalculator(potential, precision="float64", device="cpu").evaluate(atoms)


def test_torchscript_gives_deviations_and_lammps_has_none_without_a_threshold(tmp_path: Path) -> None:
    potential = potential_of()
    export_potential(potential, tmp_path / "one.pt")
    loaded = load_exported(tmp_path / "one.pt")
    assert loaded.uncertainties == ("energy_std", "forces_std")
    for atoms in (molecule("CH3CH2OH"), Atoms("O")):  # a lone atom gets two companions that do not count
        expected, found = (evaluated(one, atoms) for one in (potential, loaded))
        for name in ("energy", "energy_std", "forces_std"):
            assert found[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-12)
    export_potential(potential, tmp_path / "lammps.pt", to="lammps")
    assert read_metadata(tmp_path / "lammps.pt").outputs == ["energies", "forces", "atomic_virial"]
    assert "energy_std" not in evaluated(load_exported(tmp_path / "lammps.pt"), molecule("H2O"))


def test_files_for_lammps_give_deviations_of_forces_where_there_is_a_threshold(tmp_path: Path) -> None:
    potential, atoms = potential_of(), molecule("CH3CH2OH")
    potential.domain = domain_of([atoms], potential.cutoff) | {SPREAD: 1e-6}
    export_potential(potential, tmp_path / "lammps.pt", to="lammps")
    loaded = load_exported(tmp_path / "lammps.pt")
    assert loaded.uncertainties == ("forces_std",)
    calculator = MLFFCalculator(loaded, precision="float64", device="cpu", domain="stop")
    with pytest.raises(SimulationError, match="spread of the force"):  # in Python too
        calculator.evaluate(atoms)
    calculator.set(domain="off")
    found, expected = calculator.evaluate(atoms), potential(batch(potential, "CH3CH2OH"))
    assert "energy_std" not in found
    assert found["forces_std"] == pytest.approx(expected["forces_std"].numpy(), rel=1e-9)


def test_steps_on_a_fixed_point_give_deviations() -> None:
    backbone = {"name": "deq", "block": "equiformer", "prelude": 0, "cutoff": 4.0, "l_max": 1, "channels": 4, "heads": 2}
    config = {"backbone": backbone, "elements": ["H", "O"], "uncertainty": {}}
    potential = build_potential(config, seed=7).to_precision("float64").eval()
    stepping = stepping_of("conservative", potential)
    step, graph = stepping.engine(potential), graph_from_atoms(molecule("H2O"), potential.cutoff)
    memory = torch.zeros(3, step.slots, step.width, dtype=torch.float64)
    for mode in (COLD, *[CONTINUE] * 9):
        control = torch.tensor([mode, stepping.fit_ridge, stepping.ridge, 0.0], dtype=torch.float64)
        found = step({**graph, "memory": memory, "control": control})
        memory = found["memory"]
    expected = potential(graph)
    for name in ("energy_std", "forces_std"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("detach", [True, False])
def test_records_of_training_stop_gradients_where_the_potential_does(detach: bool) -> None:
    potential = potential_of(detach=detach).train()
    graph = batch(potential, "CH3CH2OH", "H2O")
    traced, parameters, numbers, names = trace_for_training(potential, graph)
    found = dict(zip(names, traced(*parameters, *numbers, *[graph[key] for key in INPUTS]), strict=True))
    sums = []
    for out in (potential(graph), found):
        loss = out["energy_error_logits"].square().sum() + out["force_error_logits"].square().sum() + out["energy"].sum()
        sums.append(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))
    for eager, own in zip(*sums, strict=True):
        torch.testing.assert_close(own, eager, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_compiled_potentials_give_deviations(tmp_path: Path) -> None:
    potential = potential_of()
    compiled = compile_potential(potential, cache_dir=tmp_path)
    graph = batch(potential, "CH3CH2OH", "H2O")
    expected, found = potential(graph), compiled(graph)
    for name in ("energy", "energy_std", "forces_std"):
        torch.testing.assert_close(found[name], expected[name])
