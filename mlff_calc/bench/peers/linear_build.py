"""Models that are fitted by least squares, ACE and SNAP: each by its script `*_fit.py`, in its program's environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ase import Atoms

from mlff_calc.bench.peers.catalogue import CUTOFF, Peer
from mlff_calc.bench.peers.environments import python_of
from mlff_calc.bench.peers.frames import write_random_labels
from mlff_calc.bench.processes import run_logged, thread_environment

FAMILIES = ("ace", "snap")


def fit(
    peer: Peer,
    train: Path,
    validation: Path,
    folder: Path,
    workdir: Path,
    *,
    threads: int,
    model: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Fit a model once and for all; it takes the time it takes.

    Args:
        peer: Which model.
        train: extxyz file with energies and forces.
        validation: Likewise; the strength of the ridge and, among several, the cutoff are chosen by it.
        folder: Folder of the model.
        workdir: Folder of the environments.
        threads: Number of threads.
        model: Options instead of some of the peer's.

    Returns:
        Loader options of the model.

    Raises:
        BenchmarkError: The fit failed; names the log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "model.json"
    script = str(Path(__file__).with_name(f"{peer.family}_fit.py"))
    options = {"cutoffs": [CUTOFF], **peer.model, **(model or {})}
    command = [str(python_of(peer.environment, workdir)), "-W", "ignore", script]
    command += [str(train), str(validation), json.dumps(options), str(target)]
    run_logged(command, folder / "fit.log", env=thread_environment(threads))
    return {"path": str(target)}


def random_model(peer: Peer, atoms: Atoms, workdir: Path, *, threads: int) -> dict[str, Any]:
    """Loader options of a model that has been fitted to random labels of a structure; kept."""
    folder = workdir / "models" / f"{peer.name}-{atoms.get_chemical_formula()}"
    if (folder / "model.json").is_file():
        return {"path": str(folder / "model.json")}
    folder.mkdir(parents=True, exist_ok=True)
    labelled = folder / "random.extxyz"
    write_random_labels(atoms, labelled)
    return fit(peer, labelled, labelled, folder, workdir, threads=threads, model={"cutoffs": [CUTOFF]})


def cutoff_of(options: dict[str, Any]) -> float:
    """Cutoff of a fitted model in Angstrom, from its loader options."""
    return float(json.loads(Path(options["path"]).read_text(encoding="utf-8"))["cutoff"])
