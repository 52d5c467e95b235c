"""Training that keeps a fixed-point map contractive: the measure, the penalty, recipes, whole runs."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from mlff_calc.errors import RecipeError
from mlff_calc.graph import Graph, collate, graph_from_atoms
from mlff_calc.potential import build_potential, load_potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.training.module import TrainingModule
from mlff_calc.training.potential import contraction
from mlff_calc.training.potential.contraction import SpectralRadius
from mlff_calc.training.potential.fixed_point import FixedPointObjective
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.run import train

Project = Callable[..., Path]

SIZES = {"l_max": 1, "channels": 4, "heads": 2, "edge_channels": 8}
BACKBONE = {
    "name": "deq", "block": "equiformer", "prelude": 0,
    "cutoff": 3.2, "feedback": 0.6, "training_evaluations": 4, "dropout": 0.2, **SIZES,
}  # fmt: skip


@pytest.fixture(scope="module")
def potential() -> FixedPointPotential:
    backbone = {"name": "deq", "block": "equiformer", "prelude": 0, "cutoff": 4.0, "tolerance": 1e-8, **SIZES}
    config = {"backbone": backbone, "elements": ["H", "C", "O"]}
    return build_potential(config, seed=2).eval().to_precision("float64")


def graph_of(name: str) -> Graph:
    atoms = molecule(name)
    atoms.rattle(0.05, seed=1)
    return graph_from_atoms(atoms, 4.0)


def jacobian(potential: FixedPointPotential, graph: Graph, state: Tensor) -> Tensor:
    """Return df/dz [n, n] of the flattened numbers at `state`."""
    prepared = [part.detach() for part in potential.backbone.prepare(potential.inputs(graph, graph["edge_vec"]))]

    def flat(numbers: Tensor) -> Tensor:
        return potential.backbone.evaluate(numbers.view_as(state), graph["edge_index"], prepared).flatten()

    return torch.autograd.functional.jacobian(flat, state.flatten())


def test_spectral_radii_are_those_of_the_jacobians_of_single_systems(potential: FixedPointPotential) -> None:
    graphs = [graph_of("H2O"), graph_of("CO")]
    expected = []
    for graph in graphs:
        matrix = jacobian(potential, graph, potential(graph)["state"].detach())
        expected.append(float(torch.linalg.eigvals(matrix).abs().max()))
    assert expected[0] != pytest.approx(expected[1], rel=0.1)
    found, batch = SpectralRadius(), collate(graphs)
    found.add(potential, batch, potential(batch)["state"].detach())
    assert found.radii == pytest.approx(expected, rel=0.05)
    assert found.mean() == pytest.approx(sum(found.radii) / 2)
    assert found.largest() == max(found.radii)


def test_enough_frames_are_enough(potential: FixedPointPotential, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contraction, "FRAMES", 3)
    found = SpectralRadius()
    assert math.isnan(found.mean())
    assert math.isnan(found.largest())
    batch = collate([graph_of("H2"), graph_of("CO")])
    state = potential(batch)["state"].detach()
    for expected in (2, 4, 4):
        found.add(potential, batch, state)
        assert len(found.radii) == expected


def test_growth_is_that_of_the_transposed_jacobian(potential: FixedPointPotential) -> None:
    graphs = [graph_of("H2O"), graph_of("CO")]
    batch, training = collate(graphs), potential.to_precision("float64").train()
    found = potential(batch)
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(found["state"].shape, generator=generator, dtype=torch.float64)
    out = training.outputs({**batch, "probe": probe}, found["state"], found["adjoint"])
    begin = 0
    for i, graph in enumerate(graphs):
        rows = slice(begin, begin := begin + graph["atomic_numbers"].shape[0])
        vector = probe[rows].flatten()
        # The phantom step is one more evaluation after the solution, which has no effect within these tolerances.
        product = vector @ jacobian(potential, graph, found["state"][rows].detach())
        assert float(out["growth"][i].detach()) == pytest.approx(float(product.norm() / vector.norm()), rel=1e-5)
        turned = out["probe"][rows].flatten()
        torch.testing.assert_close(turned, product / product.norm(), rtol=0.0, atol=1e-5)
    weight = training.backbone.map.blocks[0].attention.project.weight
    assert float(torch.autograd.grad(out["growth"].sum(), weight)[0].abs().max()) > 1e-3


def objective_of(potential: FixedPointPotential, **section: float) -> FixedPointObjective:
    recipe = {
        "potential": {"backbone": {"name": "deq", "block": "equiformer", "prelude": 0, **SIZES}},
        "data": {"train": "cu.extxyz", "split": {"valid": 0.2}},
        "fixed_point": section,
        "optimizer": {"max_epochs": 2},
    }
    return FixedPointObjective(parse_recipe(recipe, "my.yaml"), potential)


def test_only_a_radius_above_the_limit_is_penalized(potential: FixedPointPotential) -> None:
    objective = objective_of(potential, contraction=3.0, contraction_every=1, spectral_radius=0.7)
    growth = torch.tensor([0.2, 0.9, 0.7, 1.1], requires_grad=True)
    penalty = objective.penalty(growth)
    assert float(penalty.detach()) == pytest.approx(3.0 * (0.04 + 0.16) / 4, rel=1e-6)
    penalty.backward()
    torch.testing.assert_close(growth.grad, 3.0 * 2.0 * torch.tensor([0.0, 0.2, 0.0, 0.4]) / 4)


@pytest.mark.parametrize(
    ("backbone", "forces", "said"),
    [
        ("equiformer", "gradient", r"contraction is 0\.1, but backbone 'equiformer' with forces: gradient"),
        ("deq", "direct", r"contraction is 0\.1, but backbone 'deq' with forces: direct"),
    ],
)
def test_contraction_without_an_adjoint_is_refused(backbone: str, forces: str, said: str) -> None:
    recipe = {
        "potential": {"backbone": {"name": backbone, "channels": 4}, "forces": forces},
        "data": {"train": "cu.extxyz", "split": {"valid": 0.2}},
        "fixed_point": {"contraction": 0.1},
        "optimizer": {"max_epochs": 2},
        "output": "run",
    }
    with pytest.raises(RecipeError, match=said + r".*leave `contraction` out, or take backbone deq with gradient"):
        parse_recipe(recipe, "my.yaml")
    recipe["fixed_point"]["contraction"] = 0.0
    parse_recipe(recipe, "my.yaml")


class _StopError(Exception):
    pass


def _state(folder: Path) -> dict[str, Tensor]:
    """Return weights, averages, moments and starts at the end of a run."""
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    found = dict(last["state_dict"])
    for index, average in enumerate(last["callbacks"]["AveragedWeights"]["average"]):
        found[f"average {index}"] = average
    for index, moments in last["optimizer_states"][0]["state"].items():
        found[f"moment {index}"] = moments["exp_avg"]
    for part, frames in last["objective"]["starts"].items():
        for frame, row in frames.items():
            found |= {f"{part} {frame} {name}": tensor for name, tensor in row.items()}
    return found


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [
            {name: cell for name, cell in row.items() if not name.endswith("minutes")} for row in csv.DictReader(file)
        ]


def test_a_run_and_one_that_was_resumed(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run equals an uninterrupted one, also with recurrent dropout, which draws random numbers."""
    held = {"contraction": 1.0, "contraction_every": 2, "spectral_radius": 0.05}
    path = project(potential={"backbone": BACKBONE}, fixed_point=held, optimizer__max_epochs=2)
    train(path, output=tmp_path / "whole")
    rows = _rows(tmp_path / "whole")
    assert len(rows) == 2
    for row in rows:
        assert 0.0 < float(row["valid_spectral_radius"]) <= float(row["valid_spectral_radius_max"]) < 5.0
        assert float(row["evaluations"]) >= 2.0
    assert isinstance(load_potential(tmp_path / "whole" / "potential"), FixedPointPotential)

    step = TrainingModule.training_step

    def interrupted(self: TrainingModule, batch: object, batch_idx: int) -> Tensor:
        if (self.trainer.current_epoch, batch_idx) == (1, 1):
            raise _StopError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupted)
        with pytest.raises(_StopError):
            train(path, output=tmp_path / "parts")
    train(path, output=tmp_path / "parts", resume=True)
    whole, parts = _state(tmp_path / "whole"), _state(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert {"train 0 state", "train 11 adjoint", "valid 3 adjoint"} <= whole.keys()
    probed = [name for name in whole if name.startswith("train") and name.endswith("probe")]
    assert len(probed) > 0  # half of the steps are measured
    assert not [name for name in whole if name.startswith("valid") and name.endswith("probe")]
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []
    assert _rows(tmp_path / "parts") == rows


def test_the_penalty_lowers_the_spectral_radius(project: Project, tmp_path: Path) -> None:
    found = []
    for name, weight in (("free", 0.0), ("held", 100.0)):
        held = {"contraction": weight, "spectral_radius": 0.05}
        backbone = {**BACKBONE, "dropout": 0.0}
        path = project(
            potential={"backbone": backbone}, fixed_point=held, optimizer__max_epochs=4, optimizer__ema_decay=None
        )
        train(path, output=tmp_path / name)
        found.append(float(_rows(tmp_path / name)[-1]["valid_spectral_radius"]))
    assert found[1] < 0.8 * found[0]


def test_implicit_gradients_train_and_have_no_contraction(project: Project, tmp_path: Path) -> None:
    backbone = {**BACKBONE, "gradient": "implicit", "dropout": 0.0}
    path = project(potential={"backbone": backbone}, optimizer__max_epochs=1)
    train(path, output=tmp_path / "run")
    (row,) = _rows(tmp_path / "run")
    assert 0.0 < float(row["valid_spectral_radius"]) < 5.0
    with pytest.raises(RecipeError, match="implicit measures no spectral radius"):
        train(project(potential={"backbone": backbone}, fixed_point={"contraction": 1.0}), output=tmp_path / "other")


def test_every_few_steps_are_measured_and_weighted_for_the_others(potential: FixedPointPotential) -> None:
    """The mean of the penalty over steps does not depend on the interval of its measurement."""
    growth = torch.tensor([0.9, 0.4])
    for every in (1, 4):
        objective = objective_of(potential, contraction=2.0, contraction_every=every, spectral_radius=0.5)
        expected = torch.tensor(2.0 * 0.4**2 / 2, dtype=torch.float64)
        torch.testing.assert_close(objective.penalty(growth) / every, expected)


def test_options_that_stood_in_the_loss_mean_the_same_there() -> None:
    """Options are accepted in the section of earlier versions. Options in both sections or out of range are refused."""
    old = {
        "potential": {"backbone": {"name": "deq", "block": "equiformer", "prelude": 0, **SIZES}},
        "data": {"train": "cu.extxyz", "split": {"valid": 0.2}},
        "loss": {"forces": 2.0, "contraction": 0.5, "spectral_radius": 0.6, "correction": 0.1},
        "optimizer": {"max_epochs": 2},
    }
    new = old | {"loss": {"forces": 2.0}, "fixed_point": {"contraction": 0.5, "spectral_radius": 0.6, "correction": 0.1}}
    assert parse_recipe(old, "my.yaml") == parse_recipe(new, "my.yaml")
    assert "contraction" in old["loss"]
    with pytest.raises(RecipeError, match=r"my.yaml: 'contraction' stands in `loss` and in `fixed_point`; leave it out"):
        parse_recipe(old | {"fixed_point": {"contraction": 1.0}}, "my.yaml")
    with pytest.raises(RecipeError, match=r"fixed_point.contraction \(here still loss.contraction\): -1 is out of range"):
        parse_recipe(old | {"loss": {"contraction": -1}}, "my.yaml")
    with pytest.raises(RecipeError, match=r"unknown key 'contracton'"):
        parse_recipe(new | {"fixed_point": {"contracton": 1}}, "my.yaml")


def test_a_checkpoint_of_an_earlier_version_brings_its_starts(potential: FixedPointPotential) -> None:
    """Earlier versions stored starts beside the weights, and counted steps by Lightning."""
    rows = {"train": {3: {"state": torch.ones(2, 4, 4)}}}
    objective = objective_of(potential)
    objective.load_state_dict({"epoch": 1, "global_step": 7, "starts": rows, "state_dict": {}})
    assert objective.state_dict() == {"starts": rows, "steps": 7}
