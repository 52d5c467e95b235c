"""The functional that a recipe describes, its rounds, and its constants of elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.units import Bohr, Hartree

from mlff_calc.charges import charge_of
from mlff_calc.datasets import Sample
from mlff_calc.electronic.functional import FunctionalNetwork, build_functional
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import RecipeError
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.functional.constants import check_difference, fit_constants, independent
from mlff_calc.training.functional.data import level_of
from mlff_calc.training.functional.objective import FunctionalObjective
from mlff_calc.training.functional.recipe import FunctionalRecipe
from mlff_calc.training.functional.rounds import DensityRounds
from mlff_calc.training.functional.source import FrozenFrames
from mlff_calc.training.functional.unrolled import UnrolledObjective
from mlff_calc.training.objective import Objective
from mlff_calc.training.run_folder import RunFolder

if TYPE_CHECKING:
    from mlff_calc.electronic.scf.kept_densities import KeptDensities

MEASURED = 200
"""Largest number of molecules whose neighbours are counted. Raising it makes their mean more precise."""


def new_functional(recipe: FunctionalRecipe, parts: Mapping[str, Frames]) -> FunctionalNetwork:
    """Build the functional that a recipe describes, which begins as its base functional.

    Raises:
        RecipeError: An option is out of range.
        OptionError: PySCF is not installed, or does not know the basis.
    """
    section, frames = recipe.functional, parts["train"]
    elements = sorted(frames.elements())
    SCFSettings("hf", section.basis).check(elements)
    reach = section.cutoff * Bohr
    some = frames.samples[:: max(1, len(frames) // MEASURED)]
    near = [(one.atoms.get_all_distances() < reach).sum() / len(one.atoms) - 1.0 for one in some]
    config = section.config() | {
        "elements": elements, "avg_num_neighbors": max(1.0, float(f"{np.mean(near):.4g}")),
        "level": recipe.card.level_of_theory or level_of(parts) or "",
        "charges": sorted({charge_of(one.atoms) for one in frames.samples}),
    }  # fmt: skip
    try:
        return build_functional(config, seed=recipe.trainer.seed)
    except RecipeError as error:
        raise RecipeError(f"{recipe.origin}: functional: {error}") from error


class FunctionalTraining:
    """What a training of a functional consists of, before its folder is known and after.

    Args:
        recipe: Recipe.
        network: Functional, which is trained in place.
        parts: Molecules by part.
        kept: Densities of the base functional that other trainings share; None computes them for this one.

    Attributes:
        network: The functional.
        rounds: Rounds of densities.
        objective: Objective.
        train: Source of training batches.
        valid: Source of validation batches.
    """

    def __init__(
        self,
        recipe: FunctionalRecipe,
        network: FunctionalNetwork,
        parts: Mapping[str, Frames],
        kept: KeptDensities | None = None,
    ) -> None:
        self.network, self._parts = network, [parts["train"], parts["valid"]]
        self._samples: list[Sample] = [sample for frames in self._parts for sample in frames.samples]
        structures, places = [one.atoms for one in self._samples], [one.place for one in self._samples]
        self.rounds = DensityRounds(network, structures, places, recipe.densities, kept)
        self._relative = recipe.loss.relative
        if self._relative:
            self._check_batches(recipe)
        self._energies = [energy_of(sample) for sample in self._samples]
        n_train, weight = len(self._parts[0]), recipe.loss.energy
        self.objective: Objective = FunctionalObjective(weight, self.rounds, network, relative=self._relative)
        if recipe.densities.loss == "unrolled":
            self.objective = UnrolledObjective(weight, self.rounds, n_train)
        self.train = FrozenFrames(self.rounds, 0, self._energies[:n_train], leads=True, weights=self._parts[0].weights)
        self.valid = FrozenFrames(
            self.rounds, n_train, self._energies[n_train:], leads=False, weights=self._parts[1].weights
        )

    def begin(self, folder: RunFolder) -> None:
        """Converge all frames with the base functional, and fit the constants of elements on the training frames.

        Raises:
            RecipeError: Energies and those of the base functional are too far apart, which wrong units are.
            TrainingError: A frame does not converge.
        """

        def check(number: int, base: float) -> None:
            check_difference(self._energies[number] / Hartree, base, self._samples[number].place)

        bases = self.rounds.begin(folder.checkpoints / "densities", check)
        n_train = len(self.train)
        self._fit(self.network, bases)
        shifts = [Hartree * self.network.constant(one.atoms.numbers) for one in self._samples]
        left = [energy - shift for energy, shift in zip(self._energies, shifts, strict=True)]
        self.train.energies, self.valid.energies = left[:n_train], left[n_train:]

    def end(self, network: FunctionalNetwork) -> None:
        """Fit the constants of elements of a trained network at the last densities, where errors were relative ones."""
        if not self._relative:
            return
        self.rounds.recall()
        network.config["base_constants"] = network.config["constants"]
        found = []
        for number in range(len(self.train)):
            frozen, atoms = self.rounds.density(number), self._samples[number].atoms
            with torch.no_grad():
                found.append(frozen.rest + float(network(frozen.grid(), torch.from_numpy(atoms.positions / Bohr))))
        self._fit(network, found)

    def _fit(self, network: FunctionalNetwork, without: Sequence[float]) -> None:
        """Set the constants that lead from energies without them, Ha, to those of the training frames."""
        n_train = len(self.train)
        wanted = [energy / Hartree - one for energy, one in zip(self._energies[:n_train], without[:n_train], strict=True)]
        network.set_constants(fit_constants([one.atoms.numbers for one in self._samples[:n_train]], wanted))

    def _check_batches(self, recipe: FunctionalRecipe) -> None:
        """Refuse batches in which constants of elements explain every energy."""
        rank, optimizer = independent([one.atoms.numbers for one in self._parts[0].samples]), recipe.optimizer
        batches = (optimizer.batch_size, len(self._parts[0])), (optimizer.judging_size, len(self._parts[1]))
        sizes = tuple(n % size or size for size, n in batches)  # the last one is the smallest
        if min(sizes) <= rank:
            raise RecipeError(
                f"{recipe.origin}: loss.relative needs batches of more than {rank} frames, since so many constants are "
                f"fitted to each; the smallest of training and validation have {sizes[0]} and {sizes[1]}. Change "
                "optimizer.batch_size or valid_batch_size, or set loss.relative: false"
            )


def energy_of(sample: Sample) -> float:
    """Total energy of a sample, eV; `check_samples` made sure that there is one."""
    return float(sample.energy) if sample.energy is not None else float("nan")
