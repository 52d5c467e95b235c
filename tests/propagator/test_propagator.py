"""Propagators of every backbone: symmetry, batches, limits, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlff_calc.backbones import available_backbones
from mlff_calc.datasets.motion import MotionSample
from mlff_calc.errors import PotentialFileError, RecipeError, StructureError
from mlff_calc.graph import collate, validate_graph
from mlff_calc.potential import build_potential, load_potential
from mlff_calc.propagator import (
    Propagator,
    build_propagator,
    load_propagator,
    longest_edge,
    motion_graph,
    scales_of,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "equiformer": {"l_max": 2, "channels": 8, "n_layers": 1, "heads": 2},
    "deq": {"l_max": 1, "channels": 8, "tolerance": 1e-12, "max_evaluations": 200},
    "hegnn": {"l_max": 3, "channels": 8, "n_layers": 2},
    "hegnn, moves": {"l_max": 3, "channels": 8, "n_layers": 2, "moves": True},
    "egnn": {"l_max": 0, "channels": 8, "n_layers": 2, "moves": True},
    "egnn, fixed": {"l_max": 0, "channels": 8, "n_layers": 2},
    "cg_egnn": {"channels": 6, "n_layers": 1},
    "cg_egnn, moves": {"channels": 6, "n_layers": 2, "hops": 1, "moves": True},
}
"""Options by name. The first word of a name is the backbone, and `egnn` is hegnn without degrees."""

Make = Callable[..., MotionSample]


def build(name: str, **options: Any) -> Propagator:
    backbone = name.split(",")[0]
    config = {
        "backbone": {"name": "hegnn" if backbone == "egnn" else backbone, "cutoff": 8.0, **OPTIONS[name]},
        "kinds": [1, 2],
        "n_scalars": 1,
        "n_edge_scalars": 1,
        "predict_velocities": True,
    }
    return build_propagator(config | options, seed=3).to_precision("float64").eval()


def outputs(propagator: Propagator, sample: MotionSample) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in propagator(motion_graph(sample)).items()}


def test_every_backbone_is_here() -> None:
    assert set(available_backbones()) <= {name.split(",")[0] for name in OPTIONS}


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_results_turn_mirror_and_shift_with_the_input(name: str, centre: bool, make_sample: Make) -> None:
    propagator, sample = build(name, centre=centre), make_sample()
    random = np.random.default_rng(1)
    turn, shift = np.linalg.qr(random.normal(size=(3, 3)))[0], random.normal(size=3)
    for matrix in (turn, -turn):
        moved = replace(sample, positions=sample.positions @ matrix.T + shift, velocities=sample.velocities @ matrix.T)
        before, after = outputs(propagator, sample), outputs(propagator, moved)
        expected = before["positions"].numpy() @ matrix.T + shift
        np.testing.assert_allclose(after["positions"].numpy(), expected, atol=1e-9)
        np.testing.assert_allclose(after["velocities"].numpy(), before["velocities"].numpy() @ matrix.T, atol=1e-9)


@pytest.mark.parametrize("name", OPTIONS)
def test_all_inputs_change_the_outputs(name: str, make_sample: Make) -> None:
    propagator, sample = build(name), make_sample()
    before = outputs(propagator, sample)["positions"] - torch.from_numpy(sample.positions)
    changes = {
        "velocities": sample.velocities[::-1].copy(),
        "scalars": -sample.scalars,
        "edge_scalars": -sample.edge_scalars,
        "kinds": 3 - sample.kinds,
        "horizon": 2.0,
    }
    for field, value in changes.items():
        after = outputs(propagator, replace(sample, **{field: value}))["positions"] - torch.from_numpy(sample.positions)
        assert (after - before).abs().max() > 1e-4, field


@pytest.mark.parametrize("seed", range(8))
def test_velocities_do_not_cancel_where_channels_of_vectors_are_added_up(seed: int) -> None:
    config = {"backbone": {"name": "hegnn", "channels": 64, "n_layers": 1}, "kinds": [1]}
    propagator = build_propagator(config, seed=seed)
    heard = propagator.vectors @ propagator.backbone.fold
    assert heard.abs().min() > 3.0  # with random signs it would be of order one, and near zero for some seeds


@pytest.mark.parametrize("name", OPTIONS)
def test_a_batch_gives_what_its_systems_give(name: str, make_sample: Make) -> None:
    propagator = build(name)
    samples = [make_sample(5, 0), make_sample(3, 1), make_sample(5, 2)]
    batch = collate([motion_graph(sample) for sample in samples])
    validate_graph(batch)
    together = propagator(batch)["positions"]
    alone = torch.cat([outputs(propagator, sample)["positions"] for sample in samples])
    torch.testing.assert_close(together, alone, atol=1e-9, rtol=0.0)


@pytest.mark.parametrize("name", OPTIONS)
def test_order_of_particles_and_edges_does_not_matter(name: str, make_sample: Make) -> None:
    propagator, sample = build(name), make_sample()
    order = np.random.default_rng(5).permutation(5)
    place = np.argsort(order)
    edges = np.random.default_rng(6).permutation(sample.edges.shape[1])
    shuffled = replace(
        sample,
        positions=sample.positions[order],
        velocities=sample.velocities[order],
        kinds=sample.kinds[order],
        scalars=sample.scalars[order],
        edges=place[sample.edges[:, edges]],
        edge_scalars=sample.edge_scalars[edges],
    )
    expected = outputs(propagator, sample)["positions"][torch.from_numpy(order)]
    torch.testing.assert_close(outputs(propagator, shuffled)["positions"], expected, atol=1e-9, rtol=0.0)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("n", [1, 4])
def test_particles_without_edges_move_by_their_velocities_alone(name: str, n: int, make_sample: Make) -> None:
    sample = make_sample(n)
    bare = replace(sample, edges=np.zeros((2, 0), dtype=np.int64), edge_scalars=np.zeros((0, 1)))
    moved = outputs(build(name), bare)["positions"].numpy() - sample.positions
    assert np.isfinite(moved).all()
    np.testing.assert_allclose(np.cross(moved, sample.velocities), 0.0, atol=1e-9)


@pytest.mark.parametrize("kind", [3, 118, 119, 0, -1])
@pytest.mark.parametrize("name", OPTIONS)
def test_unknown_kinds_are_refused(name: str, kind: int, make_sample: Make) -> None:
    propagator, graph = build(name), motion_graph(make_sample())
    graph["atomic_numbers"][2] = kind
    with pytest.raises(StructureError, match=rf"particle 2 is of kind {kind}, and the propagator knows 1 2; take data"):
        propagator(graph)


@pytest.mark.parametrize("name", OPTIONS)
def test_unchecked_unknown_kinds_raise_an_error(
    name: str, make_sample: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled code does not check kinds, so that unknown kinds must not give those of others."""
    propagator, graph = build(name), motion_graph(make_sample())
    graph["atomic_numbers"][2] = 3
    monkeypatch.setattr(propagator, "check_kinds", lambda numbers: None)
    with pytest.raises(IndexError, match="index out of range"):
        propagator(graph)


@pytest.mark.slow
def test_unknown_kinds_are_no_others_where_compiled(make_sample: Make) -> None:
    small = {"name": "hegnn", "cutoff": 8.0, "l_max": 0, "channels": 4, "n_layers": 1}
    compiled, graph = torch.compile(build("egnn", backbone=small), fullgraph=True), motion_graph(make_sample())
    with torch.no_grad():
        compiled(graph)
        graph["atomic_numbers"][2] = 3
        with pytest.raises(RuntimeError, match="out of bounds"):
            compiled(graph)


def test_nothing_is_known_of_edges() -> None:
    propagator = build("hegnn", n_scalars=0, n_edge_scalars=0)
    assert propagator.edges.shape == (0, 8)


def test_folder_and_back(tmp_path: Path, make_sample: Make) -> None:
    propagator = build("hegnn").to_precision("float32")
    propagator.save(tmp_path / "p", card="# A test\n")
    found = load_propagator(tmp_path / "p")
    assert found.config == propagator.config
    assert torch.equal(
        found(motion_graph(make_sample()))["positions"], propagator(motion_graph(make_sample()))["positions"]
    )
    with pytest.raises(PotentialFileError, match="holds a propagator, not a potential; use load_propagator"):
        load_potential(tmp_path / "p")
    config = {"backbone": {"name": "equiformer", "channels": 8, "heads": 2}, "elements": ["H"]}
    build_potential(config, seed=0).save(tmp_path / "q")
    with pytest.raises(PotentialFileError, match="holds a potential, not a propagator"):
        load_propagator(tmp_path / "q")
    with pytest.raises(PotentialFileError, match="is not a propagator"):
        load_propagator(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": [1]}, "unknown option 'kind' of a propagator.*did you mean 'kinds'"),
        ({"kinds": []}, "needs 'kinds'"),
        ({"kinds": [0]}, "kinds holds 0"),
        ({"length_scale": 0.0}, "length_scale of a propagator is 0.0"),
        ({"drift_share": float("nan")}, "drift_share of a propagator is nan"),
        ({"n_scalars": -1}, "n_scalars of a propagator is -1"),
        ({"centre": 1}, "centre of a propagator is 1"),
        ({"backbone": {"name": "egnn"}}, "unknown backbone 'egnn'.*did you mean 'cg_egnn'|hegnn"),
    ],
)
def test_a_wrong_configuration_is_refused(change: dict[str, Any], message: str) -> None:
    config: dict[str, Any] = {"backbone": {"name": "hegnn"}, "kinds": [1]}
    with pytest.raises(RecipeError, match=message):
        build_propagator(config | change)


def test_bad_samples_are_refused(make_sample: Make) -> None:
    sample = make_sample()
    for field in ("positions", "velocities"):
        broken = getattr(sample, field).copy()
        broken[2, 1] = np.nan
        with pytest.raises(StructureError, match=f"seed 0: {field} of number 2 are not finite"):
            motion_graph(replace(sample, **{field: broken}))
    same = sample.positions.copy()
    same[3] = same[1]
    with pytest.raises(StructureError, match="particles 1 and 3 are at the same place"):
        motion_graph(replace(sample, positions=same))
    with pytest.raises(StructureError, match=r"an edge names particle [5-7] of 5"):
        motion_graph(replace(sample, edges=sample.edges + 3))


def test_a_sample_out_of_this_world_is_refused(make_sample: Make) -> None:
    sample = make_sample()
    for value in (1e200, np.nan):
        far = sample.target_positions.copy()
        far[1, 0] = value
        with pytest.raises(StructureError, match=r"seed 0: a particle moves by 1e.12 lengths or more"):
            scales_of([sample, replace(sample, target_positions=far)])


def test_scales(make_sample: Make) -> None:
    samples = [make_sample(5, seed) for seed in range(50)]
    scales = scales_of(samples)
    assert scales["drift_share"] == pytest.approx(1.0, abs=0.02)
    assert scales["length_scale"] == pytest.approx(0.1, rel=0.1)
    assert scales["drift_scale"] == pytest.approx(0.5, rel=0.1)
    assert scales["speed_scale"] == pytest.approx(0.05, rel=0.1)
    assert scales["scalar_scale"] == pytest.approx(1.0)
    assert scales_of([replace(samples[0], scalars=4.0 * samples[0].scalars)])["scalar_scale"] == pytest.approx(4.0)
    lengths = [np.linalg.norm(s.positions[i] - s.positions[j]) for s in samples for i, j in s.edges.T]
    assert longest_edge(samples) == pytest.approx(max(lengths))


def test_a_propagator_starts_at_the_best_constant_velocity_step(make_sample: Make) -> None:
    samples = [make_sample(5, seed) for seed in range(8)]
    scales = scales_of(samples) | {"length_scale": 1e-9}
    propagator = build("hegnn", **scales)
    for sample in samples:
        moved = outputs(propagator, sample)["positions"].numpy() - sample.positions
        np.testing.assert_allclose(moved, scales["drift_share"] * sample.velocities, atol=1e-6)
