"""One measurement in a separate process, so that the peak memory of the process is that of the measurement.

    python -m mlff_calc.bench.child '{"task": "step", ...}'

The result is one JSON object on stdout. Peak memory is the kernel's high-water mark of the resident set (VmHWM), read before
the timed work, with libraries and the model loaded, and again after it. On CUDA it is the peak that PyTorch reports.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mlff_calc.bench.lammps import lammps_step
from mlff_calc.bench.models import random_config
from mlff_calc.bench.motion import moving_frames
from mlff_calc.bench.step import time_system
from mlff_calc.bench.systems import build_system


def peak_memory_mib(device: str = "cpu") -> float:
    """Return the peak memory of this process so far, MiB; on CUDA that of PyTorch on the device."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(torch.device(device)) / 2**20
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def measure_step(system: str, steps: int, threads: int, **options: Any) -> dict[str, Any]:
    """Time the steps of a system, and record the peak memory before and after them.

    Args:
        system: Name of the system.
        steps: Number of timed steps.
        threads: Number of threads of PyTorch.
        options: Options `potential`, `device`, `precision`, `compiled`, `trust` of `time_system`.

    Returns:
        The fields of `StepTiming`, `memory_mib` (peak) and `base_mib` (peak after one step of a small system, which
        includes libraries and compilation).
    """
    torch.set_num_threads(threads)
    device = options.get("device", "cpu")
    small = "si64" if system.startswith("si") else "ethanol"
    time_system(small, steps=1, threads=threads, **options)
    base = peak_memory_mib(device)
    timing = time_system(system, steps=steps, threads=threads, **options)
    return {**timing.as_dict(), "base_mib": base, "memory_mib": peak_memory_mib(device)}


def measure_training(system: str, batch_size: int, steps: int, threads: int, **options: Any) -> dict[str, Any]:
    """Measure the peak memory of training steps on batches of one system, with a loss on energies and forces.

    Args:
        system: Name of the system.
        batch_size: Number of frames per batch.
        steps: Number of optimizer steps.
        threads: Number of threads of PyTorch.
        options: Options `potential`, `device`, `precision`, `compiled` as in `time_system`.

    Returns:
        `n_atoms` and `n_edges` of a batch, `base_mib` before and `memory_mib` after the steps.
    """
    from mlff_calc.export import compile_for_training
    from mlff_calc.graph import collate, graph_from_atoms
    from mlff_calc.graph.batch import to_device
    from mlff_calc.potential import build_potential, load_potential

    torch.set_num_threads(threads)
    device, name = options.get("device", "cpu"), options.get("potential")
    atoms = build_system(system)
    config = random_config(atoms)
    source = load_potential(name) if name else build_potential(config, seed=0)
    potential = source.to_precision(options.get("precision", "float32")).to(device).train().requires_grad_(True)
    frames = []
    for positions in moving_frames(atoms, batch_size):
        frame = atoms.copy()
        frame.positions[:] = positions
        frames.append(graph_from_atoms(frame, potential.cutoff))
    batch = to_device(collate(frames), device)
    call = compile_for_training(potential, batch) if options.get("compiled") else potential
    optimizer = torch.optim.Adam(potential.parameters(), lr=1e-4)
    base = peak_memory_mib(device)
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = call(batch)
        (outputs["energy"].square().mean() + outputs["forces"].square().mean()).backward()
        optimizer.step()
    n_edges = batch["edge_index"].shape[1]
    return {
        "system": system, "potential": name or "random weights", "batch_size": batch_size,
        "n_atoms": len(atoms) * batch_size,
        "n_edges": n_edges, "base_mib": base, "memory_mib": peak_memory_mib(device),
    }  # fmt: skip


def measure_matrices(system: str, data: str, count: int) -> dict[str, Any]:
    """Measure the peak memory of predictions of Fock matrices in one batch.

    Args:
        system: Folder of the network.
        data: File of molecules with matrices.
        count: Number of molecules of the batch, at most those of the file.

    Returns:
        `base_mib` (after a prediction for one molecule) and `memory_mib` (after the batch).
    """
    from mlff_calc.electronic.hamiltonian import load_hamiltonian
    from mlff_calc.training.hamiltonian.evaluate import evaluate_hamiltonian
    from mlff_calc.training.hamiltonian.files import read_matrices

    torch.set_num_threads(1)
    network, frames = load_hamiltonian(system), read_matrices(Path(data))
    evaluate_hamiltonian(network, frames.chosen([0]))
    base = peak_memory_mib()
    count = min(count, len(frames))
    evaluate_hamiltonian(network, frames.chosen(range(count)), batch_size=count)
    return {"base_mib": base, "memory_mib": peak_memory_mib()}


def measure_fock_training(**fields: Any) -> dict[str, Any]:
    """Measure the peak memory of a training step of a network for Fock matrices; see `studies.pair_frames.step_memory`."""
    from mlff_calc.bench.studies.pair_frames import step_memory

    return step_memory(peak_memory_mib, **fields)


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "step": measure_step,
    "training": measure_training,
    "lammps": lammps_step,
    "matrices": measure_matrices,
    "fock": measure_fock_training,
}


def main() -> None:
    """Run the task named on the command line."""
    fields = json.loads(sys.argv[1])
    result = TASKS[fields.pop("task")](**fields)
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
