"""Fine-tuning from backbones of any kind: weights, elements, frozen weights, rates of layers, and what is refused."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_calc.backbones import build_backbone
from mlff_calc.errors import DatasetError, PotentialFileError, RecipeError, TrainingError
from mlff_calc.networks import read_header
from mlff_calc.networks.trained_backbone import TrainedBackbone, species_axes
from mlff_calc.potential import build_potential, load_potential
from mlff_calc.propagator import build_propagator
from mlff_calc.properties import build_property, load_property
from mlff_calc.score import build_score_model
from mlff_calc.training.kinds import task_for
from mlff_calc.training.module import TrainingModule
from mlff_calc.training.property.recipe import PropertyHead
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.run import train
from mlff_calc.training.task import Prepared

from ..children import Child
from .changes import with_changes

SMALL: dict[str, dict[str, Any]] = {
    "hegnn": {"name": "hegnn", "l_max": 1, "channels": 8, "n_layers": 2, "cutoff": 3.0},
    "equiformer": {"name": "equiformer", "l_max": 1, "channels": 4, "n_layers": 2, "cutoff": 3.0, "heads": 2},
    "cg_egnn": {"name": "cg_egnn", "channels": 4, "n_layers": 2, "cutoff": 3.0, "edge_channels": 4},
    "deq": {"name": "deq", "l_max": 1, "channels": 4, "cutoff": 3.0},
}
NEIGHBORS = 2.5
WIDE = {"name": "hegnn", "channels": 16}


def molecules(names: tuple[str, ...] = ("H2O", "H2O2"), n: int = 24) -> list[Atoms]:
    """Distorted molecules with made-up labels of all kinds."""
    random, frames = np.random.default_rng(3), []
    for k in range(n):
        atoms = molecule(names[k % len(names)])
        atoms.positions += random.normal(scale=0.1, size=atoms.positions.shape)
        atoms.info["gap"] = float(atoms.get_distance(0, 1) + k % len(names))
        forces = random.normal(size=atoms.positions.shape)
        atoms.calc = SinglePointCalculator(atoms, energy=-5.0 * len(atoms) + random.normal(), forces=forces)
        frames.append(atoms)
    return frames


def started(kind: str, backbone: dict[str, Any], elements: list[int], folder: Path) -> Any:
    """A network with random weights, in a folder."""
    known = backbone | {"avg_num_neighbors": NEIGHBORS}
    config = {"backbone": known, "elements": elements}
    if kind == "potential":
        network: Any = build_potential(config, seed=1)
    elif kind == "property":
        network = build_property(config | {"head": {"name": "scalar"}, "unit": "eV", "scale": 0.7, "mean": 3.0}, seed=1)
    else:
        bonds = [[0, 1], [0, 2]] if elements == [1, 8] else []
        network = build_score_model({"backbone": known, "numbers": [8, 1, 1] if bonds else elements, "bonds": bonds}, seed=1)
    network.save(str(folder))
    return network


def recipe_of(folder: Path, kind: str, frames: list[Atoms] | None = None, **changes: Any) -> Any:
    ase.io.write(folder / "frames.extxyz", molecules() if frames is None else frames, format="extxyz")
    own: dict[str, Any] = {"potential": {"loss": {"energy": 1.0}}, "property": {"property": {}}}[kind]
    data = {"train": "frames.extxyz", "split": {"valid": 6}} | ({"label": "gap", "unit": "eV"} if kind == "property" else {})
    recipe = own | {
        "fine_tune_from": "start", "data": data, "trainer": {"device": "cpu"}, "output": "run",
        "optimizer": {"learning_rate": 0.01, "batch_size": 6, "max_epochs": 2, "warmup_steps": 1, "weight_decay": 0.1},
    }  # fmt: skip
    return parse_recipe(with_changes(recipe, changes), folder / "recipe.yaml")


def prepared(recipe: Any) -> Prepared:
    task = task_for(recipe)
    return task.prepare(recipe, task.read(recipe))


def backbone_of(network: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.backbone.state_dict().items()}


@pytest.mark.parametrize("kind", ["potential", "property"])
@pytest.mark.parametrize("start", ["property", "score", "potential"])
@pytest.mark.parametrize("name", ["hegnn"])
def test_a_backbone_of_any_kind_is_the_start(tmp_path: Path, kind: str, start: str, name: str) -> None:
    before = started(start, SMALL[name], [1, 8], tmp_path / "start")
    ready = prepared(recipe_of(tmp_path, kind))
    network = ready.network
    assert network.elements == [1, 8]
    assert network.config["backbone"]["avg_num_neighbors"] == NEIGHBORS  # belongs to the weights
    axes = species_axes(network.config["backbone"])
    for weight, value in network.backbone.state_dict().items():
        expected = before.backbone.state_dict()[weight]
        if start == "score" and weight in axes:  # its classes begin with those of hydrogen
            assert before.topology.classes.tolist() == [2, 1, 1]
        assert torch.equal(value, expected), weight
    if kind != start:
        fresh = prepared(recipe_of(tmp_path, kind, fine_tuning__heads="new")).network
        heads = [name for name in network.state_dict() if not name.startswith("backbone.")]
        assert all(torch.equal(network.state_dict()[one], fresh.state_dict()[one]) for one in heads)
    taken = "whole" if kind == start else "backbone"
    assert f"fine-tuned from start ({start})" in ready.notes[0]
    assert taken in ready.notes[0]


@pytest.mark.parametrize("name", ["equiformer", "cg_egnn", "deq"])
def test_every_backbone_maps_its_elements(tmp_path: Path, name: str) -> None:
    """Rows of elements that the new data lack are dropped, and those of other elements move to their places."""
    before = started("property", SMALL[name], [1, 6, 8], tmp_path / "start")
    network = prepared(recipe_of(tmp_path, "potential")).network
    assert network.elements == [1, 8]
    axes = species_axes(before.config["backbone"])
    assert axes
    for weight, value in before.backbone.state_dict().items():
        expected = value.index_select(axes[weight], torch.tensor([0, 2])) if weight in axes else value
        assert torch.equal(network.backbone.state_dict()[weight], expected), weight


def test_all_weights_by_species_are_found() -> None:
    found = {name: set(species_axes(options)) for name, options in SMALL.items()}
    assert found["hegnn"] == {"species.weight", "start_species"}
    assert set(species_axes(SMALL["hegnn"] | {"centre": True})) == {"species.weight", "start_species", "centre_species"}
    assert len(found["equiformer"]) == 3
    assert found["deq"] == {f"stack.{name}" for name in found["hegnn"]}
    assert found["cg_egnn"] == {"species.weight"}


def test_classes_of_one_element_give_their_mean(tmp_path: Path) -> None:
    """Hydrogen atoms of methanol are two classes."""
    numbers, bonds = [6, 8, 1, 1, 1, 1], [[0, 1], [0, 2], [0, 3], [0, 4], [1, 5]]
    model = build_score_model({"backbone": SMALL["hegnn"], "numbers": numbers, "bonds": bonds}, seed=0)
    model.save(str(tmp_path / "start"))
    start = TrainedBackbone.read(tmp_path / "start")
    assert sorted(start.rows) == [1, 1, 6, 8]
    assert start.elements == [1, 6, 8]
    backbone = build_backbone(start.options, n_species=3)
    start.carry_to(backbone, [1, 6, 8])
    own = [row for row, z in enumerate(start.rows) if z == 1]
    expected = model.backbone.species.weight[own].mean(dim=0)
    assert torch.allclose(backbone.species.weight[0], expected)
    assert not torch.equal(model.backbone.species.weight[own[0]], model.backbone.species.weight[own[1]])


@pytest.mark.parametrize("start", ["potential", "property"])
@pytest.mark.parametrize("kind", ["potential", "property"])
def test_an_unknown_element_is_refused_or_added(tmp_path: Path, kind: str, start: str) -> None:
    before = started(start, SMALL["hegnn"], [1, 8], tmp_path / "start")
    frames = molecules(("H2O", "CH4"))
    with pytest.raises(DatasetError, match=rf"xyz holds C, but the {start} 'start' knows only H O; set fine_tuning"):
        prepared(recipe_of(tmp_path, kind, frames))
    ready = prepared(recipe_of(tmp_path, kind, frames, fine_tuning__new_elements="add"))
    assert ready.network.elements == [1, 6, 8]
    rows = ready.network.backbone.species.weight
    assert torch.equal(rows[[0, 2]], before.backbone.species.weight)
    assert not any(torch.equal(rows[1], row) for row in before.backbone.species.weight)
    assert "elements added to the start, with new embeddings: C" in ready.notes


def test_a_continued_potential_fits_references_of_added_elements(tmp_path: Path) -> None:
    started("potential", SMALL["hegnn"], [1, 7, 8], tmp_path / "start")
    recipe = recipe_of(tmp_path, "potential", molecules(("H2O", "CH4")), fine_tuning__new_elements="add")
    result = train(recipe)
    tuned = load_potential(result.model)
    assert tuned.elements == [1, 6, 7, 8]  # nitrogen is kept, which the start has learned
    assert tuned.config["reference_energies"]["7"] == pytest.approx(0.0, abs=1e-6)
    assert abs(tuned.config["reference_energies"]["6"]) > 0.1
    header = read_header(result.model)
    assert header["provenance"]["fine_tuned_from"]["kind"] == "potential"
    assert header["provenance"]["fine_tuned_from"]["sha256"] == read_header(tmp_path / "start")["sha256"]
    card = (result.model / "card.md").read_text()
    assert "Fine-tuned from start." in card
    assert "fine-tuned from start (potential): the whole potential" in card


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("potential", {"potential__backbone": WIDE}, "potential.backbone.channels is 16, and 8 in 'start'"),
        ("property", {"property__backbone": WIDE}, "property.backbone.channels is 16, and 8 in 'start'"),
        ("property", {"property__backbone": {"name": "deq"}}, "property.backbone.name is deq, and hegnn in 'start'"),
        ("potential", {"potential__forces": "direct"}, "potential.forces is direct, and gradient in 'start'"),
        ("potential", {"potential__repulsion": {}}, "potential.repulsion is .*, and None in 'start'"),
        ("potential", {"potential__scale": 2.0}, "potential.scale is 2.0, and 1.0 in 'start'"),
        ("potential", {"potential__avg_num_neighbors": 9.0}, "avg_num_neighbors is 9.0, and 2.5 in 'start'"),
    ],
)
def test_another_architecture_is_refused(tmp_path: Path, kind: str, changes: dict[str, Any], expected: str) -> None:
    started("potential", SMALL["hegnn"], [1, 8], tmp_path / "start")
    with pytest.raises(RecipeError, match=f"{expected}, from which fine_tune_from starts; leave"):
        prepared(recipe_of(tmp_path, kind, **changes))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"steerable_channels": 4, "block": "hegnn"}, "block is hegnn, and equiformer in 'start'"),
        ({"steerable_channels": 4}, "steerable_channels is 4, and not an option in 'start'"),
    ],
)
def test_a_fixed_point_of_other_layers_is_refused(tmp_path: Path, asked: dict[str, Any], expected: str) -> None:
    """Options of the recipe's block are none of the start's."""
    started("property", SMALL["deq"] | {"block": "equiformer", "heads": 2}, [1, 8], tmp_path / "start")
    with pytest.raises(RecipeError, match=rf"potential\.backbone\.{expected}, from which fine_tune_from starts; leave"):
        prepared(recipe_of(tmp_path, "potential", potential__backbone={"name": "deq"} | asked))


def test_new_heads_may_differ_from_those_of_a_potential(tmp_path: Path) -> None:
    before = started("potential", SMALL["hegnn"], [1, 8], tmp_path / "start")
    changes = {"fine_tuning__heads": "new", "potential__forces": "direct"}
    network = prepared(recipe_of(tmp_path, "potential", **changes)).network
    assert network.direct_forces
    assert all(torch.equal(a, b) for a, b in zip(network.backbone.parameters(), before.backbone.parameters(), strict=True))


def test_a_network_without_elements_is_no_start(tmp_path: Path) -> None:
    build_propagator({"backbone": SMALL["hegnn"], "kinds": [1, 2]}, seed=0).save(str(tmp_path / "start"))
    with pytest.raises(PotentialFileError, match="holds a propagator, which has no backbone that knows elements"):
        prepared(recipe_of(tmp_path, "potential"))


def test_a_property_is_continued_where_head_unit_and_bins_allow(tmp_path: Path) -> None:
    before = started("property", SMALL["hegnn"], [1, 8], tmp_path / "start")
    frames = molecules()
    ready = prepared(recipe_of(tmp_path, "property", frames))
    network = ready.network
    assert "the whole network" in ready.notes[0]
    assert network.scale == before.scale
    own, old = (np.array([one.mean for one in each.eval().predict_many(frames)]) for each in (network, before))
    assert np.ptp(own - old) < 1e-5  # predictions are shifted
    assert abs(float(np.mean(own)) - np.mean([one.info["gap"] for one in frames])) < 0.2
    other = prepared(recipe_of(tmp_path, "property", data__unit="meV"))
    assert "its backbone alone, since its unit is eV, and that of the recipe meV" in other.notes[0]
    assert other.network.scale != before.scale
    bins = prepared(recipe_of(tmp_path, "property", property__head={"name": "distribution", "bins": 24}))
    assert "since its head is" in bins.notes[0]


def test_labels_beyond_the_bins_of_the_start_give_new_bins(tmp_path: Path) -> None:
    """A network whose bins hold the new labels keeps them; one with other labels is laid out anew."""
    head = PropertyHead(name="distribution", bins=24).config()
    config = {"backbone": SMALL["hegnn"], "elements": [1, 8], "head": head, "unit": "eV"}
    for scale, whole in ((1.0, True), (0.01, False)):
        network = build_property(config | {"scale": scale}, seed=0)
        network.save(str(tmp_path / "start"), overwrite=True)
        ready = prepared(recipe_of(tmp_path, "property", property__head=head))
        assert ("the whole network" in ready.notes[0]) == whole
        assert torch.equal(ready.network.head.edges, network.head.edges) == whole
        assert whole or "training labels lie outside of its bins" in ready.notes[0]


@pytest.mark.parametrize(
    ("name", "freeze"), [("hegnn", "backbone"), ("hegnn", 1), ("hegnn", 0), ("cg_egnn", 0), ("deq", "backbone")]
)
def test_frozen_weights_stay_bit_for_bit(tmp_path: Path, name: str, freeze: str | int) -> None:
    before = started("score" if name == "hegnn" else "property", SMALL[name], [1, 8], tmp_path / "start")
    result = train(recipe_of(tmp_path, "potential", fine_tuning__freeze=freeze, optimizer__max_epochs=1))
    tuned = load_potential(result.model)
    levels, layers = tuned.backbone.n_levels, tuned.backbone.layers_name
    above = () if freeze == "backbone" else tuple(f"{layers}.{k}." for k in range(int(freeze), levels))
    above += tuned.backbone.after_layers if above else ()
    learn = {one for one, value in tuned.backbone.named_parameters() if one.startswith(above) and above}
    for one, value in tuned.backbone.named_parameters():
        assert one in learn or torch.equal(value, before.backbone.get_parameter(one)), one
    old, new = before.backbone.state_dict(), tuned.backbone.state_dict()
    assert sum(not torch.equal(old[one], new[one]) for one in learn) >= 0.5 * len(learn)
    assert bool(learn) == (freeze == 0 or (freeze == 1 and name == "hegnn"))
    assert name != "cg_egnn" or {"radial.0.weight", "radial.2.weight"} <= learn  # they make weights of all layers
    assert f"fine_tuning.freeze is {freeze}: " in (result.model / "card.md").read_text()


@pytest.mark.parametrize("options", [SMALL["cg_egnn"], SMALL["deq"] | {"block": "cg_egnn", "l_max": 1}])
def test_what_makes_weights_of_all_layers_belongs_to_the_last(options: dict[str, Any]) -> None:
    backbone = build_backbone(options, n_species=2)
    names = [name for name, _ in backbone.named_parameters()]
    shared = [name for name in names if name.startswith(("radial.", "push", "stack.radial.", "stack.push"))]
    assert len(shared) == 5
    assert {backbone.layer_of(name) for name in shared} == {backbone.n_levels} == {2}
    assert [backbone.layer_of(name) for name in names if name.endswith("species.weight")] == [0]


def test_more_frozen_layers_than_there_are_are_refused(tmp_path: Path) -> None:
    started("property", SMALL["hegnn"], [1, 8], tmp_path / "start")
    with pytest.raises(RecipeError, match=r"fine_tuning\.freeze is 3, but the backbone has 2 layers; give at most 2"):
        train(recipe_of(tmp_path, "potential", fine_tuning__freeze=3))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_rates_fall_from_layer_to_layer(tmp_path: Path, name: str) -> None:
    started("property", SMALL[name], [1, 8], tmp_path / "start")
    recipe = recipe_of(tmp_path, "potential", fine_tuning__layer_decay=0.5)
    ready = prepared(recipe)
    module = TrainingModule("potential", ready.network, ready.objective, recipe)
    optimizer = module.configure_optimizers()
    names = {id(p): one for one, p in ready.network.named_parameters()}
    rate_of = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate_of.keys() == {one for one, p in ready.network.named_parameters() if p.requires_grad}
    levels = ready.network.backbone.n_levels
    assert levels == SMALL[name].get("n_layers", 2)  # a fixed point has one layer before it and one in it
    for one, rate in rate_of.items():
        if one.startswith("heads."):
            depth = levels + 1
        elif name == "deq":
            part = one.removeprefix("backbone.")
            depth = 2 if part.startswith(("map.", "stack.widen")) else int(part.startswith("stack.layers."))
        elif one.startswith("backbone.") and f"{ready.network.backbone.layers_name}." in one:
            depth = int(one.split(f"{ready.network.backbone.layers_name}.")[1].partition(".")[0]) + 1
        else:
            depth = levels if one.split(".")[1] in ready.network.backbone.after_layers else 0
        assert rate == pytest.approx(0.01 * 0.5 ** (levels + 1 - depth)), one
    decays = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert set(decays.values()) == {0.0, 0.1}


def test_lower_layers_move_less(tmp_path: Path) -> None:
    """Adam's first step is as long as the rate, so that lengths of steps tell the rates that were used."""
    before = started("property", SMALL["hegnn"], [1, 8], tmp_path / "start")
    changes = {"fine_tuning__layer_decay": 0.1, "optimizer__max_epochs": 1, "optimizer__batch_size": 18}
    changes |= {"optimizer__weight_decay": 0.0, "optimizer__ema_decay": None, "optimizer__schedule": "constant"}
    tuned = load_potential(train(recipe_of(tmp_path, "potential", **changes)).model)
    for one, rate in (("layers.1.edge", 1e-3), ("layers.0.edge", 1e-4), ("species.weight", 1e-5)):
        step = (tuned.backbone.get_parameter(one) - before.backbone.get_parameter(one)).detach().abs().max()
        assert float(step) == pytest.approx(rate, rel=0.05), one


@pytest.mark.parametrize("kind", ["property"])
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, kind: str, child: Callable[..., Child]) -> None:
    started("score", SMALL["hegnn"], [1, 8], tmp_path / "start")
    changes = {"fine_tuning__freeze": 0, "fine_tuning__layer_decay": 0.5, "optimizer__max_epochs": 10}
    whole = train(recipe_of(tmp_path, kind, **changes), output=tmp_path / "whole")
    recipe = recipe_of(tmp_path, kind, **changes)
    process = child(lambda: train(recipe, output=tmp_path / "killed"))
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    while not last.exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed = train(recipe, output=tmp_path / "killed", resume=True)
    one, other = ((load_potential if kind == "potential" else load_property)(each.model) for each in (whole, resumed))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_replaced_start_is_not_resumed_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = started("property", SMALL["hegnn"], [1, 8], tmp_path / "start")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(recipe_of(tmp_path, "property"))
    with torch.no_grad():
        before.backbone.species.weight += 1.0
    before.save(str(tmp_path / "start"), overwrite=True)
    with pytest.raises(TrainingError, match="the network that fine_tune_from names was replaced since this run began"):
        train(recipe_of(tmp_path, "property"), resume=True)


@pytest.mark.slow
def test_compiled_training_leaves_frozen_weights(tmp_path: Path) -> None:
    before = started("property", SMALL["hegnn"], [1, 8], tmp_path / "start")
    changes = {"fine_tuning__freeze": "backbone", "trainer__compile": True, "optimizer__max_epochs": 3}
    tuned = load_potential(train(recipe_of(tmp_path, "potential", **changes)).model)
    changes = {"fine_tuning__freeze": "backbone", "optimizer__max_epochs": 3}
    eager = load_potential(train(recipe_of(tmp_path, "potential", **changes), output=tmp_path / "eager").model)
    assert all(torch.equal(a, b) for a, b in zip(tuned.backbone.parameters(), before.backbone.parameters(), strict=True))
    for name, value in eager.heads.state_dict().items():
        assert torch.allclose(tuned.heads.state_dict()[name], value, rtol=1e-3, atol=1e-4), name
