"""A linear ACE, fitted to energies and forces; it runs in the environment of `python-ace`.

    python ace_fit.py TRAIN.extxyz FUNCTIONS CUTOFF OUTPUT.yace

Reference energies per element are fitted first, by least squares. The row of an energy (per atom) counts `ENERGY_WEIGHT`
times as much as that of a force component. OUTPUT holds the C-tilde basis, the form ACE is evaluated in, and the file
beside it, with the ending json, the reference energies. FUNCTIONS is the number of basis functions per element.

Source: Drautz, Phys. Rev. B 99, 014104 (2019).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

ENERGY_WEIGHT = 30.0
"""Weight of an energy per atom (eV) beside that of a force component (eV/Angstrom); larger values favour energies."""
RIDGE = 1e-4
"""Strength of the regularization; larger values make smaller coefficients."""
N_RADIAL = [15, 6, 4, 3, 2, 2]
L_MAX = [0, 5, 4, 3, 1, 0]
"""Radial functions and degree at most, by order of the correlation."""


def main() -> None:
    """Fit and write."""
    import pandas as pd
    from ase.io import read
    from pyace import create_multispecies_basis_config
    from pyace.linearacefit import LinearACEDataset
    from sklearn.linear_model import Ridge

    source, functions, cutoff, output = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])
    frames = read(source, ":")
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    symbols = sorted({symbol for atoms in frames for symbol in atoms.get_chemical_symbols()})
    counts = np.array([[atoms.get_chemical_symbols().count(symbol) for symbol in symbols] for atoms in frames])
    references = np.linalg.lstsq(counts, energies, rcond=None)[0]
    basis = create_multispecies_basis_config(
        {
            "deltaSplineBins": 0.001,
            "elements": symbols,
            "embeddings": {"ALL": {"npot": "FinnisSinclairShiftedScaled", "fs_parameters": [1, 1], "ndensity": 1}},
            "bonds": {"ALL": {"radbase": "SBessel", "radparameters": [5.25], "rcut": cutoff, "dcut": 0.01}},
            "functions": {
                "number_of_functions_per_element": functions,
                "ALL": {"nradmax_by_orders": N_RADIAL, "lmax_by_orders": L_MAX},
            },
        }
    )
    table = pd.DataFrame(
        {
            "ase_atoms": frames,
            "energy_corrected": energies - counts @ references,
            "forces": [atoms.get_forces() for atoms in frames],
        }
    )
    data = LinearACEDataset(basis, table)
    data.construct_design_matrix(max_workers=1)
    weights = np.ones(len(data.get_target_vector()))
    weights[: len(frames)] = ENERGY_WEIGHT
    model = Ridge(alpha=RIDGE, fit_intercept=False)
    model.fit(data.get_design_matrix() * weights[:, None], data.get_target_vector() * weights)
    data.get_bbasis(model).to_ACECTildeBasisSet().save_yaml(str(output))
    output.with_suffix(".json").write_text(json.dumps(dict(zip(symbols, references.tolist(), strict=True))))


if __name__ == "__main__":
    main()
