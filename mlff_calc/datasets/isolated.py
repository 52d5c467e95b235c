"""Frames of isolated atoms, whose energies are reference energies of their elements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ase.data import chemical_symbols

from mlff_calc.datasets.lazy import chosen
from mlff_calc.datasets.sample import Sample
from mlff_calc.errors import DatasetError

AGREEMENT = 1e-5
"""Largest difference (eV) between energies of isolated atoms of one element; larger ones mean two states or methods."""


def is_marked(config_type: str) -> bool:
    """Whether a config type marks a frame as an isolated atom.

    Accepted are ``IsolatedAtom`` (MACE) and ``isolated_atom`` (GAP), in any case, with any or no separator.
    """
    plain = "".join(letter for letter in config_type.lower() if letter not in "_- ")
    return plain in ("isolatedatom", "isolatedatoms")


def part_isolated(samples: Sequence[Sample]) -> tuple[Sequence[Sample], list[Sample]]:
    """Separate frames that are marked as isolated atoms from all others; returns others, then isolated atoms.

    Raises:
        DatasetError: A marked frame does not have exactly one atom; the message names file and frame.
    """
    others: list[int] = []
    isolated: list[Sample] = []
    for index, sample in enumerate(samples):
        if not is_marked(sample.config_type):
            others.append(index)
            continue
        if len(sample.atoms) != 1:
            raise DatasetError(
                f"{sample.place}: its config type {sample.config_type!r} says that it is an isolated atom, but it has "
                f"{len(sample.atoms)} atoms ({sample.atoms.get_chemical_formula()}); correct one of the two"
            )
        isolated.append(sample)
    return chosen(samples, others) if isolated else samples, isolated


def isolated_energies(isolated: Iterable[Sample]) -> dict[int, float]:
    """Return the energy of each element that has an isolated atom with an energy.

    Args:
        isolated: Frames of one atom each.

    Returns:
        Energies (eV) by atomic number, sorted; that of the first frame of each element.

    Raises:
        DatasetError: Two frames of one element differ by more than 1e-5 eV; the message names both.
    """
    first: dict[int, tuple[Sample, float]] = {}
    for sample in isolated:
        if sample.energy is None:
            continue
        number = int(sample.atoms.numbers[0])
        before, energy = first.setdefault(number, (sample, sample.energy))
        if abs(energy - sample.energy) > AGREEMENT:
            raise DatasetError(
                f"the isolated atoms of {chemical_symbols[number]} disagree: {energy:.8g} eV in {before.place}, "
                f"{sample.energy:.8g} eV in {sample.place}; keep the one that belongs to the other frames, or give "
                "reference_energies by hand"
            )
    return {number: first[number][1] for number in sorted(first)}
