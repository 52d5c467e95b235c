"""Fit of a SNAP to energies and forces by `linear_fit.py`; runs in the environment of `lammps`.

The options are `twojmax`, twice the largest angular momentum, and `quadratic`, whether the model includes products of two
components. The files for LAMMPS are written beside OUTPUT with the suffixes snapcoeff and snapparam. Elements are
distinguished by their weights as neighbours.

Sources: Thompson et al., J. Comput. Phys. 285, 316 (2015); Wood and Thompson, J. Chem. Phys. 148, 241721 (2018).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from linear_fit import main
from snap_system import System, start

RADIUS, RFAC0 = 0.5, 0.99363  # cutoff of a pair is rcutfac times the sum of two radii; LAMMPS's default of rfac0
LIGHTEST = 0.5
"""Weight of the last element in alphabetical order, while the first has 1; larger values make elements more alike."""


def _options() -> tuple[int, int]:
    options = json.loads(sys.argv[3])
    return int(options["twojmax"]), int(options.get("quadratic", False))


def _weights(symbols: list[str]) -> np.ndarray:
    return np.linspace(1.0, LIGHTEST, len(symbols)) if len(symbols) > 1 else np.ones(1)


def rows(frames: list[Any], symbols: list[str], cutoff: float) -> np.ndarray:
    """Return the bispectrum components and their gradients."""
    twojmax, quadratic = _options()
    words = " ".join(f"{value:g}" for value in (*[RADIUS] * len(symbols), *_weights(symbols)))
    commands = [
        f"pair_style zero {cutoff}",
        "pair_coeff * *",
        f"compute rows all snap {cutoff} {RFAC0} {twojmax} {words} quadraticflag {quadratic}",
    ]
    engine = start()
    energies, forces = [], []
    for atoms in frames:
        system = System(engine, atoms, symbols, commands)
        found = system.rows("rows")
        energies.append(found[0] / len(atoms))
        forces.append(found[1:])
    return np.concatenate([np.array(energies), *forces])


def write(output: Path, symbols: list[str], cutoff: float, coefficients: np.ndarray) -> None:
    """Write the two files. Constant energies of atoms are zero in them, since OUTPUT has the reference energies."""
    twojmax, quadratic = _options()
    blocks = coefficients.reshape(len(symbols), -1)
    lines = [f"{len(symbols)} {blocks.shape[1] + 1}"]
    for symbol, weight, block in zip(symbols, _weights(symbols), blocks, strict=True):
        lines += [f"{symbol} {RADIUS:g} {weight:g}", "0.0", *(repr(float(value)) for value in block)]
    output.with_suffix(".snapcoeff").write_text("\n".join(lines) + "\n", encoding="utf-8")
    parameters = {"rcutfac": cutoff, "twojmax": twojmax, "rfac0": RFAC0, "quadraticflag": quadratic}
    text = "".join(f"{name} {value}\n" for name, value in parameters.items())
    output.with_suffix(".snapparam").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(rows, write)
