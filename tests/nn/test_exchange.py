"""Operators that engines replace: identities in one process, transposes of each other, equal for all definitions."""

from __future__ import annotations

import subprocess
import sys

import torch

from mlff_calc.nn.exchange import all_sum, exchange


def test_one_process_holds_every_neighbour() -> None:
    features = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True)
    assert exchange(features, None) is features
    found = exchange(features, torch.zeros(5))
    assert torch.equal(found, features)
    assert found.data_ptr() != features.data_ptr()
    (gradient,) = torch.autograd.grad((found**2).sum(), features)
    torch.testing.assert_close(gradient, 2.0 * features.detach())
    values = torch.randn(3, dtype=torch.float64)
    assert torch.equal(all_sum(values), values)


def test_ghosts_need_an_engine() -> None:
    """This test runs in a separate process, since a LAMMPS in this process may have registered its kernels."""
    code = "import torch; from mlff_calc.nn.exchange import exchange; exchange(torch.zeros(5, 2), torch.zeros(7))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode != 0
    assert "StructureError" in done.stderr
    assert "run it in LAMMPS" in done.stderr


def test_the_operators_keep_torchs_rules() -> None:
    features = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.mlff.exchange.default, (features, torch.zeros(5)))
    torch.library.opcheck(torch.ops.mlff.exchange_reverse.default, (features.detach(), torch.zeros(5)))
    torch.library.opcheck(torch.ops.mlff.all_sum.default, (features.detach(),))


def test_an_engine_may_have_defined_them_before() -> None:
    """A Python process may load LAMMPS with the plugin before it imports the package."""
    code = (
        "import torch\n"
        "torch.library.define('mlff::exchange', '(Tensor features, Tensor nodes) -> Tensor')\n"
        "torch.library.impl('mlff::exchange', 'CPU', lambda features, nodes: features + 1.0)\n"
        "from mlff_calc.nn.exchange import exchange, all_sum\n"
        "assert exchange(torch.zeros(2), torch.zeros(2)).sum() == 2.0\n"
        "assert all_sum(torch.ones(1)).item() == 1.0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
