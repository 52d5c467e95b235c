"""All tensors that networks of any kind read from graphs or add to them are declared, and agree with their keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import nn

import mlff_calc
from mlff_calc.backbones import available_backbones, is_fixed_point
from mlff_calc.datasets.motion import MotionSample
from mlff_calc.export.metadata import ENGINE_INPUTS, ENGINE_OUTPUTS
from mlff_calc.graph import KEYS, Graph, collate, graph_from_atoms, validate_graph
from mlff_calc.potential import build_potential
from mlff_calc.potential.engine import COLD, EngineStep
from mlff_calc.potential.fixed_point_step import MEMORY_INPUTS, MEMORY_OUTPUTS, FixedPointStep, StepSizes
from mlff_calc.pretraining import OBJECTIVES, build_pretraining
from mlff_calc.pretraining.hinges import Scales, with_hinges
from mlff_calc.pretraining.noise import copies
from mlff_calc.propagator import build_propagator, motion_graph
from mlff_calc.properties import build_property
from mlff_calc.rollout import build_rollout
from mlff_calc.rollout.base import BASES
from mlff_calc.rollout.model import rollout_graph

SMALL = {"cutoff": 3.0, "channels": 4}
MOST = {"hegnn": {"moves": True, "l_max": 1}, "cg_egnn": {"moves": True}, "deq": {"l_max": 1, "dropout": 0.2}}
WINDOW, KEPT = 2, 2


@pytest.fixture
def looked_at() -> Iterator[list[str]]:
    """Validate inputs and outputs of all modules that take a graph, and return the names of these modules."""
    names: list[str] = []

    def look(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], dict) and isinstance(output, dict):
            names.append(type(module).__name__)
            validate_graph(inputs[0])
            validate_graph({**inputs[0], **output})

    handle = nn.modules.module.register_module_forward_hook(look)
    yield names
    handle.remove()


def batch() -> Graph:
    return collate([graph_from_atoms(molecule(name), 3.0) for name in ("H2O", "CH3OH")])


@pytest.mark.parametrize("forces", ["gradient", "direct"])
@pytest.mark.parametrize("name", available_backbones())
def test_potentials(name: str, forces: str, looked_at: list[str]) -> None:
    heads = [{"name": "energy"}, {"name": "zbl"}, {"name": "denoising"}]
    heads += [{"name": "direct_forces"}] if forces == "direct" else []
    config = {"backbone": {"name": name, **SMALL, **MOST.get(name, {})}, "elements": ["H", "C", "O"], "heads": heads}
    potential = build_potential(config, seed=0)
    graph = batch()
    potential.eval()(graph)
    assert looked_at[-1] == type(potential).__name__
    assert {"EnergyHead", "DenoisingHead"} <= {*looked_at}
    if is_fixed_point(name):
        found = potential(graph)
        probe = torch.randn(found["state"].shape)
        starts = {"start_state": found["state"], "start_adjoint": found["adjoint"]}
        potential.train()({**graph, **starts, "probe": probe})
        path = potential.solve(graph, [1, 2])
        validate_graph({**graph, **path})


def test_steps_on_a_fixed_point(looked_at: list[str]) -> None:
    config = {"backbone": {"name": "deq", "block": "equiformer", "prelude": 0, **SMALL, "l_max": 1}, "elements": ["H", "O"]}
    potential = build_potential(config, seed=0).eval()
    graph = graph_from_atoms(molecule("H2O"), 3.0)
    engine = EngineStep(FixedPointStep(potential, StepSizes(2, 2, WINDOW, KEPT)))
    memory = torch.zeros(3, engine.slots, engine.width)
    control = torch.tensor([COLD, 1e-7, 1e-6, 0.0], dtype=torch.float64)
    graph |= {"memory": memory, "control": control, "owned": torch.ones(3, dtype=torch.float64)}
    engine({**graph, "node_numbers": graph["atomic_numbers"]})
    assert looked_at[-2:] == ["FixedPointStep", "EngineStep"]


@pytest.mark.parametrize("name", available_backbones())
def test_propagators(name: str, looked_at: list[str]) -> None:
    config = {"backbone": {"name": name, **SMALL, **MOST.get(name, {})}, "kinds": [1, 8], "n_scalars": 1}
    config |= {"n_edge_scalars": 1, "predict_velocities": True, "centre": True}
    generator = np.random.default_rng(0)
    sample = MotionSample(
        positions=generator.normal(size=(3, 3)), velocities=generator.normal(size=(3, 3)),
        target_positions=np.zeros((3, 3)), target_velocities=None, kinds=np.array([8, 1, 1]), scalars=np.ones((3, 1)),
        edges=np.array([[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]), edge_scalars=np.ones((6, 1)), horizon=0.5, place="here",
    )  # fmt: skip
    build_propagator(config, seed=0)(motion_graph(sample))
    assert looked_at[-2:] == ["DisplacementHead", "Propagator"]


@pytest.mark.parametrize("head", ["scalar", "distribution"])
@pytest.mark.parametrize("name", available_backbones())
def test_properties(name: str, head: str, looked_at: list[str]) -> None:
    backbone = {"name": name, **SMALL, **MOST.get(name, {})}
    build_property({"backbone": backbone, "head": {"name": head}, "elements": [1, 6, 8]}, seed=0).eval()(batch())
    assert looked_at[-1] == "PropertyNetwork"
    assert f"{head.capitalize()}Head" in looked_at


@pytest.mark.parametrize("objective", OBJECTIVES.names())
@pytest.mark.parametrize("name", available_backbones())
def test_pretraining(name: str, objective: str, looked_at: list[str]) -> None:
    if objective == "supervised" and is_fixed_point(name):
        pytest.skip("forces of fixed points are those of a potential")
    backbone = {"name": name, **SMALL, **MOST.get(name, {}), "l_max": 1}
    options = {"name": objective} if objective == "supervised" else {"name": objective, "noise": "bond_angle_torsion"}
    network = build_pretraining({"backbone": backbone, "objective": options, "elements": [1, 6, 8]}, seed=0).eval()
    graph, sigmas = batch(), network.objective.sigmas
    if sigmas:
        graphs = [graph_from_atoms(molecule(one), 6.0) for one in ("H2O", "CH3OH")]
        wide = collate(with_hinges(graphs, Scales(0.1, 0.1, 1.0, 0.1)))
        validate_graph(wide)
        graph = copies(wide, sigmas, sigmas, 3.0, torch.Generator())
    network(graph)
    assert looked_at[-1] == "PretrainingNetwork"
    assert ("DenoisingHead" in looked_at) == bool(sigmas)


@pytest.mark.parametrize("base", BASES)
def test_rollouts(base: str, looked_at: list[str]) -> None:
    config = {"backbone": {"name": "hegnn", **SMALL, "l_max": 1}, "numbers": [8, 1, 1], "bonds": [[0, 1], [0, 2]]}
    config |= {"masses": [16.0, 1.0, 1.0], "horizon": 20.0, "base": base, "n_vibrations": 2 if base == "harmonic" else 0}
    rollout = build_rollout(config, seed=0)
    x = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rollout(rollout_graph(rollout.topology, x, 0.01 * x.flip(0), torch.tensor([[1.0, 5.0], [2.0, 20.0]])))
    assert looked_at[-1] == "Rollout"


def test_inputs_and_outputs_of_steps_and_exported_files_are_declared() -> None:
    for name in (*MEMORY_INPUTS, *MEMORY_OUTPUTS, *ENGINE_INPUTS, *ENGINE_OUTPUTS, "memory", "control", "residuals"):
        assert name in KEYS, name


def test_literals_in_the_sources_are_declared() -> None:
    """The literals are those looked up in dicts called graph, inputs or features in the packages of networks."""
    root, found = Path(mlff_calc.__file__).parent, set()
    networks = ("potential", "pretraining", "propagator", "properties", "rollout", "score")
    for room in ("backbones", "heads", *networks, "export", "training", "calculators"):
        for file in (root / room).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            found |= set(re.findall(r'\b(?:graph|inputs|features|batch\.graph|labels)\["(\w+)"\]', text))
    assert len(found) > 20
    assert found - KEYS.keys() == set()


def test_units_of_outputs_are_those_of_their_keys() -> None:
    potential = build_potential({"backbone": {"name": "hegnn", **SMALL}, "elements": ["H"]}, seed=0)
    for name in ("energy", "forces", "stress"):
        assert potential.units[name] == KEYS[name].unit
