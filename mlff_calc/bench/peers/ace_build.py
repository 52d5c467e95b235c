"""Linear ACE models: fitted by `ace_fit.py` in the environment of `python-ace`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ase import Atoms

from mlff_calc.bench.peers.catalogue import CUTOFF, Peer
from mlff_calc.bench.peers.environments import python_of
from mlff_calc.bench.peers.frames import write_random_labels
from mlff_calc.bench.processes import run_logged, thread_environment


def fit(peer: Peer, train: Path, folder: Path, workdir: Path, *, threads: int) -> dict[str, Any]:
    """Fit a model once and for all; it takes the time it takes.

    Args:
        peer: Which ACE.
        train: extxyz file with energies and forces.
        folder: Folder of the model.
        workdir: Folder of the environments.
        threads: Number of threads.

    Returns:
        Loader options of the model.

    Raises:
        BenchmarkError: The fit failed; names the log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.yace"
    script = str(Path(__file__).with_name("ace_fit.py"))
    command = [str(python_of(peer.environment, workdir)), "-W", "ignore", script]
    command += [str(train), str(peer.model["functions"]), str(CUTOFF), str(model)]
    run_logged(command, folder / "fit.log", env=thread_environment(threads))
    return {"path": str(model)}


def random_model(peer: Peer, atoms: Atoms, workdir: Path, *, threads: int) -> dict[str, Any]:
    """Loader options of a model that has been fitted to random labels of a structure; kept."""
    folder = workdir / "models" / f"{peer.name}-{atoms.get_chemical_formula()}"
    if (folder / "model.json").is_file():
        return {"path": str(folder / "model.yace")}
    folder.mkdir(parents=True, exist_ok=True)
    write_random_labels(atoms, folder / "random.extxyz")
    return fit(peer, folder / "random.extxyz", folder, workdir, threads=threads)
