"""Process that times one program, with the same loop for this package and for every peer.

The process runs in the environment of the program, so it needs only numpy, ase and that program. It reads one JSON command
per line and answers with one JSON line. All other output of a program goes to stderr. The parent (`session.py`) keeps one
process per program and lets them take turns, so that changes in the speed of the machine affect all of them. With one thread
the processor time of the process is measured, which other programs hardly change; with several threads the wall time.

| command | fields | answer |
|---|---|---|
| `load` | key, loader, options | versions, and a note on what was loaded |
| `time` | key, frames, start, steps | `seconds` of each step, `energy` of the last |
| `errors` | key, frames (extxyz) | `force_mae`, `force_rmse` meV/Angstrom, `energy_mae` meV/atom |
| `stop` | none | none |
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def load_mlff(potential: str, precision: str, compiled: bool, config: dict | None = None) -> tuple[Any, str]:
    """Load the calculator of this package, for a potential by name or folder or for random weights of a configuration."""
    from mlff_calc.bench.models import make_calculator

    calculator = make_calculator(potential, config, precision=precision, compiled=compiled, device="cpu")
    return calculator, "compiled" if compiled else "eager"


def load_nequip(path: str, compiled: bool, neighbors: str = "matscipy") -> tuple[Any, str]:
    """Load NequIP's calculator, also used by Allegro, for a compiled model or for a checkpoint without compilation."""
    from nequip.integrations.ase import NequIPCalculator

    make = NequIPCalculator.from_compiled_model if compiled else NequIPCalculator._from_saved_model
    calculator = make(path, device="cpu", neighborlist_backend=neighbors)
    return calculator, "AOTInductor" if compiled else "eager"


def load_mace(
    path: str | None = None,
    elements: list[int] | None = None,
    hidden_irreps: str = "64x0e + 64x1o",
    cutoff: float = 5.0,
    precision: str = "float32",
    compile_mode: str | None = None,
) -> tuple[Any, str]:
    """Load MACE's calculator for a trained model, or for random weights of a given size."""
    import torch
    from mace.calculators import MACECalculator

    chosen = {"compile_mode": compile_mode, "fullgraph": False} if compile_mode else {}
    if path is not None:
        found = MACECalculator(model_paths=path, device="cpu", default_dtype=precision, **chosen)
    else:
        torch.set_default_dtype(getattr(torch, precision))
        model = _random_mace(elements or [], hidden_irreps, cutoff)
        found = MACECalculator(models=model, device="cpu", default_dtype=precision, **chosen)
    return found, f"torch.compile ({compile_mode})" if compile_mode else "eager"


def _random_mace(elements: list[int], hidden_irreps: str, cutoff: float) -> Any:
    """Build a two-layer MACE with random weights and MACE's defaults, correlation 3 and spherical harmonics up to l = 3."""
    import torch
    from e3nn import o3
    from mace import modules

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps(hidden_irreps),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=10.0,
        atomic_numbers=sorted(elements),
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )


def load_ace(path: str) -> tuple[Any, str]:
    """Load ACE's calculator for a fitted model, with the reference energies of the fit."""
    from pathlib import Path

    from pyace import PyACECalculator

    references = json.loads(Path(path).read_text())["references"]

    class Referenced(PyACECalculator):
        def calculate(self, *args: Any, **kwargs: Any) -> None:
            super().calculate(*args, **kwargs)
            self.results["energy"] += sum(references[symbol] for symbol in self.atoms.symbols)

    return Referenced(str(Path(path).with_suffix(".yace"))), "C-tilde"


def load_snap(path: str) -> tuple[Any, str]:
    """Load a fitted SNAP in LAMMPS, with the reference energies of the fit."""
    from snap_system import SNAPCalculator

    return SNAPCalculator(path), "pair_style snap"


LOADERS: dict[str, Callable[..., tuple[Any, str]]] = {
    "mlff": load_mlff,
    "nequip": load_nequip,
    "mace": load_mace,
    "ace": load_ace,
    "snap": load_snap,
}


class Worker:
    """Calculators by key, and the commands that use them.

    Args:
        threads: Number of threads.
    """

    def __init__(self, threads: int) -> None:
        self.clock = time.process_time if threads == 1 else time.perf_counter
        self.calculators: dict[str, Any] = {}
        self.frames: dict[str, tuple[Any, dict[str, np.ndarray]]] = {}

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Execute one command."""
        fields = {name: value for name, value in command.items() if name != "command"}
        return getattr(self, f"do_{command['command']}")(**fields)

    def do_load(self, key: str, loader: str, options: dict[str, Any]) -> dict[str, Any]:
        """Make a calculator, and store it under `key`."""
        self.calculators[key], note = LOADERS[loader](**options)
        return {"note": note}

    def do_time(self, key: str, frames: str, start: int, steps: int) -> dict[str, Any]:
        """Time energy and forces of `steps` consecutive frames, starting at frame `start`."""
        if frames not in self.frames:  # all turns use the same Atoms object, as a run of MD does
            self.frames[frames] = _atoms(frames)
        atoms, data = self.frames[frames]
        atoms.calc = self.calculators[key]
        seconds = []
        for index in range(start, start + steps):
            atoms.positions[:] = data["positions"][index % len(data["positions"])]
            begin = self.clock()
            forces = atoms.get_forces()
            energy = atoms.get_potential_energy()
            seconds.append(self.clock() - begin)
            if not np.isfinite(forces).all():
                raise ValueError(f"forces of frame {index} are not finite")
        return {"seconds": seconds, "energy": float(energy)}

    def do_errors(self, key: str, frames: str) -> dict[str, Any]:
        """Compute errors over labelled frames, whose atoms and cells may differ."""
        from ase.io import read

        forces, energies = [], []
        for labelled in read(frames, ":"):
            atoms = labelled.copy()
            atoms.calc = self.calculators[key]
            forces.append((atoms.get_forces() - labelled.get_forces()).ravel())
            energies.append((atoms.get_potential_energy() - labelled.get_potential_energy()) / len(atoms))
        wrong = np.concatenate(forces)
        return {
            "force_mae": 1e3 * float(np.abs(wrong).mean()),
            "force_rmse": 1e3 * float(np.sqrt((wrong**2).mean())),
            "energy_mae": 1e3 * float(np.abs(energies).mean()),
        }


def _atoms(path: str) -> tuple[Any, dict[str, np.ndarray]]:
    from ase import Atoms

    with np.load(path) as file:
        data = {name: file[name] for name in file.files}
    return Atoms(data["numbers"], data["positions"][0], cell=data["cell"], pbc=data["pbc"]), data


def set_threads(threads: int) -> None:
    """Set the number of threads of PyTorch, if the program uses it."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(threads)


def main() -> None:
    """Answer commands until `stop` or the end of the input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that output of the programs does not mix with the answers
    set_threads(threads)
    worker = Worker(threads)
    for line in sys.stdin:
        command = json.loads(line)
        if command["command"] == "stop":
            break
        try:
            reply = {"ok": True, **worker.answer(command)}
        except Exception as error:  # the parent reports the error and continues with the other programs
            reply = {"ok": False, "error": f"{type(error).__name__}: {error}"[:2000]}
        set_threads(threads)  # loading a program may have changed it
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
