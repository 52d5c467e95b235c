"""Elements of LAMMPS's atom types, from `pair_style mlff` of an input, symbols or masses.

An input for the compiled plugin also runs without it: `pair_style mlff` becomes `pair_style zero`, and the elements of
its `pair_coeff` line are used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from mlff_calc.errors import OptionError

MASS_TOLERANCE = 0.05
"""Largest difference (amu) between the mass of a type and that of its element. Raising it accepts isotopes as elements."""
NULL = "NULL"
"""Word in place of an element for types that only other pair styles act on."""
_STYLE = "mlff"
_OPTIONS = {
    "ghosts": 0,
    "tolerance": 1,
    "reset": 1,
    "device": 1,
    "domain": 1,
}  # words of `pair_style mlff`, and the number of values that follow


def translate_style(words: Sequence[str], cutoff: float) -> list[str]:
    """Replace mlff in a `pair_style` command by a style without forces.

    Args:
        words: words of the command; ``hybrid/overlay`` with other styles is allowed.
        cutoff: cutoff (Angstrom) of the neighbour lists that other commands of LAMMPS may use.
    """
    made, at = list(words[:1]), 1
    while at < len(words):
        word = words[at]
        at += 1
        if word != _STYLE:
            made.append(word)
            continue
        while at < len(words) and words[at] in _OPTIONS:
            at += 1 + _OPTIONS[words[at]]
        made += ["zero", f"{cutoff:.10g}"]
    return made


def domain_in(words: Sequence[str]) -> str | None:
    """Value of `domain` among the options of mlff in a `pair_style` command; None where it is not there.

    Args:
        words: words of the command, mlff among them.
    """
    options = list(words[list(words).index(_STYLE) + 1 :])
    while options and options[0] in _OPTIONS:
        if options[0] == "domain":
            return options[1] if len(options) > 1 else None
        options = options[1 + _OPTIONS[options[0]] :]
    return None


def split_coefficients(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Return `pair_coeff` for LAMMPS, and the elements it names.

    Args:
        words: words of the command, ``pair_coeff * * [mlff] FILE El1 El2 ...``

    Raises:
        OptionError: the command is not for all pairs, or names no elements.
    """
    hybrid = words[3:4] == [_STYLE]
    elements = list(words[5 if hybrid else 4 :])
    if list(words[1:3]) != ["*", "*"] or not elements:
        raise OptionError(
            f"`{' '.join(words)}` does not set mlff for all types; write `pair_coeff * * {'mlff ' if hybrid else ''}FILE "
            "El1 El2 ...` with one element for each type"
        )
    return ["pair_coeff", "*", "*", *(["zero"] if hybrid else [])], elements


def numbers_of_symbols(symbols: Sequence[str], n_types: int) -> NDArray[np.int64]:
    """Convert symbols to atomic numbers [n_types]; 0 for ``NULL``, a type that the potential ignores.

    Raises:
        OptionError: a symbol is unknown, or the numbers of symbols and types differ.
    """
    for symbol in symbols:
        if symbol != NULL and (symbol not in atomic_numbers or symbol == "X"):
            raise OptionError(
                f"{symbol!r} among the elements {' '.join(symbols)!r} is not an element; write symbols like H, C, Si, one "
                "for each type of LAMMPS"
            )
    if len(symbols) != n_types:
        raise OptionError(
            f"{len(symbols)} elements ({' '.join(symbols)}) for {n_types} atom types of LAMMPS; give one for each type, "
            'in their order: --elements "H C O"'
        )
    return np.array([0 if symbol == NULL else atomic_numbers[symbol] for symbol in symbols])


def numbers_of_masses(masses: Sequence[float]) -> NDArray[np.int64]:
    """Find the atomic numbers [n_types] of the elements with these masses.

    Args:
        masses: masses of the types, amu.

    Raises:
        OptionError: a mass fits no element, or more than one.
    """
    numbers = []
    for kind, mass in enumerate(masses, start=1):
        near = np.flatnonzero(np.abs(atomic_masses - mass) <= MASS_TOLERANCE)
        near = near[near > 0]
        if len(near) != 1:
            closest = int(np.argmin(np.abs(atomic_masses[1:] - mass))) + 1
            found = (
                f"several elements ({', '.join(chemical_symbols[i] for i in near)})"
                if len(near)
                else f"no element (nearest: {chemical_symbols[closest]}, {atomic_masses[closest]:.4f})"
            )
            raise OptionError(
                f"atom type {kind} has a mass of {mass:g}, which is that of {found}; give the elements of the types: "
                '--elements "H C O", or elements=["H", "C", "O"] in Python'
            )
        numbers.append(int(near[0]))
    return np.array(numbers)


def contradictions(numbers: Sequence[int] | NDArray[np.int64], masses: Sequence[float]) -> list[str]:
    """Describe types whose mass is that of another element than assumed.

    Args:
        numbers: atomic number of each type; 0 for types that the potential ignores.
        masses: masses of the types, amu; empty where they have none.

    Returns:
        One sentence for each such type. Masses of no element (isotopes, united atoms) are accepted.
    """
    said = []
    for kind, (number, mass) in enumerate(zip(numbers, masses, strict=False), start=1):
        if number == 0 or abs(atomic_masses[number] - mass) <= MASS_TOLERANCE:
            continue
        near = np.flatnonzero(np.abs(atomic_masses[1:] - mass) <= MASS_TOLERANCE) + 1
        if len(near):
            said.append(
                f"warning: atom type {kind} has a mass of {mass:g}, which is that of {chemical_symbols[near[0]]}, but the "
                f"potential takes it for {chemical_symbols[number]} ({atomic_masses[number]:.4g}); give the elements in the "
                "order of the types"
            )
    return said
