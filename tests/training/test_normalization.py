"""Weight and spectral normalization of a fixed-point map: steps of the optimizer, whole runs, and their results."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from mlff_calc.export import compile_for_training, compile_potential
from mlff_calc.export.check import compare, probe_graph, probe_memory
from mlff_calc.graph import Graph, collate, graph_from_atoms
from mlff_calc.potential import build_potential, load_potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.fixed_point_step import FixedPointStep, StepSizes
from mlff_calc.training.module import TrainingModule, decayed_names
from mlff_calc.training.normalization import (
    Normalization,
    SpectralNormalization,
    WeightNormalization,
    build_normalization,
    largest_singular_value,
)
from mlff_calc.training.run import train

Project = Callable[..., Path]

SIZES = {"l_max": 1, "channels": 4, "heads": 2, "edge_channels": 8}
CHANGED = ("weight", "spectral")


def make_potential(normalization: str = "none", **options: object) -> FixedPointPotential:
    backbone = {
        "name": "deq", "block": "equiformer", "prelude": 0,
        "cutoff": 4.0, "normalization": normalization, **SIZES, **options,
    }  # fmt: skip
    return build_potential({"backbone": backbone, "elements": ["H", "C", "O"]}, seed=2)


def batch_of(*names: str) -> Graph:
    return collate([graph_from_atoms(molecule(name), 4.0) for name in names])


def random(shape: torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The maps


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_the_maps_are_those_the_state_goes_through(n_blocks: int) -> None:
    backbone = make_potential(n_blocks=n_blocks).backbone
    maps = {one.name: one for one in backbone.linear_maps()}
    parts = [f"attention.{part}" for part in ("source.weight", "target.weight", "first.weight_0", "second.weight_0",
             "first.orders.0.real", "second.orders.0.real", "project.weight")]  # fmt: skip
    parts += ["ffn.expand.weight", "ffn.gates.weight", "ffn.contract.weight"]
    assert set(maps) == {f"map.blocks.{i}.{part}" for i in range(n_blocks) for part in parts}
    parameters = dict(backbone.named_parameters())
    assert all(one.weight is parameters[name] for name, one in maps.items())
    project, gates = maps["map.blocks.0.attention.project.weight"], maps["map.blocks.0.ffn.gates.weight"]
    assert project.limit == pytest.approx(0.3 * 2.0)
    assert (gates.input_dim, gates.limit) == (-1, pytest.approx(1.0 + math.sqrt(8 / 4)))


@pytest.mark.parametrize("channels", [16, 32])
def test_limits_are_the_singular_values_of_new_matrices(channels: int) -> None:
    for one in make_potential(channels=channels).backbone.linear_maps():
        if not one.name.endswith("gates.weight"):  # initialized by torch, with a third of the variance
            found = torch.linalg.matrix_norm(one.weight.detach(), 2).max().item()
            assert 0.8 * one.limit < found < 1.2 * one.limit, one.name


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (3, 16, 16), (1, 1), (96, 168)])
def test_largest_singular_values(shape: tuple[int, ...]) -> None:
    weight = random(torch.Size(shape), 1)
    exact = torch.linalg.matrix_norm(weight, 2)
    ratio = largest_singular_value(weight).flatten() / exact.flatten()
    assert float(ratio.min()) > 1.0 - 1e-12
    assert float(ratio.max()) < min(shape[-2:]) ** (1 / 512) + 1e-12
    torch.testing.assert_close(
        largest_singular_value(1e-4 * weight.float()), 1e-4 * largest_singular_value(weight).float()
    )
    assert float(largest_singular_value(torch.eye(64))) == pytest.approx(64 ** (1 / 512))
    assert bool(torch.isfinite(largest_singular_value(torch.zeros(4, 4))).all())


# Steps


def test_weights_step_as_length_times_direction() -> None:
    """Steps equal those of autograd for w = g v / |v| with AdamW, for matrices of either orientation."""
    potential = make_potential("weight").to_precision("float64")
    normalization = build_normalization(potential)
    assert isinstance(normalization, WeightNormalization)
    maps = normalization.maps
    targets = [random(one.weight.shape, i) for i, one in enumerate(maps)]
    pairs = [(one.weight.detach().clone().requires_grad_(),
              one.weight.detach().norm(dim=one.input_dim, keepdim=True).requires_grad_()) for one in maps]  # fmt: skip
    before = [one.weight.detach().clone() for one in maps]

    def optimizer(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.0)

    coordinates, _ = normalization.coordinates([(one.name, one.weight) for one in maps], set())
    ours, theirs = optimizer([p for _, p in coordinates]), optimizer([p for pair in pairs for p in pair])
    for _ in range(5):
        sum((one.weight - target).square().sum() for one, target in zip(maps, targets, strict=True)).backward()
        normalization.pull()
        assert all(one.weight.grad is None for one in maps)
        ours.step()
        normalization.write()
        ours.zero_grad()
        weights = [g * v / v.norm(dim=one.input_dim, keepdim=True) for one, (v, g) in zip(maps, pairs, strict=True)]
        theirs.zero_grad()
        sum((weight - target).square().sum() for weight, target in zip(weights, targets, strict=True)).backward()
        theirs.step()
    for one, (v, g), old in zip(maps, pairs, before, strict=True):
        expected = (g * v / v.norm(dim=one.input_dim, keepdim=True)).detach()
        torch.testing.assert_close(one.weight.detach(), expected, rtol=1e-9, atol=1e-11)
        assert float((one.weight.detach() - old).abs().max()) > 1e-2


def test_lengths_decay_and_directions_do_not() -> None:
    potential = make_potential("weight")
    named = list(potential.named_parameters())
    coordinates, decayed = build_normalization(potential).coordinates(named, decayed_names(potential))
    names = {name for name, _ in coordinates}
    path = "backbone.map.blocks.0.attention.project.weight"
    assert path not in names
    assert {f"{path}.length", f"{path}.direction"} <= names
    assert f"{path}.length" in decayed
    assert f"{path}.direction" not in decayed
    assert decayed <= names
    assert len(names) == len(named) + 10


def test_values_above_the_limit_are_scaled_back_to_it() -> None:
    normalization = build_normalization(make_potential("spectral").to_precision("float64"))
    assert isinstance(normalization, SpectralNormalization)
    with torch.no_grad():
        for i, one in enumerate(normalization.maps):
            one.weight.copy_(random(one.weight.shape, i))
            one.weight.mul_((3.0 if i % 2 else 0.9) * one.limit / torch.linalg.matrix_norm(one.weight, 2).max())
    before = [one.weight.detach().clone() for one in normalization.maps]
    normalization.write()
    for i, one in enumerate(normalization.maps):
        found = torch.linalg.matrix_norm(one.weight.detach(), 2).max().item()
        if i % 2:
            assert 0.98 * one.limit < found <= one.limit * (1.0 + 1e-12)
            directions = torch.nn.functional.cosine_similarity(
                one.weight.detach().flatten(-2), before[i].flatten(-2), dim=-1
            )
            torch.testing.assert_close(directions, torch.ones_like(directions))
        else:
            assert torch.equal(one.weight, before[i])


def test_none_does_nothing() -> None:
    potential = make_potential()
    normalization = build_normalization(potential)
    assert type(normalization) is Normalization
    before = [p.detach().clone() for p in potential.parameters()]
    normalization.pull()
    normalization.write()
    assert all(torch.equal(one, other) for one, other in zip(before, potential.parameters(), strict=True))
    assert normalization.state_dict() == {}


# Runs


class _StopError(Exception):
    pass


def _state(folder: Path) -> dict[str, Tensor]:
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    found = dict(last["state_dict"]) | last["normalization"]
    for index, moments in last["optimizer_states"][0]["state"].items():
        found[f"moment {index}"] = moments["exp_avg"]
    return found


@pytest.mark.parametrize("normalization", CHANGED)
def test_a_run_and_one_that_was_resumed(
    normalization: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = {"name": "deq", "block": "equiformer", "prelude": 0, "cutoff": 3.2, "normalization": normalization, **SIZES}
    loss = {"energy": 1.0, "forces": 1.0, "correction": 0.5}
    path = project(potential={"backbone": backbone}, loss=loss, optimizer__max_epochs=2, optimizer__learning_rate=0.1)
    train(path, output=tmp_path / "whole")
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
    assert any(name.endswith(".length") for name in whole) is (normalization == "weight")
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []

    found = load_potential(tmp_path / "whole" / "potential")
    assert isinstance(found, FixedPointPotential)
    assert found.config["backbone"]["normalization"] == normalization
    sizes = [largest_singular_value(m.weight.detach()).max().item() / m.limit for m in found.backbone.linear_maps()]
    assert (max(sizes) < 1.0 + 1e-5) is (normalization == "spectral")
    if normalization == "spectral":
        assert max(sizes) > 0.99  # the limit was reached


# Results


@pytest.mark.parametrize("normalization", CHANGED)
def test_a_potential_holds_plain_weights(normalization: str, tmp_path: Path) -> None:
    """Parameter names, precisions and folders equal those of a potential without normalization."""
    potential, plain = make_potential(normalization).eval(), make_potential().eval()
    assert potential.state_dict().keys() == plain.state_dict().keys()
    graph = batch_of("H2O", "CH3OH")
    double = potential.to_precision("float64")
    expected = double(graph)
    torch.testing.assert_close(plain.to_precision("float64")(graph)["forces"], expected["forces"], rtol=0.0, atol=0.0)
    loaded = load_potential(potential.save(str(tmp_path / "p")))
    assert loaded.config == potential.config
    found = loaded.to_precision("float64")(graph)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.0, atol=1e-9)


@pytest.mark.skipif(
    not any(shutil.which(name) for name in ("g++", "clang++", "c++")), reason="no C++ compiler on this machine"
)
@pytest.mark.slow
@pytest.mark.parametrize("normalization", CHANGED)
def test_it_compiles(normalization: str, tmp_path: Path) -> None:
    """Compiled code works for training, also after a step has changed the weights, and for evaluation."""
    potential = make_potential(normalization).to_precision("float64").train()
    batch = batch_of("H2O", "CH3CH2OH")
    call, steps = compile_for_training(potential, batch), build_normalization(potential)
    optimizer = torch.optim.Adam(
        [p for _, p in steps.coordinates(list(potential.named_parameters()), set())[0]], lr=0.05
    )
    before = steps.maps[0].weight.detach().clone()
    call(batch)["forces"].square().sum().backward()
    steps.pull()
    optimizer.step()
    steps.write()
    assert float((steps.maps[0].weight.detach() - before).abs().max()) > 1e-3
    found, expected = call(batch), potential(batch)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-9)
    sizes = StepSizes(n_forward=2, n_adjoint=2, window=2, kept=1)
    compiled = compile_potential(potential.eval(), cache_dir=tmp_path, step=sizes)
    step = FixedPointStep(potential, sizes).eval()
    inputs = probe_graph(potential, 9, seed=1, device=torch.device("cpu"))
    inputs = inputs | probe_memory(step, inputs, 1)
    compare(step(inputs), compiled(inputs), "float64", "a step")
