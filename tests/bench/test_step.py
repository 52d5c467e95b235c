"""Timing of a step, in tiny settings."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from ase import Atoms

from mlff_calc.bench import build_system, make_calculator, moving_frames, random_config, time_system
from mlff_calc.bench.step import time_steps
from mlff_calc.bench.threads import limited_threads
from mlff_calc.calculators import MLFFCalculator
from mlff_calc.errors import OptionError
from mlff_calc.graph import neighbor_pairs

SMALL = {"backbone": {"name": "equiformer", "cutoff": 4.0, "channels": 4, "heads": 2, "n_layers": 1, "l_max": 1}}


def small_calculator():
    return make_calculator(None, {**SMALL, "elements": [1, 6, 8]})


def test_parts_fit_into_the_whole() -> None:
    atoms = build_system("ethanol")
    times = time_steps(atoms, small_calculator(), moving_frames(atoms, 12))
    assert all(len(values) == 12 for values in times.values())
    assert (times["neighbors"] > 0).all()
    assert (times["model"] > 0).all()
    assert (times["neighbors"] + times["model"] + times["copies"] <= times["total"]).all()
    assert atoms.calc is None
    assert (times["outside"] > 0).all()
    assert (times["outside"] < times["total"]).all()


def test_processor_time_in_the_model_is_not_outside_of_it() -> None:
    class Slow(torch.nn.Module):
        elements, cutoff, precision = (1, 6, 8), 4.0, "float32"

        def to_precision(self, precision: str) -> Slow:
            return self

        def forward(self, graph: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass
            n_atoms = len(graph["atomic_numbers"])
            return {"energy": torch.zeros(1), "energies": torch.zeros(n_atoms), "forces": torch.zeros(n_atoms, 3)}

    atoms, calculator = build_system("ethanol"), MLFFCalculator(Slow(), device="cpu")
    times = time_steps(atoms, calculator, moving_frames(atoms, 8))
    assert (times["model"] > 0.02).all()
    assert np.median(times["outside"]) < 0.01
    assert "_outputs" not in vars(calculator)


def test_skin_steps_and_rebuilding_steps_both_occur() -> None:
    atoms = build_system("ethanol")
    times = time_steps(atoms, small_calculator(), moving_frames(atoms, 150))
    assert times["rebuilds"][0] == 1
    assert 2 <= times["rebuilds"].sum() <= 75
    far = time_steps(atoms, small_calculator(), moving_frames(atoms, 10, step_rms=0.2))
    assert far["rebuilds"].sum() >= 5


def test_every_step_is_a_calculation() -> None:
    atoms = build_system("ethanol")
    calculator = small_calculator()
    time_steps(atoms, calculator, moving_frames(atoms, 7))
    assert calculator.stats.n_calls == 7


def test_time_system_reports_sizes_and_consistent_figures() -> None:
    timing = time_system("ethanol", steps=3)
    atoms = build_system("ethanol")
    assert timing.n_atoms == 9
    assert timing.steps == 3
    assert timing.min_ms <= timing.low_ms <= timing.total_ms <= timing.high_ms
    assert timing.us_per_edge == pytest.approx(1e3 * timing.total_ms / timing.n_edges)
    assert timing.ms_per_atom == pytest.approx(timing.total_ms / 9)
    n_edges = len(neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, timing.cutoff).centers)
    assert timing.n_edges == pytest.approx(n_edges, abs=6)  # since the atoms have moved


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()

    def fail_on_two_threads() -> None:
        with limited_threads(before + 1):
            raise RuntimeError(f"on {torch.get_num_threads()} threads")

    with pytest.raises(RuntimeError, match=f"on {before + 1} threads"):
        fail_on_two_threads()
    assert torch.get_num_threads() == before


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(OptionError, match="0 steps"):
        time_system("ethanol", steps=0)
    with pytest.raises(OptionError, match="0 threads"):
        time_system("ethanol", threads=0, steps=1)


def test_random_weights_repeat() -> None:
    config = random_config(Atoms("Si2"))
    assert config["elements"] == [14]
    atoms = build_system("ethanol")
    forces = []
    for _ in range(2):
        copy = atoms.copy()
        copy.calc = small_calculator()
        forces.append(copy.get_forces())
    np.testing.assert_array_equal(*forces)
