"""Exported and compiled `hegnn` and `cg_egnn` agree with the eager potential, for evaluation and training."""

from __future__ import annotations

import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor

from mlff_calc import MLFFCalculator
from mlff_calc.export import compile_for_training, compile_potential, export_potential, load_exported
from mlff_calc.export.check import compare
from mlff_calc.graph import Graph, collate, graph_from_atoms
from mlff_calc.potential import Potential, build_potential, load_potential
from mlff_calc.training import train

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="no C++ compiler on this machine"
)

OPTIONS = {
    "hegnn": {"l_max": 3, "channels": 8, "n_layers": 2, "steerable_channels": 2},
    "egnn": {"name": "hegnn", "l_max": 0, "channels": 8, "n_layers": 2},
    "cg_egnn": {"channels": 6, "n_layers": 1, "hops": 2, "edge_channels": 8},
    "cg_egnn of scalars": {"name": "cg_egnn", "l_max": 0, "channels": 6, "n_layers": 2, "hops": 1, "edge_channels": 8},
}
CUTOFF = 4.0


def potential_of(name: str, precision: str = "float64", **options: object) -> Potential:
    config = {
        "backbone": {"name": name, "cutoff": CUTOFF} | OPTIONS[name],
        "elements": ["H", "C", "O", "Si"],
        "reference_energies": {"H": -13.6, "C": -1030.0, "O": -2041.0, "Si": -7870.0},
        "repulsion": {"name": "zbl"},
        **options,
    }
    return build_potential(config, seed=3).to_precision(precision)


def structures() -> list[Atoms]:
    """Return molecules, crystals, single atoms and pairs, including a pair beyond the cutoff."""
    crystal = bulk("Si", cubic=True) * (2, 1, 1)
    found = [molecule("CH3CH2OH"), crystal, bulk("Si"), molecule("CO"), molecule("CH4")]
    for atoms in found:
        atoms.rattle(0.05, seed=1)
    return [*found, Atoms("C"), Atoms("HH", positions=[[0, 0, 0], [0, 0, 9.0]])]


def batch_of(*names: str) -> Graph:
    return collate([graph_from_atoms(molecule(name), CUTOFF) for name in names])


def gradients(out: dict[str, Tensor], weights: list[Tensor]) -> tuple[Tensor | None, ...]:
    loss = (out["forces"] ** 2).sum() + (out["energies"] + out["energies"] ** 2 * 1e-6).sum()
    return torch.autograd.grad(loss, weights, allow_unused=True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("hegnn", "lammps"), ("egnn", "torchscript"), ("cg_egnn", "lammps"), ("cg_egnn of scalars", "torchscript")],
)
def test_torchscript_files(name: str, kind: str, tmp_path: Path) -> None:
    potential = potential_of(name).eval()
    export_potential(potential, tmp_path / "p.pt", to=kind)
    exported = load_exported(tmp_path / "p.pt")
    for atoms in structures():
        graph = graph_from_atoms(atoms, CUTOFF)
        compare(potential(graph), exported(graph), "float64", f"{name}, {atoms.symbols}")


def test_direct_forces_in_a_file(tmp_path: Path) -> None:
    potential = potential_of("cg_egnn", forces="direct").eval()
    export_potential(potential, tmp_path / "p.pt")
    graph = graph_from_atoms(structures()[0], CUTOFF)
    found, expected = load_exported(tmp_path / "p.pt")(graph), potential(graph)
    torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=1e-11)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["hegnn", "cg_egnn"])
def test_files_of_aotinductor(name: str, tmp_path: Path) -> None:
    potential = potential_of(name).eval()
    export_potential(potential, tmp_path / "p.pt2", to="aoti")
    exported = load_exported(tmp_path / "p.pt2")
    for atoms in structures():
        graph = graph_from_atoms(atoms, CUTOFF)
        compare(potential(graph), exported(graph), "float64", f"{name}, {atoms.symbols}")


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["hegnn", "egnn", "cg_egnn"])
def test_compiled_equals_eager(name: str, tmp_path: Path) -> None:
    potential = potential_of(name).eval()
    compiled = compile_potential(potential, cache_dir=tmp_path)
    for atoms in structures():
        graph = graph_from_atoms(atoms, CUTOFF)
        compare(potential(graph), compiled(graph), "float64", f"{name}, {atoms.symbols}")


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["hegnn", "cg_egnn"])
def test_a_compiled_calculator(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results agree in float32 for moving atoms and for another structure with the same calculator."""
    monkeypatch.setenv("MLFF_CACHE", str(tmp_path))
    potential = potential_of(name, "float32").eval()
    eager, compiled = (MLFFCalculator(potential, compile=on, device="cpu") for on in (False, True))
    for atoms in structures()[:2]:
        for seed in range(3):
            atoms.rattle(0.05, seed=seed)
            expected, found = eager.evaluate(atoms), compiled.evaluate(atoms)
            assert found["energy"] == pytest.approx(expected["energy"], abs=2e-4 * len(atoms))
            np.testing.assert_allclose(found["forces"], expected["forces"], rtol=0, atol=2e-4)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["hegnn", "egnn", "cg_egnn"])
def test_training_graph_has_outputs_and_gradients_of_eager(name: str) -> None:
    potential = potential_of(name).train()
    call = compile_for_training(potential, batch_of("H2O", "CH3CH2OH"))
    weights = [parameter for parameter in potential.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for weight in weights:  # weights are read at every call
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1), dtype=weight.dtype)
    for names in (("H2O", "CH3CH2OH"), ("CH4", "CO", "CH3OH"), ("CO",)):
        batch = batch_of(*names)
        found, eager = call(batch), potential(batch)
        compare(eager, found, "float64", f"{name}, {names}")
        for one, other in zip(gradients(found, weights), gradients(eager, weights), strict=True):
            if other is not None:
                assert one is not None
                torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9 * float(other.abs().max() + 1e-3))


def copper(n: int) -> list[Atoms]:
    """Write rattled cells of two copper atoms with labels from EMT."""
    generator = np.random.default_rng(1)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu", "fcc", a=3.7) * (2, 1, 1)
        atoms.positions += generator.normal(scale=0.08, size=atoms.positions.shape)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["hegnn", "cg_egnn"])
def test_compiled_training_is_eager_training(name: str, tmp_path: Path) -> None:
    """With `trainer.compile: true` the weights are equal up to rounding after some epochs in float64."""
    ase.io.write(tmp_path / "cu.extxyz", copper(16))
    found = []
    for compiled in (False, True):
        recipe = {
            "potential": {"backbone": {"name": name, "cutoff": 3.2} | OPTIONS[name]},
            "data": {"train": "cu.extxyz", "split": {"train": 12, "valid": 2, "test": 2, "seed": 3}},
            "optimizer": {"batch_size": 4, "max_epochs": 4, "warmup_steps": 3, "learning_rate": 5e-3},
            "trainer": {"device": "cpu", "seed": 5, "precision": "float64", "compile": compiled},
            "card": {"title": "tiny copper", "level_of_theory": "EMT"},
            "output": f"compiled_{compiled}",
        }
        path = tmp_path / f"recipe_{compiled}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        found.append(load_potential(train(path).model).to_precision("float64"))
    start = build_potential(found[0].config, seed=7).state_dict()
    for (weight, one), other in zip(found[0].named_parameters(), found[1].parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-6, msg=lambda text, w=weight: f"{w}: {text}")
        assert start[weight].shape == one.shape
