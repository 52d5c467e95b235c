"""What follows from a predicted matrix: that of the SCF where the prediction is the SCF's, alike in batches of any kinds."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

pytest.importorskip("pyscf")

from mlff_calc.electronic import predict_properties
from mlff_calc.electronic.orbitals import OrbitalBasis
from mlff_calc.electronic.scf.mean_field import mean_field
from mlff_calc.electronic.scf.observables import DEBYE
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import OptionError, SimulationError, StructureError, UnknownElementError

from .fakes import NoisyModel, frames

LEVEL = SCFSettings("pbe", "sto-3g", grid_level=0, conv_tol=1e-12)


def test_an_exact_matrix_gives_the_scf() -> None:
    atoms, model = frames(1)[0], NoisyModel(LEVEL, 0.0)
    mf = mean_field(atoms, LEVEL)
    mf.kernel()
    found = predict_properties(model, [atoms], energy=True)[0]
    assert found.energy == pytest.approx(mf.e_tot, abs=1e-9)
    assert found.properties.gap == pytest.approx(mf.mo_energy[5] - mf.mo_energy[4], abs=1e-5)
    np.testing.assert_allclose(found.properties.dipole / DEBYE, mf.dip_moment(verbose=0), atol=1e-5)
    np.testing.assert_allclose(found.properties.mulliken_charges, mf.mulliken_pop(verbose=0)[1], atol=1e-5)
    assert found.initial is None
    assert model.seen[0][0] is not None


def test_batches_of_several_kinds_are_the_same_as_single_molecules() -> None:
    model = NoisyModel(LEVEL, 0.0, needs_initial=True)
    molecules = [frames(2)[0], molecule("H2"), frames(2)[1]]
    together = predict_properties(model, molecules)
    for atoms, one in zip(molecules, together, strict=True):
        alone = predict_properties(model, [atoms])[0]
        for name in ("orbital_energies", "dipole", "mulliken_charges", "loewdin_charges", "density"):
            np.testing.assert_allclose(getattr(one.properties, name), getattr(alone.properties, name), atol=1e-10)
        assert one.initial is not None
        assert one.energy is None
        assert one.properties.mulliken_charges.sum() == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize(
    ("atoms", "error", "match"),
    [
        (molecule("CH4"), UnknownElementError, "CH4 has C; the model knows H, O"),
        (Atoms("OH3", np.eye(4)[:, :3], info={"charge": 1}), StructureError, "charge of 1 e, and the model was"),
        (Atoms("OH2", frames(1)[0].positions, cell=[9, 9, 9], pbc=True), StructureError, "periodic"),
        (Atoms("OH", [[0, 0, 0], [0, 0, 1]]), StructureError, "odd"),
    ],
)
def test_other_molecules_are_refused(atoms: Atoms, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        predict_properties(NoisyModel(LEVEL, 0.0), [atoms])


def test_models_of_unknown_or_other_levels_are_refused() -> None:
    model = NoisyModel(LEVEL, 0.0)
    model.basis = OrbitalBasis.from_dict({"name": "sto-3g", "shells": {"1": [0, 0], "8": [0, 0, 1]}})
    with pytest.raises(OptionError, match=r"has the shells \[0\] of H"):
        predict_properties(model, frames(1))
    with pytest.raises(OptionError, match="does not say at which level"):
        predict_properties(NoisyModel(None, 0.0), frames(1))


def test_a_matrix_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(SimulationError, match="H2O is not finite"):
        predict_properties(NoisyModel(LEVEL, np.nan), frames(1))
