"""Windows of a trajectory by part, checked, and as batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import atomic_masses
from numpy.typing import NDArray

from mlff_calc.datasets.motion.windows import Run, Windows, read_run, split_run
from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.graph.bonds import bonds_of
from mlff_calc.networks.topology import Topology
from mlff_calc.rollout.build import check_connected
from mlff_calc.rollout.model import PATH, PATH_VELOCITIES, rollout_graph
from mlff_calc.rollout.molecule import changed_bond, kept_atoms, with_hydrogens
from mlff_calc.training.data import Batch
from mlff_calc.training.rollout.recipe import RolloutRecipe


@dataclass(frozen=True)
class Molecule:
    """The molecule of a trajectory.

    Attributes:
        numbers: Atomic numbers of the atoms that are predicted.
        bonds: Pairs of bonded atoms.
        masses: Masses, which contain those of bonded hydrogens that are left out, atomic mass units.
    """

    numbers: list[int]
    bonds: list[list[int]]
    masses: list[float]


def molecule_of(run: Run, *, heavy_atoms: bool) -> tuple[Molecule, Run]:
    """Find the bonds of a run, and the run of the atoms that are predicted.

    Raises:
        DatasetError: Fewer than two atoms are left, atoms are in pieces, or bonds break in the run.
    """
    whole = bonds_of(run.numbers, run.positions)
    found = changed_bond(run.numbers, run.positions, whole)
    if found is not None:
        frame, i, j, distance, bonded = found
        raise DatasetError(
            f"{run.path}, frame {frame}: atoms {i} and {j} are {distance:.2f} Angstrom apart, where a bond "
            f"{'breaks' if bonded else 'forms'}; a rollout knows one molecule with its bonds: cut the file before this frame"
        )
    chosen = kept_atoms(run.numbers, heavy_atoms=heavy_atoms)
    if len(chosen) < 2:
        if heavy_atoms:
            raise DatasetError(f"{run.path}: {len(chosen)} atoms are left without hydrogens; keep the hydrogens")
        raise DatasetError(f"{run.path} has {len(chosen)} atom; a rollout needs at least two, give another molecule")
    masses = atomic_masses[run.numbers]
    if heavy_atoms:
        masses = with_hydrogens(masses, run.numbers, whole)
    new = {int(old): k for k, old in enumerate(chosen)}
    bonds = [[new[i], new[j]] for i, j in whole if i in new and j in new]
    numbers = [int(z) for z in run.numbers[chosen]]
    try:
        check_connected(numbers, bonds, heavy_atoms=heavy_atoms)
    except RecipeError as error:
        raise DatasetError(f"{run.path}: {error}") from error
    return Molecule(numbers, bonds, [float(mass) for mass in masses[chosen]]), run.of_atoms(chosen)


def read_windows(recipe: RolloutRecipe) -> tuple[Molecule, dict[str, Windows]]:
    """Read the trajectory of a recipe and cut it into parts.

    Raises:
        RecipeError: The file is missing.
        DatasetError: The file cannot be read, breaks a bond, or is shorter than the horizon needs.
    """
    data, path = recipe.data, recipe.data_file()
    molecule, run = molecule_of(read_run(path, data.timestep), heavy_atoms=data.heavy_atoms)
    split = data.split
    limits = {"train": data.limit.train, "valid": data.limit.valid} | ({"test": data.limit.test} if split.test > 0.0 else {})
    return molecule, split_run(
        run, data.horizon, limits, n_times=data.times.count, irregular=data.times.irregular is not None,
        shares=(split.train, split.valid, split.test), seed=recipe.trainer.seed,
    )  # fmt: skip


class WindowBatches:
    """Source of batches.

    Args:
        windows: Windows of a part.
        topology: Atoms and bonds.
        fresh: Whether first frames are moved within their spacing, and irregular times drawn anew, in every epoch.
    """

    def __init__(self, windows: Windows, topology: Topology, *, fresh: bool = False) -> None:
        self.windows, self.topology, self.fresh = windows, topology, fresh
        self.spacing = max(1, (windows.span[1] - windows.span[0]) // max(1, len(windows)))

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, frames: Sequence[int], epoch: int = 0, generator: torch.Generator | None = None) -> Batch:
        """Return the given windows as one batch."""
        del epoch
        chosen = np.asarray(frames)
        starts, ahead = self.windows.starts[chosen], self.windows.ahead[chosen]
        if self.fresh and generator is not None:
            starts, ahead = self._drawn(starts, ahead, generator)
        return self.of_frames(starts, ahead, list(frames))

    def of_frames(self, starts: NDArray[np.int64], ahead: NDArray[np.int64], frames: list[int]) -> Batch:
        """Return windows from these first frames, and to frames so many ahead."""
        run, later = self.windows.run, starts[:, None] + ahead
        x, v, path, speeds = (
            torch.from_numpy(values[chosen])
            for values, chosen in (
                (run.positions, starts), (run.velocities, starts), (run.positions, later), (run.velocities, later),
            )
        )  # fmt: skip
        graph = rollout_graph(self.topology, x, v, torch.from_numpy(ahead * run.timestep))
        labels = {PATH: path, PATH_VELOCITIES: speeds}
        labels = {name: value.transpose(1, 2).flatten(0, 1) for name, value in labels.items()}
        return Batch(graph, labels, torch.full((len(starts),), x.shape[1]), frames)

    def _drawn(
        self, starts: NDArray[np.int64], ahead: NDArray[np.int64], generator: torch.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First frames moved within their spacing, and other times where they are irregular."""
        windows = self.windows
        moved = starts + torch.randint(self.spacing, (len(starts),), generator=generator).numpy()
        starts = np.minimum(moved, windows.span[1] - 1)
        if windows.irregular:
            order = torch.rand(len(starts), windows.frames, generator=generator).argsort(dim=1)
            ahead = np.sort(order[:, : ahead.shape[1]].numpy(), axis=1) + 1
        return starts, ahead
