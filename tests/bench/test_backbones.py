"""`mlff bench backbones`: ratios within rounds, operators, names of backbones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mlff_calc.backbones import build_backbone
from mlff_calc.bench import backbones as timing
from mlff_calc.errors import OptionError


def test_names_of_backbones() -> None:
    found = timing.parse_backbones("hegnn:0, cg_egnn")
    assert found == {"hegnn:0": {"name": "hegnn", "l_max": 0}, "cg_egnn": {"name": "cg_egnn"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "names no backbone"), ("hegn", "cg_egnn"), ("hegnn:x", "as in hegnn:3"), ("hegnn:-1", "as in hegnn:3")],
)
def test_other_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        timing.parse_backbones(text)


def test_a_backbone_costs_as_much_as_itself_and_less_than_twice_as_deep() -> None:
    same = {"name": "hegnn", "l_max": 0, "channels": 16}
    rows = timing.time_forces(
        {"one": same, "again": same, "deep": {**same, "n_layers": 16}}, ["si8"], rounds=5, compiled=False
    )
    assert [row["backbone"] for row in rows] == ["one", "again", "deep"]
    assert rows[0]["ratio"] == 1.0
    assert rows[2]["ratio"] > rows[1]["ratio"]
    assert all(row["min_ms"] <= row["ms"] for row in rows)


def test_a_step_of_motion_trains_the_layers() -> None:
    network = build_backbone({"name": "hegnn", "cutoff": 9.0, "moves": True, "n_layers": 1}, n_species=1)
    graph = timing.bodies(network.channels)
    assert graph["edge_index"].shape == (2, 2000)
    assert not (graph["edge_index"][0] == graph["edge_index"][1]).any()
    assert (graph["edge_index"][0] // 5 == graph["edge_index"][1] // 5).all()
    timing._training(network, graph)()
    assert all(torch.isfinite(weight.grad).all() for weight in network.layers.parameters())
    assert network.layers[0].gate_weight.grad[:, -1].abs().max() > 0  # the gate that moves atoms


def test_operators_of_a_step() -> None:
    rows = timing.profile_operators(timing.force_step({"name": "hegnn", "l_max": 0, "n_layers": 1}, "ethanol"), 5)
    assert rows[0]["operator"] == "(all)"
    assert len(rows) == 6
    assert sum(row["ms"] for row in rows[1:]) <= rows[0]["ms"] + 1e-9
    assert any("mm" in row["operator"] for row in rows)


@pytest.mark.slow
def test_command(tmp_path: Path, mlff: Callable) -> None:
    file = tmp_path / "b.json"
    words = ["--motion", "--backbones", "hegnn:0,hegnn:1", "--rounds", "1", "--operators", "3", "--json", str(file)]
    done = mlff("bench", "backbones", *words)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert [row["backbone"] for row in result["rows"]] == ["hegnn:0", "hegnn:1"]
    assert list(result["operators"]) == ["hegnn:0", "hegnn:1"]
    assert "100 x 5 bodies" in done.stdout
    refused = mlff("bench", "backbones", "--motion", "--compile")
    assert refused.returncode == 1
    assert "leave one of them out" in refused.stderr
