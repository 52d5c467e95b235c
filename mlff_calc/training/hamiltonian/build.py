"""Building the network that is trained from a recipe and training molecules: a new one, or one to fine-tune."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mlff_calc.electronic.hamiltonian import HamiltonianNetwork, build_hamiltonian, load_hamiltonian
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.errors import RecipeError
from mlff_calc.training.hamiltonian.data import measure_scales
from mlff_calc.training.hamiltonian.evaluate import check_level
from mlff_calc.training.hamiltonian.files import MatrixFrames
from mlff_calc.training.hamiltonian.recipe import HamiltonianRecipe
from mlff_calc.training.recipe_limits import naming

MEASURED = 200
"""Largest number of molecules on which means and scales are measured. Raising it makes them more precise."""


def new_network(
    recipe: HamiltonianRecipe, frames: MatrixFrames, build: Callable[..., HamiltonianNetwork] = build_hamiltonian
) -> HamiltonianNetwork:
    """Build the network that a recipe describes, with means and scales measured on its training molecules.

    Args:
        recipe: The recipe.
        frames: Training molecules.
        build: Function from configuration and `seed` to the network.

    Raises:
        RecipeError: An option is out of range.
    """
    some = frames.chosen([int(k) for k in np.unique(np.linspace(0, len(frames) - 1, MEASURED).astype(int))])
    elements = {int(z) for one in frames for z in one.numbers}
    charges = sorted({one.charge for one in frames})
    if len(charges) > 1:
        raise RecipeError(
            f"{frames.path} holds molecules of the charges {charges}, and a network is for one charge; train one for each"
        )
    basis = OrbitalBasis.of_shells(frames.basis.name, {z: frames.basis.shells_of(z) for z in elements})
    reach = recipe.hamiltonian.cutoff
    neighbors = [(one.atoms.get_all_distances() < reach).sum() / len(one.numbers) - 1.0 for one in some]
    config = recipe.hamiltonian.config() | {
        "basis": basis.to_dict(), "settings": frames.settings, "charge": charges[0],
        "avg_num_neighbors": max(1.0, float(f"{np.mean(neighbors):.4g}")),
    }  # fmt: skip
    with naming(recipe, "hamiltonian"):
        network = build(config, seed=recipe.trainer.seed)
    network = network.to_precision(recipe.trainer.precision)
    with torch.no_grad():
        measure_scales(network, some)
    return network


def start_from(recipe: HamiltonianRecipe, frames: MatrixFrames) -> HamiltonianNetwork:
    """Load the network to fine-tune; its architecture, means and scales stay.

    Raises:
        PotentialFileError: There is no such network, or it is damaged.
        DatasetError: The molecules are of another level, basis or charge, or lack matrices that the network needs.
    """
    network = load_hamiltonian(recipe.start())
    check_level(network, frames)
    return network.to_precision(recipe.trainer.precision)
