"""Fit of a linear ACE to energies and forces by `linear_fit.py`; runs in the environment of `python-ace`.

The option `functions` is the number of basis functions per element. The C-tilde basis, in which ACE is evaluated, is written
to a file beside OUTPUT with the suffix yace.

Source: Drautz, Phys. Rev. B 99, 014104 (2019).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from linear_fit import main

N_RADIAL = [15, 6, 4, 3, 2, 2]
L_MAX = [0, 5, 4, 3, 1, 0]
"""Largest numbers of radial functions and degrees, by order of the correlation. Larger values give more functions."""


def _basis(symbols: list[str], cutoff: float) -> Any:
    from pyace import create_multispecies_basis_config

    return create_multispecies_basis_config(
        {
            "deltaSplineBins": 0.001,
            "elements": symbols,
            "embeddings": {"ALL": {"npot": "FinnisSinclairShiftedScaled", "fs_parameters": [1, 1], "ndensity": 1}},
            "bonds": {"ALL": {"radbase": "SBessel", "radparameters": [5.25], "rcut": cutoff, "dcut": 0.01}},
            "functions": {
                "number_of_functions_per_element": json.loads(sys.argv[3])["functions"],
                "ALL": {"nradmax_by_orders": N_RADIAL, "lmax_by_orders": L_MAX},
            },
        }
    )


def rows(frames: list[Any], symbols: list[str], cutoff: float) -> np.ndarray:
    """Return the projections on the basis and their gradients."""
    import pandas as pd
    from pyace.linearacefit import LinearACEDataset

    data = LinearACEDataset(_basis(symbols, cutoff), pd.DataFrame({"ase_atoms": frames}))
    data.construct_design_matrix(max_workers=1)
    return data.get_design_matrix()


def write(output: Path, symbols: list[str], cutoff: float, coefficients: np.ndarray) -> None:
    """Write the basis with its coefficients."""
    from pyace.linearacefit import LinearACEDataset

    fitted = LinearACEDataset(_basis(symbols, cutoff), None).get_bbasis(SimpleNamespace(coef_=coefficients))
    fitted.to_ACECTildeBasisSet().save_yaml(str(output.with_suffix(".yace")))


if __name__ == "__main__":
    main(rows, write)
