"""Errors of predicted Fock matrices: entries, by pair of elements, and what follows from them for orbitals.

| row | content |
|---|---|
| matrix | mean absolute errors of entries of whole matrices, averaged over molecules; of blocks of atoms and of pairs |
| orbital energies | mean absolute errors of the occupied ones, of HOMO, LUMO and gap |
| orbitals | mean |cosine| between occupied columns C of prediction and reference, in coefficients |

Pairs beyond the cutoff of the network count with their whole reference. Degenerate orbitals of symmetric molecules have
no unique columns, which lowers the cosine at any error.

Source: Yu et al., "QH9" (2023).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlff_calc.datasets.matrix_frames import MatrixFrame
from mlff_calc.datasets.splits import PARTS
from mlff_calc.device import resolve_device
from mlff_calc.electronic.hamiltonian import HamiltonianNetwork, load_hamiltonian
from mlff_calc.electronic.hamiltonian.predict import Matrix, predict_fock
from mlff_calc.electronic.orbitals.shells import OrbitalBasis
from mlff_calc.electronic.scf.settings import SCFSettings
from mlff_calc.errors import DatasetError, EvaluationError
from mlff_calc.networks import find_network, trained_reading
from mlff_calc.training.hamiltonian.data import parts_of
from mlff_calc.training.hamiltonian.files import MatrixFrames, n_occupied, overlap_of, read_matrices

BATCH_SIZE = 32
SMALLEST_OVERLAP = 1e-8
"""Smallest eigenvalue of an overlap matrix that is divided by. Raising it leaves out more of a nearly dependent basis."""


@dataclass(frozen=True)
class MatrixErrors:
    """Errors of one kind of prediction, in Hartree.

    Attributes:
        all: Mean absolute error of entries, averaged over molecules.
        atoms: The same over blocks of atoms.
        pairs: The same over blocks of pairs; NaN without pairs.
        largest: Largest absolute error of an entry.
        by_elements: Mean absolute error by element (H) and pair of elements (H-O).
        occupied: Mean absolute error of occupied orbital energies.
        homo, lumo, gap: Mean absolute errors of these.
        cosine: Mean |cosine| between occupied columns.
    """

    all: float
    atoms: float
    pairs: float
    largest: float
    by_elements: dict[str, float]
    occupied: float
    homo: float
    lumo: float
    gap: float
    cosine: float


@dataclass(frozen=True)
class HamiltonianReport:
    """Result of `evaluate_hamiltonian`.

    Attributes:
        molecules: Number of molecules.
        errors: Errors by row: `model`, and `initial`, the Fock matrix of the initial density, where it is known.
        parameters: Number of trained parameters.
        ms_per_molecule: Processor time of a prediction in a batch, in milliseconds.
        steps: Number of steps of a flow; 0 for a regression.
    """

    molecules: int
    errors: dict[str, MatrixErrors]
    parameters: int
    ms_per_molecule: float
    steps: int = 0
    basis: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """The table of the card, in 1e-6 Hartree."""
        kinds = list(self.errors["model"].by_elements)
        head = (
            "1e-6 Hartree", "matrix", "atoms", "pairs", "largest", *kinds, "occupied", "HOMO", "LUMO", "gap", "cosine [%]",
        )  # fmt: skip
        lines = []
        for name, one in self.errors.items():
            values = [one.all, one.atoms, one.pairs, one.largest, *(one.by_elements[kind] for kind in kinds)]
            values += [one.occupied, one.homo, one.lumo, one.gap]
            lines.append((name, *(f"{1e6 * value:.4g}" for value in values), f"{100.0 * one.cosine:.4f}"))
        return [head, *lines]

    def as_text(self) -> str:
        """A table of plain text, a line for each quantity."""
        flow = f"; flow of {self.steps} steps" if self.steps else ""
        lines = [
            f"{self.molecules} molecules; {self.parameters} parameters; {self.ms_per_molecule:.2f} ms per molecule{flow}; "
            "mean absolute errors"
        ]
        lines += [f"{row[0]:<16}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in zip(*self.rows(), strict=True)]
        return "\n".join(lines)


class MatrixSums:
    """Sums of one row of a report, over molecules that are added one by one."""

    def __init__(self) -> None:
        self.means: dict[str, list[float]] = defaultdict(list)
        self.by_elements: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.largest = 0.0

    def add(self, found: Matrix, frame: MatrixFrame, atom_of: NDArray[np.int64], reference: Orbitals) -> None:
        """Add a molecule.

        Args:
            found: Predicted matrix [n, n], Hartree, in our order.
            frame: The molecule.
            atom_of: Number of the atom of each orbital [n].
            reference: Its orbitals, see `orbitals_of`.
        """
        wrong = np.abs(found - frame.fock)
        own = atom_of[:, None] == atom_of
        self.largest = max(self.largest, float(wrong.max()))
        self.means["all"].append(float(wrong.mean()))
        self.means["atoms"].append(float(wrong[own].mean()))
        if not own.all():
            self.means["pairs"].append(float(wrong[~own].mean()))
        self._add_elements(wrong, frame, atom_of)
        mine, n = orbitals_of(found, overlap_of(frame)), n_occupied(frame)
        apart = np.abs(mine.energies - reference.energies)
        self.means["occupied"].append(float(apart[:n].mean()) if n else 0.0)
        if 0 < n < len(apart):
            gaps = [one.energies[n] - one.energies[n - 1] for one in (mine, reference)]
            for name, value in (("homo", apart[n - 1]), ("lumo", apart[n]), ("gap", abs(gaps[0] - gaps[1]))):
                self.means[name].append(float(value))
        columns = [one.columns[:, :n] / np.linalg.norm(one.columns[:, :n], axis=0) for one in (mine, reference)]
        self.means["cosine"].append(float(np.abs((columns[0] * columns[1]).sum(axis=0)).mean()) if n else 1.0)

    def _add_elements(self, wrong: Matrix, frame: MatrixFrame, atom_of: NDArray[np.int64]) -> None:
        """Sum errors by block, then by elements."""
        n_atoms = len(frame.numbers)
        select = np.eye(n_atoms)[atom_of]
        sums, counts = select.T @ wrong @ select, np.outer(select.sum(axis=0), select.sum(axis=0))
        symbols = [chemical_symbols[z] for z in frame.numbers]
        for i in range(n_atoms):
            for j in range(n_atoms):
                kind = symbols[i] if i == j else "-".join(sorted((symbols[i], symbols[j])))
                self.by_elements[kind][0] += float(sums[i, j])
                self.by_elements[kind][1] += float(counts[i, j])

    def errors(self) -> MatrixErrors:
        """Errors over all molecules that were added."""
        means = {name: float(np.mean(values)) for name, values in self.means.items()}
        kinds = sorted(self.by_elements, key=lambda kind: ("-" in kind, kind))
        by_elements = {kind: self.by_elements[kind][0] / self.by_elements[kind][1] for kind in kinds}
        names = ("all", "atoms", "pairs", "occupied", "homo", "lumo", "gap", "cosine")
        return MatrixErrors(
            largest=self.largest, by_elements=by_elements, **{name: means.get(name, float("nan")) for name in names}
        )


def add_matrices(
    sums: Mapping[str, MatrixSums], found: Mapping[str, Matrix], frame: MatrixFrame, basis: OrbitalBasis
) -> None:
    """Add several predictions for a molecule, by name, to their sums.

    Args:
        sums: Sums by name.
        found: Predicted matrices [n, n] by name, Hartree, in our order.
        frame: The molecule.
        basis: Basis of the orbitals.
    """
    atom_of = np.repeat(np.arange(len(frame.numbers)), basis.orbitals_by_atom(frame.numbers))
    reference = orbitals_of(frame.fock, overlap_of(frame))
    for name, matrix in found.items():
        sums[name].add(matrix, frame, atom_of, reference)


@dataclass(frozen=True)
class Orbitals:
    """Eigenvalues [n] in Hartree and eigenvectors [n, n] of a Fock matrix, rising."""

    energies: NDArray[np.float64]
    columns: Matrix


def orbitals_of(fock: Matrix, overlap: Matrix) -> Orbitals:
    """Solve F C = S C e by Loewdin's orthogonalization, with eigenvalues of S of at least `SMALLEST_OVERLAP`.

    Args:
        fock: Fock matrix [n, n], Hartree.
        overlap: Overlap matrix [n, n].
    """
    values, vectors = np.linalg.eigh(overlap)
    root = vectors / np.sqrt(np.maximum(values, SMALLEST_OVERLAP)) @ vectors.T
    energies, columns = np.linalg.eigh(root @ fock @ root)
    return Orbitals(energies, root @ columns)


def evaluate_hamiltonian(
    network: HamiltonianNetwork, frames: MatrixFrames, *, batch_size: int = BATCH_SIZE
) -> HamiltonianReport:
    """Compare predicted Fock matrices with those of molecules.

    Args:
        network: Network on any device; it is put in evaluation mode.
        frames: At least one molecule in the basis and at the level of the network.
        batch_size: Number of molecules evaluated at once.

    Raises:
        DatasetError: The matrices are in another basis or at another level, or lack what the network needs.
        EvaluationError: A prediction is not finite.
    """
    check_level(network, frames)
    network.eval()
    sums: dict[str, MatrixSums] = defaultdict(MatrixSums)
    seconds = 0.0
    for begin in range(0, len(frames), batch_size):
        part = [frames[k] for k in range(begin, min(begin + batch_size, len(frames)))]
        initials = [one.initial for one in part if one.initial is not None]
        began = time.process_time()
        found = predict_fock(
            network, [one.atoms for one in part], overlaps=[overlap_of(one) for one in part],
            initials=initials if len(initials) == len(part) else None,
        )  # fmt: skip
        seconds += time.process_time() - began
        for k, (fock, frame) in enumerate(zip(found, part, strict=True)):
            if not np.isfinite(fock).all():
                raise EvaluationError(
                    f"{frames.place(begin + k)}: the predicted Fock matrix is not finite; look at this molecule, or try "
                    "--precision float64"
                )
            given = {"model": fock} | ({} if frame.initial is None else {"initial": frame.initial})
            add_matrices(sums, given, frame, network.basis)
    flow = network.config["flow"]
    return HamiltonianReport(
        len(frames), {name: one.errors() for name, one in sums.items()},
        sum(parameter.numel() for parameter in network.parameters()), 1000.0 * seconds / len(frames),
        int(flow["steps"]) if flow else 0, frames.basis.name, frames.settings,
    )  # fmt: skip


def check_level(network: HamiltonianNetwork, frames: MatrixFrames) -> None:
    """Refuse matrices that a network was not made for.

    Raises:
        DatasetError: They are in another basis, at another level or of another charge, or lack what the network needs.
    """
    found = [({int(z) for z in one.numbers}, one.charge) for one in frames]
    elements, charges = set().union(*(one for one, _ in found)), sorted({charge for _, charge in found})
    if charges != [network.charge]:
        raise DatasetError(f"{frames.path} has molecules of the charges {charges}; the network is for {network.charge} only")
    unknown = sorted(elements - set(network.elements))
    if unknown:
        raise DatasetError(f"{frames.path} has the elements {unknown}; the network knows {list(network.elements)} only")
    for z in sorted(elements):
        theirs, mine = list(frames.basis.shells_of(z)), list(network.basis.shells_of(z))
        if theirs != mine:
            raise DatasetError(
                f"{frames.path} has the basis {frames.basis.name!r} with shells {theirs} of {chemical_symbols[z]}; "
                f"the network predicts {network.basis.name!r} with {mine}: give its own basis"
            )
    if network.settings is not None:
        different = network.settings.differences(SCFSettings.from_dict(frames.settings))
        if different:
            raise DatasetError(
                f"the network and {frames.path} are of other levels: {', '.join(different)}; give matrices of the level of "
                "the training"
            )
    if network.needs_initial and frames[0].initial is None:
        raise DatasetError(f"{frames.path} lacks Fock matrices of the initial density, which the network needs")


def evaluate_hamiltonian_file(
    folder: str | Path,
    data: str | Path,
    *,
    part: str | None = None,
    limit: int | None = None,
    format: str | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    precision: str = "float32",
) -> HamiltonianReport:
    """Evaluate a network, given by its folder, on a file of matrices.

    Args:
        folder: Folder of the network, or name of a shipped one.
        data: File of matrices.
        part: `train`, `valid` or `test`, drawn as in the training; None or `all` for the whole file.
        limit: Largest number of molecules, the first ones.
        format: Format of the file, see `open_matrices`; a file that does not know its level is taken for one of the
            network's, in PySCF's order.
        batch_size: Number of molecules evaluated at once.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        precision: `float32` or `float64`.

    Raises:
        PotentialFileError: The folder holds no network for Fock matrices.
        DatasetError: The file cannot be read, does not fit, or has no such part.
    """
    network = load_hamiltonian(folder).to_precision(precision).to(resolve_device(device))
    frames = read_matrices(Path(data), format, network.config["settings"])
    if part in PARTS:
        split = trained_reading(find_network(folder, HamiltonianNetwork.kind)).get("split")
        if split is None:
            raise DatasetError(f"the network does not say how its data were cut into parts; leave out --part {part}")
        parts = parts_of(frames, split)
        if part not in parts:
            raise DatasetError(f"the network was trained with no molecules for {part}; ask for another part, or all")
        frames = parts[part]
    if limit is not None:
        frames = frames.chosen(range(min(limit, len(frames))))
    return evaluate_hamiltonian(network, frames, batch_size=batch_size)
