"""Measurements in separate processes."""

from __future__ import annotations

import pytest

from mlff_calc.bench.scaling import flatness, in_child, measure_memory, measure_scaling
from mlff_calc.errors import BenchmarkError, OptionError


def test_memory_of_a_step_grows_with_the_structure() -> None:
    rows = measure_scaling((8, 512), steps=1, threads=1)
    assert [row["n_atoms"] for row in rows] == [8, 512]
    assert rows[1]["memory_mib"] > rows[0]["memory_mib"] > 50.0
    assert rows[1]["bytes_per_edge"] > 100.0
    assert flatness(rows) > 0.0


def test_memory_of_training_is_measured() -> None:
    (row,) = measure_memory(["ethanol"], [3], steps=1, threads=1)
    assert row["n_atoms"] == 27
    assert row["memory_mib"] > row["base_mib"] > 50.0


def test_flatness() -> None:
    assert flatness([{"ms_per_atom": 1.0}, {"ms_per_atom": 1.15}, {"ms_per_atom": 1.1}]) == pytest.approx(0.15)


def test_bad_requests() -> None:
    with pytest.raises(OptionError, match="100 atoms"):
        measure_scaling((8, 100))
    with pytest.raises(OptionError, match="no sizes"):
        measure_scaling(())
    with pytest.raises(OptionError, match="batch sizes"):
        measure_memory(["ethanol"], [0])


def test_a_failed_child_gives_the_reason() -> None:
    with pytest.raises(BenchmarkError, match=r"measuring si8 failed with status 1: .*unknown precision"):
        in_child(task="step", system="si8", steps=1, threads=1, precision="float8")
