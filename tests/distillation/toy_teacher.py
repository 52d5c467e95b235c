"""A teacher of microseconds with any fault that teachers have: Morse pairs, imported by its processes and not by the
tests."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

DEPTH, WIDTH, LENGTH = 0.6, 1.2, 2.5


class Morse(Calculator):
    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, fault="", share=1.0, log="", shift=0.0, converged=True):
        super().__init__()
        self.fault, self.share, self.log, self.shift, self.converged = fault, share, log, shift, converged

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if "stress" in properties:
            raise PropertyNotImplementedError("stress is not implemented")
        digest = hashlib.sha256(atoms.positions.round(6).tobytes()).digest()
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(digest.hex() + "\n")
        vectors = atoms.positions[:, None] - atoms.positions[None]
        lengths = np.linalg.norm(vectors, axis=2) + 9.0 * np.eye(len(atoms))
        ex = np.exp(-WIDTH * (lengths - LENGTH))
        pairs = DEPTH * (ex**2 - 2.0 * ex) * (1.0 - np.eye(len(atoms)))
        slopes = DEPTH * WIDTH * (2.0 * ex - 2.0 * ex**2) * (1.0 - np.eye(len(atoms)))
        forces = -np.einsum("ij,ijk->ik", slopes / lengths, vectors)
        energy = 0.5 * pairs.sum() + self.shift
        strikes = digest[0] < 256 * self.share
        if self.fault and strikes:
            energy, forces = self._faulty(energy, forces)
        self.results = {"energy": energy, "forces": forces}

    def _faulty(self, energy, forces):
        match self.fault:
            case "raises":
                raise RuntimeError("no convergence after 9 cycles")
            case "hangs":
                if self.log:
                    Path(self.log).write_text(str(os.getpid()))
                time.sleep(60.0)
            case "dies":
                os._exit(9)
            case "exits":
                raise SystemExit("licence expired")
            case "prints":
                print('{"number": 0, "energy": 1.0}', flush=True)
                os.write(1, b"a library writes too\n")
            case "nan":
                forces = forces * np.nan
            case "shape":
                forces = forces[1:]
            case "large":
                forces = forces + 500.0
            case "units":
                forces = forces * 1e5
            case "hartree":
                energy = energy / 27.211386
            case "gradient":
                forces = -forces
            case "energy":
                energy = energy + 1e4
            case "reads":
                sys.stdin.read()
            case "starts":
                program = subprocess.Popen(["sleep", "60"])
                Path(self.log).write_text(str(program.pid))
                time.sleep(60.0)
            case "one":
                energy = np.array([energy])
            case "none":
                energy = None
        return energy, forces


def calculator(**options):
    return Morse(**options)


def knows_no_gold(**options):
    raise_for = options.pop("element", "Au")

    class Some(Morse):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            if raise_for in atoms.get_chemical_symbols():
                raise NotImplementedError(f"no parameters for {raise_for}")
            super().calculate(atoms, properties, system_changes)

    return Some(**options)
