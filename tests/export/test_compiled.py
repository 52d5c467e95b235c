"""Compiled potentials agree with eager ones for all sizes, are loaded from the cache, and refuse unsupported requests."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from mlff_calc import MLFFCalculator
from mlff_calc.errors import OptionError
from mlff_calc.export import CompiledPotential, compile_for_training, compile_potential
from mlff_calc.export.check import ExportError, compare, compare_gradients
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.potential import Potential, build_potential

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="no C++ compiler on this machine"
)


EQUIFORMER = {"name": "equiformer", "l_max": 1, "channels": 8, "n_layers": 1, "edge_channels": 8}
HEGNN = {"name": "hegnn", "l_max": 2, "channels": 8, "n_layers": 1}


def small_potential(backbone: dict[str, object] = HEGNN) -> Potential:
    config = {
        "backbone": {"cutoff": 4.0, **backbone},
        "elements": ["H", "C", "O", "Si"],
        "reference_energies": {"H": -13.6, "C": -1030.0, "O": -2041.0, "Si": -7870.0},
        "repulsion": {"name": "zbl"},
    }
    return build_potential(config, seed=3).eval()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def compiled(cache: Path) -> CompiledPotential:
    return compile_potential(small_potential(), cache_dir=cache)


STRUCTURES = [
    Atoms("C", positions=[[0, 0, 0]]),
    Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]]),
    molecule("CH3CH2OH"),
    bulk("Si"),
    bulk("Si", cubic=True).repeat(2),
    Atoms(),
]


@needs_compiler
@pytest.mark.parametrize("atoms", STRUCTURES, ids=lambda atoms: f"{len(atoms)} atoms")
def test_compiled_equals_eager(compiled: CompiledPotential, atoms: Atoms) -> None:
    atoms = atoms.copy()
    atoms.rattle(0.05, seed=1) if len(atoms) else None
    graph = graph_from_atoms(atoms, compiled.cutoff)
    compare(small_potential()(graph), compiled(graph), "float32", "test")


@needs_compiler
@pytest.mark.parametrize(
    "backbone", [HEGNN, pytest.param(EQUIFORMER, marks=pytest.mark.slow)], ids=["hegnn", "equiformer"]
)
def test_several_threads(cache: Path, backbone: dict[str, object]) -> None:
    """Sums over all rows are compiled differently for several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        potential = small_potential(backbone)
        compiled = compile_potential(potential, cache_dir=cache)
        for atoms in (molecule("CH3CH2OH"), bulk("Si", cubic=True).repeat(2)):
            atoms.rattle(0.05, seed=1)
            graph = graph_from_atoms(atoms, compiled.cutoff)
            compare(potential(graph), compiled(graph), "float32", "two threads")
    finally:
        torch.set_num_threads(before)


@needs_compiler
@pytest.mark.parametrize("names", [("H2O",), ("H2O", "CH4"), ("CH4", "H", "CH3CH2OH", "H2O", "CO")])
def test_batches_are_compiled(compiled: CompiledPotential, monkeypatch, names: tuple[str, ...]) -> None:
    graph = collate([graph_from_atoms(molecule(name), compiled.cutoff) for name in names])
    monkeypatch.setattr(compiled, "_eager", None)
    compare(small_potential()(graph), compiled(graph), "float32", "test")


@needs_compiler
def test_the_cache_is_used_and_keyed_by_weights(compiled: CompiledPotential, cache: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in cache.glob("*.pt2")}
    again = compile_potential(small_potential(), cache_dir=cache)
    assert again.path == compiled.path
    assert {file: file.stat().st_mtime_ns for file in cache.glob("*.pt2")} == before
    from mlff_calc.export.cache import cache_key

    other = small_potential()
    with torch.no_grad():
        other.heads["energy"].last.bias += 1.0
    cpu = torch.device("cpu")
    assert cache_key(other, cpu, 1) != cache_key(small_potential(), cpu, 1)
    assert cache_key(small_potential(), cpu, 2) != cache_key(small_potential(), cpu, 1)
    assert cache_key(small_potential().to_precision("mixed"), cpu, 1) != cache_key(small_potential(), cpu, 1)


@needs_compiler
def test_pickled(compiled: CompiledPotential) -> None:
    graph = graph_from_atoms(molecule("CH3CH2OH"), compiled.cutoff)
    again = pickle.loads(pickle.dumps(compiled))
    torch.testing.assert_close(again(graph)["forces"], compiled(graph)["forces"], rtol=0, atol=0)


@needs_compiler
def test_calculator_compiles(compiled: CompiledPotential, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlff_calc.export.compiled.compiled_cache_dir", lambda: cache)
    atoms = molecule("CH3CH2OH")
    forces = []
    for compile_ in (False, True):
        atoms.calc = MLFFCalculator(small_potential(), device="cpu", compile=compile_)
        forces.append(atoms.get_forces())
    torch.testing.assert_close(torch.tensor(forces[1]), torch.tensor(forces[0]), rtol=0, atol=1e-5)


@needs_compiler
def test_the_callers_potential_is_left_alone(cache: Path, compiled: CompiledPotential) -> None:
    potential = small_potential().train()
    before = [parameter.requires_grad for parameter in potential.parameters()]
    assert any(before)
    compile_potential(potential, cache_dir=cache)
    assert potential.training
    assert [parameter.requires_grad for parameter in potential.parameters()] == before


@needs_compiler
def test_repulsion_is_compiled(compiled: CompiledPotential) -> None:
    atoms = Atoms("OHH", positions=[[0, 0, 0], [0.5, 0, 0], [0, 0.6, 0]])
    graph = graph_from_atoms(atoms, compiled.cutoff)
    assert small_potential()(graph)["forces"].abs().max() > 50.0
    compare(small_potential()(graph), compiled(graph), "float32", "test")


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(OptionError, match=r"needs a C\+\+ compiler.*install g\+\+"):
        compile_potential(small_potential(), cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.pt2"))


def test_a_wrong_result_is_refused() -> None:
    huge = {"energies": torch.full((4,), -2000.0), "energy": torch.tensor([-8000.0])}
    with pytest.raises(ExportError, match="energies differs"):
        compare(huge, {**huge, "energies": huge["energies"] + 1e-2}, "float32", "an energy beside reference energies")
    right = {"forces": torch.ones(2, 3)}
    wrong = {"forces": torch.ones(2, 3) + 1e-3}
    compare(right, right, "float32", "same")
    with pytest.raises(ExportError, match="forces differs from eager"):
        compare(right, wrong, "float32", "wrong")
    with pytest.raises(ExportError):
        compare(right, {"forces": torch.full((2, 3), float("nan"))}, "float32", "NaN")


def test_wrong_gradients_are_refused() -> None:
    right = [torch.ones(3), None, torch.zeros(2)]
    compare_gradients(right, right, "float32", "same")
    compare_gradients(right, [torch.ones(3) * 1.001, torch.zeros(4), None], "float32", "near")
    with pytest.raises(ExportError, match=r"a gradient differs from eager by 0.1.*trainer.compile: false"):
        compare_gradients(right, [torch.ones(3) + torch.tensor([0.0, 0.1, 0.0]), None, torch.zeros(2)], "float32", "wrong")
    with pytest.raises(ExportError):
        compare_gradients(right, [torch.ones(3) * float("nan"), None, None], "float32", "NaN")


@needs_compiler
@pytest.mark.slow
def test_a_wrong_training_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the derivatives of saved results, forces are correct but their gradients are wrong."""
    potential = small_potential(EQUIFORMER).train()
    batch = collate([graph_from_atoms(molecule(name), potential.cutoff) for name in ("H2O", "CH4")])
    monkeypatch.setattr("mlff_calc.export.trace._attach", lambda traced: None)
    with pytest.raises(ExportError, match="a gradient differs from eager"):
        compile_for_training(potential, batch)


@needs_compiler
@pytest.mark.slow
def test_training_graph_has_the_gradients_of_eager() -> None:
    potential = small_potential(EQUIFORMER).to_precision("float64").train()
    names = ("H2O", "CH3CH2OH", "CH4")
    batch = collate([graph_from_atoms(molecule(name), potential.cutoff) for name in names])
    call = compile_for_training(potential, batch)
    weights = [parameter for parameter in potential.parameters() if parameter.requires_grad]
    gradients = []
    for forward in (potential, call):
        out = forward(batch)
        loss = (out["forces"] ** 2).sum() + (out["energy"] ** 2).sum()
        gradients.append(torch.autograd.grad(loss, weights, allow_unused=True))
    for eager, found in zip(*gradients, strict=True):
        if eager is not None:
            torch.testing.assert_close(found, eager, rtol=1e-8, atol=1e-9 * float(eager.abs().max() + 1e-3))
