"""Building the network that is trained from a recipe and training molecules."""

from __future__ import annotations

import numpy as np
import torch

from mlff_calc.electronic.hamiltonian import HamiltonianNetwork, build_hamiltonian
from mlff_calc.errors import RecipeError
from mlff_calc.training.hamiltonian.data import measure_scales
from mlff_calc.training.hamiltonian.files import MatrixFrames
from mlff_calc.training.hamiltonian.recipe import HamiltonianRecipe

MEASURED = 200
"""Largest number of molecules on which means and scales are measured. Raising it makes them more precise."""


def new_network(recipe: HamiltonianRecipe, frames: MatrixFrames) -> HamiltonianNetwork:
    """Build the network that a recipe describes, with means and scales measured on its training molecules.

    Raises:
        RecipeError: An option is out of range.
    """
    some = [frames.frames[int(k)] for k in np.unique(np.linspace(0, len(frames) - 1, MEASURED).astype(int))]
    elements = {int(z) for one in frames.frames for z in one.atoms.numbers}
    shells = {z: one for z, one in frames.basis["shells"].items() if int(z) in elements}
    neighbors = [
        (one.atoms.get_all_distances() < recipe.hamiltonian.cutoff).sum() / len(one.atoms) - 1.0 for one in some
    ]  # fmt: skip
    config = recipe.hamiltonian.config() | {
        "basis": {"name": frames.basis.get("name", "unknown"), "shells": shells}, "settings": frames.settings,
        "avg_num_neighbors": max(1.0, float(f"{np.mean(neighbors):.4g}")),
    }  # fmt: skip
    try:
        network = build_hamiltonian(config, seed=recipe.trainer.seed)
    except RecipeError as error:
        raise RecipeError(f"{recipe.origin}: hamiltonian: {error}") from error
    network = network.to_precision(recipe.trainer.precision)
    with torch.no_grad():
        measure_scales(network, some, frames)
    return network
