"""Units of data files and their factors to eV and Angstrom."""

from __future__ import annotations

from dataclasses import dataclass

from ase import units

from mlff_calc.errors import DatasetError
from mlff_calc.near import suggestion

ENERGY_UNITS: dict[str, float] = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
    "Hartree": units.Hartree,
    "Rydberg": units.Rydberg,
}
LENGTH_UNITS: dict[str, float] = {"Angstrom": 1.0, "nm": units.nm, "Bohr": units.Bohr}
PRESSURE_UNITS: dict[str, float] = {
    "GPa": units.GPa,
    "MPa": 1e-3 * units.GPa,
    "Pa": 1e-9 * units.GPa,
    "kbar": 0.1 * units.GPa,
    "bar": 1e-4 * units.GPa,
}
_ATOMIC = ("Hartree", "Rydberg")
_ALIASES = {"a": "Angstrom", "å": "Angstrom", "ang": "Angstrom", "ha": "Hartree", "ry": "Rydberg", "a0": "Bohr"}


@dataclass(frozen=True)
class Units:
    """Units in which a file holds its data.

    Attributes:
        energy: Unit of energies and virials, one of ENERGY_UNITS in any case.
        length: Unit of positions and cells, one of LENGTH_UNITS in any case.
        forces: Unit of forces, an energy over a length such as ``Hartree/Bohr`` or ``kcal/mol/Angstrom``. None means
            `energy` over `length`, except that Hartree and Rydberg are taken over Bohr: programs that print these
            energies with positions in Angstrom print gradients per Bohr.
        stress: Unit of stress, an energy over a cubed length such as ``Hartree/Bohr^3``, or one of PRESSURE_UNITS. None
            means `energy` over `length` cubed. It must be given for Hartree or Rydberg with a length other than Bohr.

    Raises:
        DatasetError: a unit is unknown.
    """

    energy: str = "eV"
    length: str = "Angstrom"
    forces: str | None = None
    stress: str | None = None

    def __post_init__(self) -> None:
        _factor(self.energy, ENERGY_UNITS, "energy")
        _factor(self.length, LENGTH_UNITS, "length")
        if self.forces is not None:
            _compound(self.forces, "forces", 1)
        if self.stress is not None:
            _stress_factor(self.stress)

    @property
    def energy_factor(self) -> float:
        """Value of one unit of energy in eV."""
        return _factor(self.energy, ENERGY_UNITS, "energy")

    @property
    def length_factor(self) -> float:
        """Value of one unit of length in Angstrom."""
        return _factor(self.length, LENGTH_UNITS, "length")

    @property
    def forces_are_supposed(self) -> bool:
        """Whether forces are assumed to be per Bohr because of the unit of energy, although lengths are in another unit."""
        return self.forces is None and self._mixed

    @property
    def forces_factor(self) -> float:
        """Value of one unit of force in eV/Angstrom."""
        if self.forces is not None:
            return _compound(self.forces, "forces", 1)
        return self.energy_factor / (units.Bohr if self._mixed else self.length_factor)

    @property
    def stress_factor(self) -> float:
        """Value of one unit of stress in eV/Angstrom^3.

        Raises:
            DatasetError: the unit is ambiguous: atomic units of energy with another length, and `stress` is not given.
        """
        if self.stress is not None:
            return _stress_factor(self.stress)
        if self._mixed:
            raise DatasetError(
                f"units.stress is not given, and with energy: {self.energy} and length: {self.length} it could be "
                f"{self.energy}/Bohr^3, {self.energy}/{self.length}^3 or a pressure; give units.stress"
            )
        return self.energy_factor / self.length_factor**3

    def factors(self) -> dict[str, float]:
        """Return factors to eV and Angstrom by kind of label; without `stress` where its unit is ambiguous."""
        known = {"energy": self.energy_factor, "length": self.length_factor, "forces": self.forces_factor}
        return known if self.stress is None and self._mixed else known | {"stress": self.stress_factor}

    @property
    def _mixed(self) -> bool:
        energy, length = _known(self.energy, ENERGY_UNITS), _known(self.length, LENGTH_UNITS)
        return energy in _ATOMIC and length != "Bohr"


def _compound(name: str, label: str, power: int) -> float:
    """Return the factor of an energy over a power of a length: `Hartree/Bohr`, `kcal/mol/Angstrom^3`."""
    energy, slash, length = name.replace(" ", "").replace("**", "^").rpartition("/")
    if power > 1:
        length, sign, written = length.partition("^")
        if not sign or written != str(power):
            slash = ""
    if not slash:
        example = "Hartree/Bohr" if power == 1 else "eV/Angstrom^3 or GPa"
        raise DatasetError(f"unknown unit of {label} {name!r}; write it like {example}")
    try:
        return _factor(energy, ENERGY_UNITS, "energy") / _factor(length, LENGTH_UNITS, "length") ** power
    except DatasetError as error:
        raise DatasetError(f"unknown unit of {label} {name!r}: {error}") from error


def _stress_factor(name: str) -> float:
    """Return the factor of a stress, a pressure or an energy over a cubed length."""
    known = _known(name, PRESSURE_UNITS)
    return PRESSURE_UNITS[known] if known is not None else _compound(name, "stress", 3)


def _known(name: str, table: dict[str, float]) -> str | None:
    """Return a unit in the spelling of the table, ignoring case."""
    wanted = _ALIASES.get(name.lower(), name).lower()
    return next((known for known in table if known.lower() == wanted), None)


def _factor(name: str, table: dict[str, float], kind: str) -> float:
    """Return the factor of a unit, ignoring case."""
    known = _known(name, table)
    if known is not None:
        return table[known]
    hint = suggestion(name, table, before=" (", after=")")
    raise DatasetError(f"unknown {kind} unit '{name}'{hint}; known: {', '.join(table)}")
