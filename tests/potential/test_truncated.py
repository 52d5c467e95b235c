"""A fixed-point potential truncated after K evaluations, an explicit and conservative potential with the same weights."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.errors import OptionError
from mlff_calc.export import compile_potential
from mlff_calc.export.cache import cache_key
from mlff_calc.graph import graph_from_atoms
from mlff_calc.potential import Potential, build_potential
from mlff_calc.potential.truncated import truncate

BACKBONE = {
    "name": "deq", "block": "equiformer", "prelude": 0,
    "channels": 4,
    "heads": 2,
    "l_max": 1,
    "cutoff": 4.0,
    "feedback": 0.1,  # with the default, random weights are hardly contractive
    "tolerance": 1e-10,
    "max_evaluations": 80,
}


def make(precision: str = "float64", **options: object) -> Potential:
    config = {"backbone": BACKBONE, "elements": ["H", "C", "O", "Si"], "repulsion": {"name": "zbl"}, **options}
    potential = build_potential(config, seed=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)  # of a map that contracts fast
        for parameter in potential.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return potential.eval().to_precision(precision)


@pytest.fixture(scope="module")
def potential() -> Potential:
    return make()


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=3)
    return atoms


def test_the_energy_is_read_off_the_last_evaluation(potential: Potential) -> None:
    graph = graph_from_atoms(ethanol(), potential.cutoff)
    inputs = potential.inputs(graph, graph["edge_vec"])
    prepared = potential.backbone.prepare(inputs)
    state = prepared[0]
    for n_evaluations in (1, 2, 3):
        state = potential.backbone.evaluate(state, graph["edge_index"], prepared)
        inputs["energies"] = potential.read(inputs, state)
        expected = potential.repulsion(inputs)["energies"].sum().item()
        assert truncate(potential, n_evaluations)(graph)["energy"].item() == pytest.approx(expected, abs=1e-12)


def test_forces_and_stress_are_derivatives_of_the_energy(potential: Potential) -> None:
    calculator = MLFFCalculator(truncate(potential, 2), device="cpu", precision="float64")
    atoms = bulk("SiC", "zincblende", a=4.36)
    atoms.rattle(0.2, seed=4)
    atoms.calc = calculator
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    found = np.empty_like(forces)
    h = 1e-4
    for i, k in np.ndindex(*forces.shape):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, k] += sign * h
            energies.append(calculator.evaluate(moved)["energy"])
        found[i, k] = (energies[1] - energies[0]) / (2 * h)
    assert np.abs(forces).max() > 5e-3  # so the comparison is meaningful
    np.testing.assert_allclose(forces, found, atol=1e-7)
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * h * np.diag([1.0, 0, 0])), scale_atoms=True)
        energies.append(calculator.evaluate(strained)["energy"])
    assert stress[0, 0] == pytest.approx((energies[0] - energies[1]) / (2 * h) / atoms.get_volume(), abs=1e-7)


def test_more_evaluations_come_to_the_fixed_point(potential: Potential) -> None:
    graph = graph_from_atoms(ethanol(), potential.cutoff)
    exact = potential(graph)
    errors = []
    for n_evaluations in (1, 2, 5, 10):
        out = truncate(potential, n_evaluations)(graph)
        errors.append(max(float((out[key] - exact[key]).abs().max()) for key in ("energy", "forces")))
    assert errors[0] > 1e-2
    assert errors[0] > 10.0 * errors[1] > 1e3 * errors[2] > 1e6 * errors[3]


def test_weights_are_shared_and_random_numbers_are_left_alone(potential: Potential) -> None:
    before = torch.get_rng_state()
    truncated = truncate(potential, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.data_ptr() for p in truncated.parameters()} == {p.data_ptr() for p in potential.parameters()}
    assert (truncated.precision, truncated.training) == ("float64", False)
    cast = truncated.to_precision("mixed")
    assert cast.backbone.deq.stack.geometry.double_geometry
    assert not potential.backbone.stack.geometry.double_geometry
    assert {p.dtype for p in potential.parameters()} == {torch.float64}


def test_precisions_agree() -> None:
    potential = make("float32")
    graph = graph_from_atoms(ethanol(), potential.cutoff)
    exact = truncate(potential.to_precision("float64"), 2)(graph)
    for precision in ("float32", "mixed"):
        out = truncate(potential, 2).to_precision(precision)(graph)
        assert float((out["forces"] - exact["forces"]).abs().max()) < 1e-4
        assert out["forces"].dtype == torch.float64


def test_compiled_files_tell_truncations_apart(potential: Potential) -> None:
    cpu = torch.device("cpu")
    keys = {cache_key(truncate(potential, n_evaluations), cpu, 1) for n_evaluations in (1, 2, 3)}
    assert len(keys | {cache_key(potential, cpu, 1)}) == 4


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler on this machine")
def test_compiled(potential: Potential, tmp_path) -> None:
    truncated = truncate(potential, 2)
    compiled = compile_potential(truncated, cache_dir=tmp_path)
    graph = graph_from_atoms(ethanol(), potential.cutoff)
    found, expected = compiled(graph), truncated(graph)
    for key in ("energy", "forces", "virial"):
        torch.testing.assert_close(found[key], expected[key], rtol=0.0, atol=1e-9)


def test_calculators_of_truncated_potentials_have_no_history(potential: Potential) -> None:
    calculator = MLFFCalculator(truncate(potential, 2), device="cpu")
    assert calculator.history_free
    assert calculator.get_state() is None


def test_what_cannot_be_truncated(potential: Potential, tmp_path) -> None:
    explicit = build_potential(
        {"backbone": {"name": "equiformer", "channels": 4, "l_max": 1}, "elements": ["H"]}, seed=0
    )
    with pytest.raises(OptionError, match=r"equiformer has no fixed point.*deq"):
        truncate(explicit, 2)
    with pytest.raises(OptionError, match="no fixed point"):
        truncate(truncate(potential, 2), 2)
    with pytest.raises(OptionError, match="direct are not the gradient"):
        truncate(make(forces="direct"), 2)
    for wrong in (0, -1, True, 2.0):
        with pytest.raises(OptionError, match=f"n_evaluations = {wrong}.*at least 1"):
            truncate(potential, wrong)
    with pytest.raises(OptionError, match="truncated to 2 evaluations is not written"):
        truncate(potential, 2).save(tmp_path / "here")
    assert not (tmp_path / "here").exists()
