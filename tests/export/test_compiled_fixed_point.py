"""Fixed-point potentials compiled for training, and their compiled steps, compared with eager ones."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from torch import Tensor

from mlff_calc.errors import OptionError
from mlff_calc.export import compile_for_training, compile_potential
from mlff_calc.export.check import compare, probe_graph, probe_memory
from mlff_calc.graph import Graph, collate, graph_from_atoms
from mlff_calc.potential import build_potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.fixed_point_step import FixedPointStep, StepSizes

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="no C++ compiler on this machine"
)


def small_potential(**options: object) -> FixedPointPotential:
    sizes = {"cutoff": 4.0, "l_max": 1, "channels": 4, "heads": 2, "edge_channels": 8}
    config = {
        "backbone": {"name": "deq", "block": "equiformer", "prelude": 0, "training_evaluations": 6, **sizes, **options},
        "elements": ["H", "C", "O"],
        "reference_energies": {"H": -13.6, "C": -1030.0, "O": -2041.0},
        "repulsion": {"name": "zbl"},
    }
    return build_potential(config, seed=3).to_precision("float64")


def random_keys(potential: FixedPointPotential, graph: Graph, seed: int) -> Graph:
    """Return the graph with a probe and dropout factors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = potential.backbone.random_state(graph)
        return graph | {"probe": probe, "dropout": potential.backbone.dropout_factors(graph)}


def batch_of(*names: str) -> Graph:
    return collate([graph_from_atoms(molecule(name), 4.0) for name in names])


def gradients(out: dict[str, Tensor], weights: list[Tensor]) -> tuple[Tensor | None, ...]:
    loss = (out["forces"] ** 2).sum() + (out["energies"] + out["energies"] ** 2 * 1e-6).sum()
    return torch.autograd.grad(loss + out["growth"].sum(), weights, allow_unused=True)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("phantom_steps", [1, 2])
def test_training_graph_has_outputs_and_gradients_of_eager(phantom_steps: int) -> None:
    potential = small_potential(dropout=0.2, phantom_steps=phantom_steps).train()
    call = compile_for_training(potential, random_keys(potential, batch_of("H2O", "CH3CH2OH"), 1))
    weights = [parameter for parameter in potential.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for weight in weights:  # weights are read at every call
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1), dtype=weight.dtype)
    for names, seed in ((("H2O", "CH3CH2OH"), 1), (("CH4", "CO", "CH3OH"), 2), (("CO",), 3)):
        batch = random_keys(potential, batch_of(*names), seed)
        batch["start_state"] = 0.1 * batch["probe"]
        found, eager = call(batch), potential(batch)
        assert found.keys() == eager.keys()
        for name, expected in eager.items():
            torch.testing.assert_close(
                found[name], expected, rtol=1e-8, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}"
            )
        pairs = zip(gradients(found, weights), gradients(eager, weights), strict=True)
        for one, other in pairs:
            if other is not None:
                torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9 * float(other.abs().max() + 1e-3))


def test_implicit_gradients_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlff_calc.export.training.require_compiler", lambda: None)
    potential = small_potential(gradient="implicit").train()
    with pytest.raises(OptionError, match=r"cannot be compiled; set trainer.compile: false, or gradient: phantom"):
        compile_for_training(potential, batch_of("H2O", "CO"))


def test_a_fixed_point_is_compiled_as_a_step_alone(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="compiled as a step of a trajectory"):
        compile_potential(small_potential(), cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@needs_compiler
@pytest.mark.slow
def test_a_compiled_step_is_the_eager_one(tmp_path: Path) -> None:
    potential, sizes = small_potential().eval(), StepSizes(n_forward=3, n_adjoint=2, window=3, kept=2)
    compiled = compile_potential(potential, cache_dir=tmp_path, step=sizes)
    step = FixedPointStep(potential, sizes).eval()
    graphs = [probe_graph(potential, n_atoms, seed=n_atoms, device=torch.device("cpu")) for n_atoms in (5, 17)]
    graphs += [graph_from_atoms(molecule("CH3CH2OH"), 4.0), graph_from_atoms(Atoms("C", positions=[[0, 0, 0]]), 4.0)]
    again = pickle.loads(pickle.dumps(compiled))
    for seed, graph in enumerate(graphs):
        for mix in ([0.0, 0.0, 0.0], [3.0, -3.0, 1.0]):
            inputs = graph | probe_memory(step, graph, seed)
            inputs["mix"] = torch.tensor(mix, dtype=torch.float64)
            expected = step(inputs)
            for found in (compiled(inputs), again(inputs)):
                assert found.keys() == expected.keys()
                compare(expected, found, "float64", f"step, {graph['atomic_numbers'].shape[0]} atoms, mix {mix}")
    other = compile_potential(potential, cache_dir=tmp_path, step=sizes)
    assert other.path == compiled.path
    assert len(list(tmp_path.glob("*.pt2"))) == 1
