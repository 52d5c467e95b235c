"""What predicted Fock matrices tell of the frames of a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from mlff_calc.datasets import Sample
from mlff_calc.datasets.matrix_files import writing_matrices
from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.device import resolve_device
from mlff_calc.electronic.hamiltonian import load_hamiltonian
from mlff_calc.electronic.scf.observables import write_cubes
from mlff_calc.electronic.scf.predicted import PredictedMolecule, check_level, check_molecule, predict_properties
from mlff_calc.electronic.scf.properties import FAR
from mlff_calc.errors import OptionError
from mlff_calc.training.output_files import check_output
from mlff_calc.training.predict import FramePrediction, Predictor

MATRICES = (".h5", ".hdf5")
CUBES = ("density", "homo", "lumo")


class HamiltonianPredictor(Predictor):
    """A network for Fock matrices.

    Args:
        model: Name of a shipped network, or a folder.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `float32` or `float64`.
        energy: Whether to compute energies, which takes a Fock build for each frame.
        matrices: HDF5 file for the matrices, in the layout of `MatrixFile`; None for none.
        cube: Cube files to write, of `density`, `homo` and `lumo`, or numbers of orbitals from 0.

    Raises:
        PotentialFileError: There is no such network.
        OptionError: PySCF is not installed, the level of the network is not known, or a cube file has no such name.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        precision: str | None = None,
        energy: bool = False,
        matrices: Path | None = None,
        cube: Sequence[str] = (),
    ) -> None:
        self.network = load_hamiltonian(model).to_precision(precision or "float32").to(resolve_device(device)).eval()
        self.settings = check_level(self.network)
        self.energy, self.matrices = energy, matrices
        self.cube = tuple(_cube_name(word) for word in cube)
        self._numbers: list[NDArray[np.int64]] = []
        self._add: Callable[[MatrixFrame], None] | None = None
        self._cubes: Path | None = None

    def begin(self) -> None:
        """Forget the structures of an earlier file."""
        self._numbers.clear()

    def check(self, atoms: Atoms) -> None:
        """Refuse what is no closed-shell molecule of the elements and the charge of the network."""
        check_molecule(self.network, atoms)
        if self.matrices is not None:
            self._numbers.append(atoms.numbers.astype(np.int64))

    def check_files(self, n_frames: int, output: Path, *, overwrite: bool) -> None:
        """Check that the matrices and cube files can be written."""
        if self.matrices is not None:
            check_output("--matrices", self.matrices, MATRICES, "matrices.h5", overwrite=overwrite)
        if self.cube and n_frames > 1:
            raise OptionError(f"--cube is for a single frame, and there are {n_frames}; choose one, as by --index 0")
        if self.cube and cubes_of(output).exists() and not overwrite:
            raise OptionError(f"--cube: {cubes_of(output)} exists already; give --output another name, or --overwrite")

    @contextmanager
    def writing(self, output: Path) -> Iterator[None]:
        """Open the file of matrices and a folder for cube files, which appear at the end."""
        with ExitStack() as stack:
            if self.matrices is not None:
                self._add = stack.enter_context(
                    writing_matrices(
                        self.matrices, self._numbers, self.settings.to_dict(), self.network.basis.to_dict(),
                        predicted_by=self.network.sha256,
                    )
                )  # fmt: skip
            if self.cube:
                place = stack.enter_context(tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=".cubes."))
                self._cubes = Path(place)
            yield
            if self._cubes is not None:
                cubes_of(output).mkdir(exist_ok=True)
                for older in cubes_of(output).glob("*.cube"):  # of another structure, perhaps
                    older.unlink()
                for file in self._cubes.iterdir():
                    file.replace(cubes_of(output) / file.name)

    def predict(self, samples: Sequence[Sample]) -> list[FramePrediction]:
        """Orbital energies (eV), dipole (e Angstrom), charges (e) and, if asked for, energy (eV)."""
        found = predict_properties(self.network, [sample.atoms for sample in samples], energy=self.energy)
        for sample, one in zip(samples, found, strict=True):
            if self._add is not None:
                self._add(_frame_of(sample, one))
            if self._cubes is not None:
                write_cubes(
                    one.mole, one.properties.density, self._cubes, coefficients=one.properties.coefficients, wanted=self.cube
                )
        return [_prediction(one) for one in found]


def cubes_of(output: Path) -> Path:
    """Folder of the cube files that belong to a file of structures."""
    return output.with_name(f"{output.stem}_cubes")


def _cube_name(word: str) -> str | int:
    if word not in CUBES and not word.isdecimal():
        raise OptionError(f"--cube: there is no {word!r}; choose among {', '.join(CUBES)}, or numbers of orbitals from 0")
    return int(word) if word.isdecimal() else word


def _prediction(one: PredictedMolecule) -> FramePrediction:
    found = one.properties
    energies = np.where(found.orbital_energies < FAR, found.orbital_energies, np.nan) * units.Hartree
    edge: dict[str, Any] = {name: getattr(found, name) * units.Hartree for name in ("homo", "lumo", "gap")}
    results: dict[str, Any] = {"dipole": found.dipole}
    if one.energy is not None:
        results["energy"] = one.energy * units.Hartree
    charges = {"mulliken_charges": found.mulliken_charges, "loewdin_charges": found.loewdin_charges}
    return FramePrediction(results, edge | {"orbital_energies": energies}, charges)


def _frame_of(sample: Sample, one: PredictedMolecule) -> MatrixFrame:
    return MatrixFrame(
        sample.atoms.numbers.astype(np.int64), sample.atoms.positions, one.fock, one.overlap, one.initial,
        energy=one.energy, charge=int(one.mole.charge), source=sample.frame,
    )  # fmt: skip
