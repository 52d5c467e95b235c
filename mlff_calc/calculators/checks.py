"""Checks of a calculator's input before the model runs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from mlff_calc.calculators.snapshot import INPUTS
from mlff_calc.errors import UnknownElementError

_NEUTRAL = {"charge": (0,), "total_charge": (0,), "spin": (0, 1), "multiplicity": (0, 1), "magmom": (0,)}


class IgnoredInputWarning(UserWarning):
    """A structure carries an input that the potential ignores, such as a charge."""


class ElementCheck:
    """Check that a potential covers all elements of a structure.

    Args:
        elements: Symbols or atomic numbers that the potential covers.
    """

    def __init__(self, elements: Iterable[str | int]) -> None:
        numbers = sorted({atomic_numbers[e] if isinstance(e, str) else int(e) for e in elements})
        self.symbols = tuple(chemical_symbols[number] for number in numbers)
        self._known = np.zeros(len(chemical_symbols), dtype=bool)
        self._known[numbers] = True

    def __call__(self, numbers: np.ndarray) -> None:
        """Check atomic numbers [n_atoms].

        Raises:
            UnknownElementError: An element is not covered; names the first such atom and the supported elements.
        """
        inside = (numbers >= 0) & (numbers < len(self._known))
        known = self._known[np.where(inside, numbers, 0)] & inside
        if known.all():
            return
        index = int(np.argmin(known))
        number = int(numbers[index])
        name = f"{chemical_symbols[number]} (Z={number})" if inside[index] else f"Z={number}"
        raise UnknownElementError(
            f"unknown element {name} at atom {index} ({int((~known).sum())} of {len(numbers)} atoms are not covered); "
            f"this potential knows {' '.join(self.symbols)}. Use a potential trained for {name.split()[0]}, "
            "or remove these atoms"
        )


def ignored_inputs(atoms: Atoms) -> list[str]:
    """List the inputs of atoms that a potential of positions and elements ignores.

    Args:
        atoms: Structure; its arrays `initial_charges` and `initial_magmoms` and its info keys `charge`, `spin`,
            `total_charge`, `multiplicity` and `magmom` are checked.

    Returns:
        Readable names; empty for a neutral structure without spin.
    """
    found = [name for name in INPUTS if name in atoms.arrays and np.any(atoms.arrays[name])]
    if atoms.info:
        for key, values in _NEUTRAL.items():
            value = atoms.info.get(key)
            if value is not None and not (np.ndim(value) == 0 and value in values):
                found.append(f"info['{key}']={value!r}")
    return found


class IgnoredInputs:
    """Warn once about charges and spins that the potential ignores."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, atoms: Atoms) -> None:
        """Check a structure; see `ignored_inputs`."""
        if self._said:
            return
        found = ignored_inputs(atoms)
        if found:
            self._said = True
            warn_ignored(found)


def warn_ignored(found: list[str]) -> None:
    """Warn that `found` (from `ignored_inputs`) does not change the results."""
    warnings.warn(
        f"the potential ignores {', '.join(found)}: energy and forces are those of the system it was trained on "
        "(see its card). This warning appears once per calculator",
        IgnoredInputWarning,
        stacklevel=4,
    )
