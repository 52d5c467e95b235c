"""Self-test of the pair style: a short run on one and two ranks, compared with the calculator frame by frame.

LAMMPS runs a small periodic crystal of a potential's elements at constant energy. `MLFFCalculator` evaluates every
frame, and energies, forces and pressures are compared.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.lammps.build import build_plugin
from mlff_calc.lammps.carried import carry
from mlff_calc.lammps.mpi import run_lammps

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_calc.export import ExportedPotential

N_STEPS = 10
"""Number of compared steps. More steps test longer trajectories, in which rounding grows, and take longer."""
FEW_STEPS = 2
"""Number of steps for potentials on a fixed point, which the calculator solves from scratch in every frame."""
TIMESTEP_PS = 1e-4  # time step; a larger one moves atoms further and makes rounding grow faster
TEMPERATURE_K = 300.0  # temperature of the initial velocities; a higher one moves atoms further
TIME_LIMIT_S = 900  # time limit of a run of LAMMPS in seconds; a larger one waits longer for a run that hangs
SIDE = 4  # atoms along an edge of the box
PER_BAR = 1.0 / 1.602176634e6  # eV/Angstrom^3
TOLERANCES = {"float64": (1e-9, 1e-10, 1e-6), "mixed": (1e-4, 1e-4, 1e-3), "float32": (1e-4, 1e-4, 1e-3)}
"""Accepted differences: energy in eV/atom, forces in eV/Angstrom, pressure relative to its largest component."""
CONVERGED = {"float64": 1e-11, "mixed": 1e-5, "float32": 1e-5}
"""Relative residual to which both programs solve fixed points for the comparison."""


@dataclass(frozen=True)
class Difference:
    """One line of the self-test.

    Attributes:
        n_ranks: number of ranks of LAMMPS.
        quantity: compared quantity.
        unit: unit of the quantity.
        largest: largest difference over all frames.
        tolerance: largest accepted difference.
    """

    n_ranks: int
    quantity: str
    unit: str
    largest: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance; False for NaN."""
        return self.largest <= self.tolerance


def check_lammps(target: str | Path, ranks: Sequence[int] = (1, 2), *, trust: bool = False) -> list[Difference]:
    """Compare LAMMPS with the calculator for a potential.

    Args:
        target: file of ``mlff export --to lammps``, or a potential (name or folder), which is exported in float64.
        ranks: numbers of ranks to run on.
        trust: whether to open a file that this user did not export on this machine, although its code is run.

    Raises:
        OptionError: the compiler or LAMMPS is missing, or the file is for another program.
        PotentialFileError: there is no such potential, or the file is somebody else's and not trusted.
        SimulationError: LAMMPS did not finish.
    """
    plugins = build_plugin().parent
    with tempfile.TemporaryDirectory(prefix="mlff-check-") as name:
        folder = Path(name)
        exported = _exported(target, folder, trust)
        carry(exported.path, exported.sha256, folder)
        atoms = crystal(exported.elements)
        (folder / "in.data").write_text(_data(atoms, exported.elements), encoding="utf-8")
        found = []
        for n_ranks in ranks:
            energies, frames = _run(exported, folder, plugins, n_ranks)
            found += _compare(exported, atoms, energies, frames, n_ranks)
    return found


def crystal(elements: Sequence[int], seed: int = 0) -> Atoms:
    """Build a periodic cubic grid of 64 atoms, jittered by 0.05 Angstrom, with random elements.

    Args:
        elements: atomic numbers; the largest atom sets the spacing.
        seed: seed of jitter and elements.
    """
    from ase import Atoms
    from ase.data import covalent_radii

    spacing = 2.2 * max(float(covalent_radii[number]) for number in elements)
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    positions = spacing * grid + generator.normal(scale=0.05, size=grid.shape)
    numbers = generator.choice(list(elements), size=len(grid))
    return Atoms(numbers, positions=positions, cell=[spacing * SIDE] * 3, pbc=True)


def _exported(target: str | Path, folder: Path, trust: bool) -> ExportedPotential:
    """Return the file to test, exporting it first where a potential is given.

    Raises:
        OptionError: the file is for another program than LAMMPS.
        PotentialFileError: there is no such potential, or the file is somebody else's and not trusted.
    """
    from mlff_calc.calculators.stepping import stepping_of
    from mlff_calc.export import ExportedPotential, export_potential, load_exported
    from mlff_calc.export.opening import load_any

    exported = load_any(target, trust=trust)
    if not isinstance(exported, ExportedPotential):
        path = folder / "exported.pt"
        export_potential(exported, path, to="lammps", precision="float64", stepping=stepping_of("auto", exported))
        exported = load_exported(path)
    if exported.metadata.fixed_point:
        exported.metadata.fixed_point["cold_tolerance"] = CONVERGED[exported.precision]
    if exported.metadata.kind != "lammps":
        raise OptionError(
            f"{target} was exported to {exported.metadata.kind}; write one with: mlff export P --to lammps"
        )
    return exported


def _data(atoms: Atoms, elements: Sequence[int]) -> str:
    """Write a data file of LAMMPS."""
    from ase.data import atomic_masses

    types = {number: kind for kind, number in enumerate(elements, start=1)}
    lines = ["mlff lammps check", "", f"{len(atoms)} atoms", f"{len(types)} atom types", ""]
    lines += [f"0 {length:.17g} {axis}lo {axis}hi" for axis, length in zip("xyz", atoms.cell.lengths(), strict=True)]
    lines += ["", "Masses", "", *(f"{kind} {atomic_masses[number]:.10g}" for number, kind in types.items())]
    lines += ["", "Atoms # atomic", ""]
    for index, (number, place) in enumerate(zip(atoms.numbers, atoms.positions, strict=True), start=1):
        lines.append(f"{index} {types[number]} {place[0]:.17g} {place[1]:.17g} {place[2]:.17g}")
    return "\n".join(lines) + "\n"


def _run(exported: ExportedPotential, folder: Path, plugins: Path, n_ranks: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Run LAMMPS; return energies and pressures [n_frames, 7] in its units, and positions and forces [n_atoms, 6] per frame.

    Raises:
        SimulationError: LAMMPS stopped.
    """
    n_steps = FEW_STEPS if exported.metadata.fixed_point else N_STEPS
    tolerance = f" tolerance {CONVERGED[exported.precision]}" if exported.metadata.fixed_point else ""
    text = (
        f"units metal\natom_style atomic\nread_data in.data\npair_style mlff{tolerance}\n"
        f"pair_coeff * * potential{exported.path.suffix} {' '.join(exported.metadata.symbols)}\n"
        f"velocity all create {TEMPERATURE_K} 4928459 loop all\nfix 1 all nve\ntimestep {TIMESTEP_PS}\n"
        "compute p all pressure NULL virial\n"
        "thermo 1\nthermo_style custom step pe c_p[1] c_p[2] c_p[3] c_p[4] c_p[5] c_p[6]\n"
        "thermo_modify format float %.17g\n"
        "dump 1 all custom 1 frames.dump id xu yu zu fx fy fz\n"
        "dump_modify 1 sort id format float %.17g\n"
        f"run {n_steps}\n"
    )
    try:
        done = run_lammps(text, folder=folder, n_ranks=n_ranks, plugins=str(plugins), timeout_s=TIME_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        msg = f"LAMMPS on {n_ranks} ranks did not end within {TIME_LIMIT_S} s; is the machine busy, or MPI stuck?"
        raise SimulationError(msg) from error
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise SimulationError(f"LAMMPS stopped on {n_ranks} ranks: {' '.join(lines[:2]) or done.stderr[-500:]}")
    return _thermo((folder / "log.lammps").read_text(encoding="utf-8"), n_steps), _frames(folder / "frames.dump")


def _thermo(log: str, n_steps: int) -> np.ndarray:
    lines = log.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.split()[:2] == ["Step", "PotEng"])
    rows = [line.split() for line in lines[begin + 1 : begin + 2 + n_steps]]
    return np.array([[float(word) for word in row[1:]] for row in rows])


def _frames(dump: Path) -> list[np.ndarray]:
    blocks = dump.read_text(encoding="utf-8").split("ITEM: TIMESTEP\n")[1:]
    return [np.loadtxt(block.split("\n")[8:], ndmin=2)[:, 1:] for block in blocks]


def _compare(
    exported: ExportedPotential, atoms: Atoms, energies: np.ndarray, frames: list[np.ndarray], n_ranks: int
) -> list[Difference]:
    """Compute the largest differences from the calculator over all frames."""
    from mlff_calc.calculators import MLFFCalculator

    frame = atoms.copy()
    frame.calc = MLFFCalculator(exported, precision=exported.precision, device="cpu")
    worst = np.zeros(3)
    for row, found in zip(energies, frames, strict=True):
        frame.positions[:] = found[:, :3]
        pressure = -frame.get_stress(voigt=False)[(0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)]
        differences = (
            abs(row[0] - frame.get_potential_energy()) / len(frame),
            np.abs(found[:, 3:] - frame.get_forces()).max(),
            np.abs(row[1:] * PER_BAR - pressure).max() / np.abs(pressure).max(),
        )
        worst = np.maximum(worst, differences)
    names = (("energy", "eV/atom"), ("forces", "eV/Angstrom"), ("pressure", "relative"))
    return [
        Difference(n_ranks, name, unit, float(value), tolerance)
        for (name, unit), value, tolerance in zip(names, worst, TOLERANCES[exported.precision], strict=True)
    ]
