"""What score models are tried on: model clusters with published samples, and molecules with dynamics of our own."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units

from mlff_calc.bench.studies.model_clusters import CLUSTERS, ClusterEvaluator
from mlff_calc.datasets import read_structures
from mlff_calc.errors import BenchmarkError, DatasetError
from mlff_calc.sampling.calculators import evaluator_of
from mlff_calc.sampling.evaluators import Evaluator
from mlff_calc.sampling.langevin import Langevin
from mlff_calc.sampling.systems import FloatArray, Systems
from mlff_calc.whole_files import write_whole

TEMPERATURE = 500.0
MOLECULES = {
    "ethanol": ("rmd17/ethanol.npz", "ethanol"),
    "malonaldehyde": ("rmd17/malonaldehyde.npz", "gfn2-xtb"),
    "aspirin": ("rmd17/aspirin.npz", "gfn2-xtb"),
}
"""Molecules by name: a file with a first structure, and what gives energies and forces."""


@dataclass(frozen=True)
class Subject:
    """What is sampled.

    Attributes:
        name: Name.
        frames: Reference frames with `info["energy"]` (eV) and `arrays["forces"]` (eV/Angstrom).
        evaluator: Exact energies and forces.
        kT: Thermal energy, eV.
        dimensions: Number of dimensions of space.
        bonded: Whether networks are told bonds.
    """

    name: str
    frames: list[Atoms]
    evaluator: Evaluator
    kT: float
    dimensions: int
    bonded: bool

    @property
    def energies(self) -> FloatArray:
        """Energies of the frames [n_frames], eV."""
        return np.array([atoms.info["energy"] for atoms in self.frames])

    def copies(self, n: int) -> Systems:
        """The molecule `n` times."""
        return Systems.of([self.frames[0]] * n)[0]


def check_name(name: str) -> None:
    """Refuse a name that is not known.

    Raises:
        BenchmarkError: There is no such system.
    """
    if name not in (*CLUSTERS, *MOLECULES):
        raise BenchmarkError(f"unknown system {name!r}; choose {', '.join((*CLUSTERS, *MOLECULES))}")


def subject_of(name: str, data: Path | None, folder: Path, n_frames: int) -> Subject:
    """Prepare a model cluster or a molecule; frames of molecules are made by dynamics at 500 K and kept in the folder.

    Raises:
        BenchmarkError: The name or the folder of data sets is unknown, or a file is missing.
    """
    check_name(name)
    if data is None:
        raise BenchmarkError("the folder of data sets is not known; give --data, or set MLFF_DATA")
    if name in CLUSTERS:
        return _cluster(name, data, n_frames)
    file, calculator = MOLECULES[name]
    evaluator = evaluator_of(calculator, compile=calculator == name)
    kept = folder / f"{name}.extxyz"
    if not kept.is_file():
        try:
            first = read_structures(data / file, ":1", part="train")[0].atoms
        except DatasetError as error:
            raise BenchmarkError(str(error)) from error
        folder.mkdir(parents=True, exist_ok=True)
        write_frames(kept, _dynamics(first, evaluator, n_frames))
    frames = ase.io.read(kept, ":")
    for atoms in frames:
        atoms.info["energy"], atoms.arrays["forces"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
    return Subject(name, frames, evaluator, units.kB * TEMPERATURE, 3, bonded=True)


def _cluster(name: str, data: Path, n_frames: int) -> Subject:
    cluster = CLUSTERS[name]
    file = data / "boltzmann" / cluster.file
    if not file.is_file():
        raise BenchmarkError(f"there is no file {file}; give the folder of data sets with --data")
    with np.load(file) as stored:
        positions = np.concatenate([stored[key] for key in sorted(stored.files)])[:n_frames].astype(np.float64)
    positions = np.pad(positions, ((0, 0), (0, 0), (0, 3 - positions.shape[2])))
    positions -= positions.mean(axis=1, keepdims=True)
    frames = [Atoms(f"Ar{cluster.n_atoms}", place) for place in positions]
    energies, forces = cluster.energy(positions)
    for atoms, energy, force in zip(frames, energies, forces, strict=True):
        atoms.info["energy"], atoms.arrays["forces"] = float(energy), force
    return Subject(name, frames, ClusterEvaluator(cluster), 1.0, cluster.dimensions, bonded=False)


def _dynamics(first: Atoms, evaluator: Evaluator, n_frames: int) -> list[Atoms]:
    """Frames of Langevin dynamics of 8 replicas at `TEMPERATURE`, 40 fs apart, after 1 ps."""
    systems, positions = Systems.of([first] * 8)
    run = Langevin(systems, positions, evaluator, temperatures=TEMPERATURE, timestep=1.0, friction=5.0, seed=0)
    run.run(1000)
    frames: list[Atoms] = []
    while len(frames) < n_frames:
        run.run(40)
        frames += run.frames()
    return frames[:n_frames]


def write_frames(path: Path, frames: list[Atoms]) -> None:
    """Write frames as extxyz, whole or not at all."""
    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    write_whole(path, text.getvalue())
