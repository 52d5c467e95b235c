"""Processor time of self-consistent fields: a learned functional, its base functional by libxc, and the field in torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from ase import Atoms

from mlff_calc.electronic.functional import FunctionalNetwork, build_functional
from mlff_calc.electronic.functional.bases import BASES
from mlff_calc.electronic.functional.unrolled import solve_field
from mlff_calc.electronic.scf.functional_engine import rks
from mlff_calc.electronic.scf.functional_matrices import MOST_ORBITALS, matrices_of
from mlff_calc.electronic.scf.mean_field import converged, initial_density, no_file
from mlff_calc.electronic.scf.pyscf_door import build_mole, pyscf_module
from mlff_calc.electronic.scf.settings import SCFSettings

STRENGTH = 0.02
"""Size of the weights of energy densities in networks that are not trained."""
TOLERANCE = 1e-9
"""Change of the energy at convergence, Hartree."""


def timed_functional(elements: Sequence[int], base: str, basis: str, grid_level: int) -> FunctionalNetwork:
    """Make a functional of the size of the recipe's example, with random weights that do something.

    Args:
        elements: Atomic numbers.
        base: Base functional.
        basis: Name of a basis of PySCF.
        grid_level: Level of the grid.
    """
    sizes = {"base": base, "basis": basis, "grid_level": grid_level, "elements": sorted({int(one) for one in elements})}
    network = build_functional(sizes, seed=0)
    with torch.no_grad():
        if network.weights is not None:
            network.weights.scale.fill_(STRENGTH)
    return network.eval().requires_grad_(False)


def measure_scf(network: FunctionalNetwork, molecules: Sequence[tuple[str, Atoms]], rounds: int = 3) -> list[dict[str, Any]]:
    """Time whole fields of molecules on the same grid without pruning, from the same start, in turns.

    Args:
        network: Functional.
        molecules: Names and structures.
        rounds: Number of rounds after one that warms up; medians are given.

    Returns:
        Rows with `molecule`, `atoms`, `orbitals`; cycles and seconds of processor time of libxc (`libxc_cycles`, `libxc_s`),
        of the functional in PySCF (`cycles`, `seconds`) and of its field in torch (`torch_cycles`, `torch_s`); `ratio`, of
        functional and libxc; and `torch_ratio`, of the times for each Fock matrix in torch and of the functional in PySCF.
        Where a molecule is too large for the field in torch, its values are empty.

    Raises:
        ConvergenceError: A field does not converge.
        OptionError: PySCF is not installed, or does not know the basis.
        StructureError: A structure is not a molecule with paired electrons.
    """
    rows = []
    for name, atoms in molecules:
        SCFSettings("hf", network.basis, network.grid_level).check(atoms.numbers)
        mole = build_mole(atoms, network.basis)
        jobs: dict[str, Callable[[], int]] = {"libxc": partial(_libxc, network, mole), "own": partial(_own, network, mole)}
        if mole.nao <= MOST_ORBITALS:
            jobs["torch"] = partial(_torch, network, mole)
        times: dict[str, list[float]] = {job: [] for job in jobs}
        cycles = {}
        for turn in range(rounds + 1):
            for job, run in jobs.items():
                begin = time.process_time()
                cycles[job] = run()
                if turn:
                    times[job].append(time.process_time() - begin)
        found = {job: median(each) for job, each in times.items()}
        row: dict[str, Any] = {
            "molecule": name, "atoms": len(atoms), "orbitals": int(mole.nao), "libxc_cycles": cycles["libxc"],
            "libxc_s": found["libxc"], "cycles": cycles["own"], "seconds": found["own"],
            "ratio": found["own"] / found["libxc"], "torch_cycles": "", "torch_s": "", "torch_ratio": "",
        }  # fmt: skip
        if "torch" in jobs:
            # PySCF builds a matrix before the first cycle and one after the last, the field in torch only the former
            per_matrix = {job: found[job] / (cycles[job] + extra) for job, extra in (("own", 2), ("torch", 1))}
            row |= {
                "torch_cycles": cycles["torch"], "torch_s": found["torch"],
                "torch_ratio": per_matrix["torch"] / per_matrix["own"],
            }  # fmt: skip
        rows.append(row)
    return rows


def _libxc(network: FunctionalNetwork, mole: Any) -> int:
    mf = pyscf_module("pyscf.dft").RKS(mole, xc=BASES[network.base])
    mf.grids.level, mf.grids.prune = network.grid_level, None
    mf.init_guess = rks(network, mole).init_guess
    return _solved(mf)


def _own(network: FunctionalNetwork, mole: Any) -> int:
    return _solved(rks(network, mole))


def _solved(mf: Any) -> int:
    no_file(mf)
    mf.verbose, mf.conv_tol = 0, TOLERANCE
    return converged(mf, initial_density(mf)).cycles


def _torch(network: FunctionalNetwork, mole: Any) -> int:
    mf = rks(network, mole)
    no_file(mf)
    start = torch.from_numpy(np.array(initial_density(mf), dtype=np.float64))
    return solve_field(network, matrices_of(mf), start, conv_tol=TOLERANCE).cycles
