"""The box passed to libraries contains all atoms for any cell of the user."""

from __future__ import annotations

import numpy as np
import pytest

from mlff_calc.graph.box import checked_arrays, enclosing_box


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (0, 1, 0), (0, 0, 0)])
def test_atoms_lie_inside_the_box(pbc: tuple[int, int, int]) -> None:
    """Cells are slanted, with and without an empty layer; shortening slanted vectors could leave atoms outside."""
    rng = np.random.default_rng(0)
    cut = 0
    for trial in range(200):
        cell = np.diag([5.0, 6.0, 30.0]) + rng.normal(size=(3, 3)) * [[0.5], [0.5], [8.0]]
        positions = rng.uniform(0, [1, 1, 0.3 if trial % 2 else 1.0], (12, 3)) @ cell + rng.normal(size=3) * 20
        xyz, box, flags = checked_arrays(positions, cell, pbc)
        enclosing = enclosing_box(xyz, box, flags, cutoff=4.0)
        fractional = enclosing.positions @ np.linalg.inv(enclosing.cell)
        assert fractional.min() > -1e-12
        assert fractional.max() < 1.0 + 1e-12
        cut += bool((enclosing.periodic != flags).any())
        along = flags & enclosing.periodic
        if enclosing.periodic.all():
            np.testing.assert_allclose(enclosing.positions, xyz - enclosing.wraps @ box, atol=1e-9)
        assert not enclosing.wraps[:, ~flags].any()
        np.testing.assert_array_equal(enclosing.cell[along], box[along])
    assert cut >= 90 or not pbc[2]
