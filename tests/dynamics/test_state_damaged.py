"""States with entries of the wrong type raise one clear error."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from mlff_calc.dynamics import EnsembleOptions, RunOptions
from mlff_calc.dynamics.ensembles import build_integrator, set_internals
from mlff_calc.dynamics.options import from_dict, to_dict
from mlff_calc.dynamics.random_state import generator_state
from mlff_calc.dynamics.state import RunState, _sealed, load_state
from mlff_calc.dynamics.velocities import set_maxwell_velocities
from mlff_calc.errors import OptionError, SimulationError


def rewrite(state: Path, **changes: Any) -> None:
    """Change entries, and write a matching checksum."""
    content = json.loads(state.read_text()) | changes
    del content["sha256"]
    state.write_text(_sealed(json.dumps(content)))


VALUES = [None, -1, "x", [1], 1.5, True]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    RunState(atoms=molecule("H2O"), options={"a": 1}, step=3).save(path, sync=False)
    assert load_state(path).step == 3
    return path


@pytest.mark.parametrize("key", ["atoms", "options", "step", "internals", "rng", "fit", "trajectory", "log_size"])
@pytest.mark.parametrize("value", VALUES)
def test_entries_of_another_kind(state: Path, key: str, value: Any) -> None:
    rewrite(state, **{key: value})
    with pytest.raises(SimulationError, match="Start over with --overwrite"):
        load_state(state)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "3", '{"format_version": ' + "9" * 5000 + "}", "\0"])
def test_no_state_at_all(state: Path, text: str) -> None:
    state.write_text(text)
    with pytest.raises(SimulationError, match="is not a saved state"):
        load_state(state)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(SimulationError, match="is a pipe"):
        load_state(tmp_path / "state.json")


@pytest.mark.parametrize("place", range(0, 1000, 37))
def test_one_bit_is_noticed(state: Path, place: int) -> None:
    content = bytearray(state.read_bytes())
    content[place % len(content)] ^= 1
    state.write_bytes(bytes(content))
    with pytest.raises(SimulationError, match="tart over with --overwrite"):
        load_state(state)


def test_states_without_a_checksum_are_read(state: Path) -> None:
    content = json.loads(state.read_text())
    del content["sha256"]
    state.write_text(json.dumps(content))
    assert load_state(state).step == 3


def _ndarray(values: list[float], shape: list[int]) -> dict[str, Any]:
    return {"__ndarray__": [shape, "float64", values]}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "shape"), [("positions", [3, 3]), ("cell", [3, 3]), ("momenta", [3, 3])])
def test_structures_that_are_not_finite(state: Path, name: str, shape: list[int], number: float) -> None:
    atoms = json.loads(state.read_text())["atoms"]
    rewrite(state, atoms=atoms | {name: _ndarray([number] * 9, shape)})
    with pytest.raises(SimulationError, match=f"{name} are not finite"):
        load_state(state)


RNG = generator_state(np.random.default_rng(1))


@pytest.mark.parametrize(
    "change",
    [{"bit_generator": "MT19937"}, {"state": 3}, {"state": {"state": "x", "inc": 1}}, {"has_uint32": "x"}],
)
def test_random_numbers_of_another_kind(state: Path, change: dict[str, Any]) -> None:
    rewrite(state, rng=RNG)
    assert load_state(state).rng == RNG
    rewrite(state, rng=RNG | change)
    with pytest.raises(SimulationError, match=r"random numbers.*damaged"):
        load_state(state)


@pytest.mark.parametrize(
    ("name", "value"),
    [("timestep_fs", None), ("temperature_K", "300"), ("steps", 2.5), ("compiled", 1), ("seed", True), ("seed", 10**30)],
)
def test_options_of_another_type(name: str, value: object) -> None:
    options = to_dict(EnsembleOptions(), RunOptions(steps=3))
    assert from_dict(options)[1].steps == 3
    with pytest.raises(OptionError, match=f"saved option {name} is"):
        from_dict(options | {name: value})


@pytest.mark.parametrize("value", ["x", [1.0, 2.0], float("inf"), None, {}])
def test_internals_of_another_kind(value: object) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    set_maxwell_velocities(atoms, 300.0, seed=1, conserves_momentum=True)
    options = EnsembleOptions(ensemble="bussi")
    dynamics = build_integrator(atoms, options, np.random.default_rng(0))
    set_internals(dynamics, "bussi", {"transferred_energy": 0.5})
    assert dynamics.transferred_energy == 0.5
    with pytest.raises(SimulationError, match="for transferred_energy, which is not a valid value"):
        set_internals(dynamics, "bussi", {"transferred_energy": value})
