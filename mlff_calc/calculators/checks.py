"""What a calculator says about its input before a model runs."""

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
    """A structure carries something that the potential does not look at, a charge for example."""


class ElementCheck:
    """The elements a potential knows, and the error for all others.

    Args:
        elements: symbols or atomic numbers.
    """

    def __init__(self, elements: Iterable[str | int]) -> None:
        numbers = sorted({atomic_numbers[e] if isinstance(e, str) else int(e) for e in elements})
        self.symbols = tuple(chemical_symbols[number] for number in numbers)
        self._known = np.zeros(len(chemical_symbols), dtype=bool)
        self._known[numbers] = True

    def __call__(self, numbers: np.ndarray) -> None:
        """Check atomic numbers [n_atoms].

        Raises:
            UnknownElementError: names the element, the first atom that is one, and the supported set.
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
    """What the atoms carry and a potential of positions and elements does not look at.

    Args:
        atoms: any atoms; `initial_charges`, `initial_magmoms` and the info keys `charge`, `spin`, `total_charge`,
            `multiplicity` and `magmom` are looked at.

    Returns:
        Readable names; empty where all is neutral and without spin.
    """
    found = [name for name in INPUTS if name in atoms.arrays and np.any(atoms.arrays[name])]
    if atoms.info:
        for key, values in _NEUTRAL.items():
            value = atoms.info.get(key)
            if value is not None and not (np.ndim(value) == 0 and value in values):
                found.append(f"info['{key}']={value!r}")
    return found


class IgnoredInputs:
    """Warns about charges and spins that change nothing, once."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, atoms: Atoms) -> None:
        """Look at a structure; see `ignored_inputs`."""
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
        "(see its card). Said once per calculator",
        IgnoredInputWarning,
        stacklevel=4,
    )
