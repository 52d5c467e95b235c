"""Units of data files and their factors to eV and Angstrom."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from ase import units

from mlff_calc.errors import DatasetError

ENERGY_UNITS: dict[str, float] = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
    "Hartree": units.Hartree,
    "Rydberg": units.Rydberg,
}
LENGTH_UNITS: dict[str, float] = {"Angstrom": 1.0, "nm": units.nm, "Bohr": units.Bohr}
_ALIASES = {"a": "Angstrom", "å": "Angstrom", "ang": "Angstrom", "ha": "Hartree", "ry": "Rydberg", "a0": "Bohr"}


@dataclass(frozen=True)
class Units:
    """Units in which a file holds its data; forces are energy over length, stress is energy over length cubed.

    Attributes:
        energy: one of ENERGY_UNITS, in any case.
        length: one of LENGTH_UNITS, in any case.

    Raises:
        DatasetError: an unknown unit.
    """

    energy: str = "eV"
    length: str = "Angstrom"

    def __post_init__(self) -> None:
        _factor(self.energy, ENERGY_UNITS, "energy")
        _factor(self.length, LENGTH_UNITS, "length")

    @property
    def energy_factor(self) -> float:
        """How many eV one unit of energy is."""
        return _factor(self.energy, ENERGY_UNITS, "energy")

    @property
    def length_factor(self) -> float:
        """How many Angstrom one unit of length is."""
        return _factor(self.length, LENGTH_UNITS, "length")


def _factor(name: str, table: dict[str, float], kind: str) -> float:
    """The factor of a unit, found without regard to case."""
    wanted = _ALIASES.get(name.lower(), name).lower()
    for known, factor in table.items():
        if known.lower() == wanted:
            return factor
    near = get_close_matches(name, table, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise DatasetError(f"unknown {kind} unit '{name}'{hint}; known: {', '.join(table)}")
