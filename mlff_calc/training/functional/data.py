"""Molecules with energies of one level by part, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ase.data import chemical_symbols

from mlff_calc.datasets import Sample
from mlff_calc.datasets.energy_files import one_level
from mlff_calc.errors import DatasetError, MLFFError, UnknownElementError
from mlff_calc.training.frames.read import Frames, read_frames
from mlff_calc.training.functional.recipe import FunctionalRecipe


def read_parts(recipe: FunctionalRecipe) -> dict[str, Frames]:
    """Read the molecules of a recipe.

    Raises:
        RecipeError, DatasetError: See `read_frames`; also raised where a frame is no molecule of paired electrons or has no
            energy, and where energies of different levels are mixed.
    """
    parts = read_frames(recipe)
    for frames in parts.values():
        check_samples(frames.samples)
    level_of(parts)
    return parts


def check_samples(samples: Sequence[Sample]) -> None:
    """Check that every frame is a molecule of paired electrons with an energy; raises a DatasetError with its place."""
    from mlff_calc.electronic.scf.pyscf_door import check_structure

    for sample in samples:
        if sample.energy is None:
            raise DatasetError(f"{sample.place} has no energy; name it with keys.energy, or leave the frame out")
        try:
            check_structure(sample.atoms)
        except MLFFError as error:
            raise DatasetError(f"{sample.place}: {error}") from error


def check_elements(elements: Collection[int], samples: Sequence[Sample]) -> None:
    """Check that a functional was trained on all elements of some molecules.

    Args:
        elements: Atomic numbers that it was trained on.
        samples: Molecules.

    Raises:
        UnknownElementError: One has another element; the message names its place.
    """
    for sample in samples:
        unknown = sorted(set(sample.atoms.numbers.tolist()) - set(elements))
        if unknown:
            names, known = (", ".join(chemical_symbols[z] for z in some) for some in (unknown, sorted(elements)))
            raise UnknownElementError(
                f"{sample.place} holds {names}, and the functional was trained on {known}; leave such frames out, or train "
                "on molecules with these elements"
            )


def level_of(parts: Mapping[str, Frames]) -> str | None:
    """Return the level that all frames name; None where none names one. Raises a DatasetError where they differ."""
    samples = [sample for frames in parts.values() for sample in frames.samples]
    return one_level([sample.atoms for sample in samples], [sample.place for sample in samples])
