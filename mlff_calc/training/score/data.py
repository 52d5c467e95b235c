"""Frames of one molecule or cluster as arrays, checked, and as batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mlff_calc.datasets import Sample
from mlff_calc.errors import DatasetError
from mlff_calc.graph.bonds import bonds_of
from mlff_calc.score.graph import SCORE, Topology
from mlff_calc.score.moments import centred, check_not_frozen, check_temperature, clipped, dimensions_of
from mlff_calc.training.frames.read import Frames, refuse_weights
from mlff_calc.training.packed import PackedFrames
from mlff_calc.training.score.recipe import ScoreRecipe

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Structures:
    """Frames as arrays.

    Attributes:
        numbers: Atomic numbers [n_atoms], those of every frame.
        positions: Positions relative to their mean [n_frames, n_atoms, 3], Angstrom.
        forces: Forces without their mean [n_frames, n_atoms, 3], eV/Angstrom; NaN where a frame has none.
    """

    numbers: NDArray[np.int64]
    positions: FloatArray
    forces: FloatArray

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Structures:
        """Join samples.

        Raises:
            DatasetError: Frames are periodic, or hold other atoms, or another order of them; the message names one.
        """
        numbers = np.array(samples[0].atoms.numbers, dtype=np.int64)
        for sample in samples:
            if len(sample.atoms) != len(numbers) or (sample.atoms.numbers != numbers).any():
                raise DatasetError(
                    f"{sample.place} holds {sample.atoms.get_chemical_formula()}, in another order or number of atoms than "
                    f"{samples[0].place} ({samples[0].atoms.get_chemical_formula()}); a score model knows one molecule, "
                    "give frames of it alone"
                )
            if sample.atoms.pbc.any():
                raise DatasetError(f"{sample.place} is periodic; a score model knows molecules and clusters, turn pbc off")
        if len(numbers) < 2:
            raise DatasetError(f"{samples[0].place} holds one atom, which has no shape to learn")
        positions = np.stack([sample.atoms.positions for sample in samples])
        missing = np.full(positions.shape[1:], np.nan)
        forces = np.stack([missing if sample.forces is None else sample.forces for sample in samples])
        return cls(numbers, centred(positions), centred(forces))


def check_frames(recipe: ScoreRecipe, parts: Mapping[str, Frames]) -> list[str]:
    """Check that frames are of one molecule, without frozen bonds, fit the temperature, and have what the loss needs.

    Returns:
        Sentences for the log: about the virial of the training frames, where they have forces, and about flat ones.

    Raises:
        DatasetError: A check fails; the message names the file and the cure.
    """
    first = Structures.of(parts["train"].samples)
    for frames in (frames for part, frames in parts.items() if part != "train"):
        found = Structures.of(frames.samples)
        if len(found.numbers) != len(first.numbers) or (found.numbers != first.numbers).any():
            raise DatasetError(f"{frames.where} ({frames.part}) holds another molecule than the training frames")
    place = parts["train"].where
    check_not_frozen(first.positions, place)
    for part in ("train", "valid"):
        _check_loss(recipe, parts[part])
    flat = dimensions_of(first.positions) == 2
    notes = [f"all atoms of {place} have z = 0: the model is one of two dimensions"] if flat else []
    labelled = np.isfinite(first.forces).all(axis=(1, 2))
    if not labelled.any():
        return notes
    positions, scores = first.positions[labelled], first.forces[labelled] / recipe.score.thermal_energy
    bonds = bonds_of(first.numbers, positions) if recipe.score.bonds == "auto" else []
    return [*notes, check_temperature(positions, scores, dimensions_of(first.positions), place, bonds)]


def _check_loss(recipe: ScoreRecipe, frames: Frames) -> None:
    """Refuse frames that the loss cannot take: without forces where it learns from them, or with weights."""
    refuse_weights(frames, "a score model learns all frames alike")
    bare = [] if recipe.loss.target == "dsm" else [one.place for one in frames.samples if one.forces is None]
    if bare:
        raise DatasetError(
            f"{len(bare)} of {len(frames)} frames of {frames.where} ({frames.part}) have no forces, from which the target "
            f"{recipe.loss.target} learns; the first is {bare[0]}. Leave these frames out, or set loss.target to dsm"
        )


class NoisyFrames(PackedFrames):
    """Graphs of frames without noise, and their scores at no noise, made once.

    Labels are `positions` [n_atoms, 3] Angstrom and `score` [n_atoms, 3], F/kT in 1/Angstrom, NaN where a frame has no
    forces.

    Args:
        structures: Frames.
        topology: Atoms and bonds.
        kT: Thermal energy, eV.
        clip: Largest norm of F/kT of a frame, 1/Angstrom; None for no limit.
    """

    def __init__(self, structures: Structures, topology: Topology, kT: float, clip: float | None) -> None:
        positions = torch.from_numpy(structures.positions)
        scores = torch.from_numpy(clipped(structures.forces / kT, clip))
        graphs = [topology.graph(one.unsqueeze(0), torch.zeros(1)) for one in positions]
        labels = [{"positions": x, SCORE: f} for x, f in zip(positions, scores, strict=True)]
        super().__init__(graphs, labels)
