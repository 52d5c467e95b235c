"""Fine-tuning: continuing from a trained potential, with the reference energies of the new data.

The architecture, scale and weights are those of the start. Reference energies are fitted again, because the new data
may come from another method, whose total energies differ by thousands of eV. They are fitted to the residual E -
E_start, so that the energies of the start are shifted per element and its learned part is kept. `auto` does this even
if the data hold isolated atoms: the learned part of the start belongs to its own reference energies, which may have
been fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from mlff_calc.errors import DatasetError, PotentialFileError, RecipeError
from mlff_calc.graph.domain import Domain
from mlff_calc.potential import Potential, build_potential, load_potential
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.potential.data import GraphSource, graph_frames
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.potential.references import given_energies, isolated_references, origin_of, refuse_neighbours

_BATCH = 16  # frames evaluated at once; a larger number takes more memory


def start_from(recipe: PotentialRecipe, frames: Frames) -> tuple[Potential, GraphSource]:
    """Build the potential to continue from, with new reference energies, and the graphs of the training frames.

    Raises:
        PotentialFileError: There is no such potential, or its domain is damaged.
        DatasetError: The data hold elements that the potential does not know; the message names them.
        RecipeError: The recipe lacks reference energies for some elements, or asks for a stress from direct forces.
    """
    name = str(recipe.fine_tune_from)
    start = load_potential(recipe.start())
    unknown = sorted(frames.elements() - set(start.elements))
    if unknown:
        raise DatasetError(
            f"{frames.where} holds {' '.join(chemical_symbols[z] for z in unknown)}, but the potential {name!r} knows only "
            f"{' '.join(chemical_symbols[z] for z in start.elements)}; leave those frames out, or train a new potential"
        )
    if start.direct_forces and recipe.loss.stress > 0.0:
        raise RecipeError(
            f"{recipe.origin}: loss.stress is {recipe.loss.stress:g}, but the potential {name!r} has direct forces, which "
            "give no stress; set loss.stress to 0, or start from a potential whose forces are gradients"
        )
    graphs = graph_frames(frames.samples, start.cutoff, frames.weights)
    config = dict(start.config)
    energies = _references(recipe, start, frames, graphs)
    config["reference_energies"] = {str(z): energy for z, energy in energies.items()}
    potential = build_potential(config, seed=recipe.trainer.seed)
    state = {key: value for key, value in start.state_dict().items() if not key.endswith("reference_energies")}
    missing, unexpected = potential.load_state_dict(state, strict=False)
    if unexpected or any(not key.endswith("reference_energies") for key in missing):
        raise RecipeError(f"{recipe.origin}: fine_tune_from: the weights of {name!r} do not fit its configuration")
    potential.domain = _domain_to_go_on_from(start, name)
    return potential.to_precision(recipe.trainer.precision), graphs


def _domain_to_go_on_from(start: Potential, name: str) -> dict[str, Any] | None:
    """Return the domain of the start, which the run unites with that of the new frames; checked before training."""
    if start.domain is not None and Domain(start.domain).cutoff != start.cutoff:
        raise PotentialFileError(
            f"the domain of {name!r} is of cutoff {start.domain['cutoff']} Angstrom, and its cutoff is {start.cutoff:g} "
            "Angstrom; copy its folder again"
        )
    return start.domain


def _references(recipe: PotentialRecipe, start: Potential, frames: Frames, graphs: GraphSource) -> dict[int, float]:
    """Reference energies as the recipe says; elements without isolated atoms among the new frames keep theirs."""
    before = {z: float(start.config["reference_energies"].get(str(z), 0.0)) for z in start.elements}
    origin = origin_of(recipe, frames)
    if origin == "given in the recipe":
        return given_energies(recipe, start.elements)
    if origin == "from isolated atoms":
        refuse_neighbours(frames.isolated, start.cutoff)
        return before | isolated_references(recipe, frames, sorted(frames.elements()))
    return _shifted_references(before, start, graphs)


def _shifted_references(before: dict[int, float], start: Potential, graphs: GraphSource) -> dict[int, float]:
    """Fit reference energies to the residual of the training energies."""
    rows, left_over = [], []
    start.eval()
    for first in range(0, len(graphs), _BATCH):
        batch = graphs.batch(list(range(first, min(first + _BATCH, len(graphs)))))
        predicted = start(batch.graph)["energy"].detach()
        left_over.append((batch.labels["energy"] - predicted).numpy())
        counts = torch.zeros(len(batch.frames), len(start.elements), dtype=torch.float64)
        for column, z in enumerate(start.elements):
            is_z = (batch.graph["atomic_numbers"] == z).double()
            counts[:, column] = torch.zeros(len(batch.frames)).double().index_add(0, batch.graph["system_index"], is_z)
        rows.append(counts.numpy())
    target, matrix = np.concatenate(left_over), np.concatenate(rows)
    present = np.isfinite(target)
    if not present.any():
        return before
    shift = np.linalg.lstsq(matrix[present], target[present], rcond=None)[0]
    return {z: before[z] + float(shift[column]) for column, z in enumerate(start.elements)}
