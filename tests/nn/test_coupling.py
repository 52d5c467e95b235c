"""The stored Clebsch-Gordan coefficients equal e3nn's, and are used without importing e3nn."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from mlff_calc.nn.coupling import HIGHEST_DEGREE, raising, three_j


@pytest.mark.parametrize("degree", range(1, HIGHEST_DEGREE + 1))
def test_the_tables_are_those_of_e3nn(degree: int) -> None:
    o3 = pytest.importorskip("e3nn.o3")
    assert torch.equal(raising(degree), o3.wigner_3j(degree - 1, 1, degree, dtype=torch.float64))


def test_a_table_that_is_changed_stays_as_it_is_for_others() -> None:
    raising(3).zero_()
    assert raising(3).abs().sum() > 0.0


def test_a_calculator_starts_without_e3nn() -> None:
    code = "import sys, mlff_calc; mlff_calc.MLFFCalculator('ethanol'); sys.exit('e3nn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 2), (3, 3)])
def test_tables_of_two_degrees_are_those_of_e3nn(first: int, second: int) -> None:
    o3 = pytest.importorskip("e3nn.o3")
    for degree in range(abs(first - second), first + second + 1):
        wanted = o3.wigner_3j(first, second, degree, dtype=torch.float64)
        assert torch.equal(three_j(first, second, degree), wanted)
