"""Folders of propagators: the format of potentials/, with `kind: propagator` in the header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlff_calc.potential.files import Savable, save_potential

KIND = "propagator"
UNITS = {"length": "of the data", "time": "of the data"}


def save_propagator(propagator: Savable, folder: str | Path, **options: Any) -> Path:  # noqa: ANN401
    """Write a propagator to `folder`; see `save_potential` for the options and errors."""
    return save_potential(propagator, folder, kind=KIND, units=UNITS, **options)
