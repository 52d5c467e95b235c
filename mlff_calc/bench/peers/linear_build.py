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
    """Fit a model, without a limit of time.

    Args:
        peer: Peer to fit.
        train: File of training frames (extxyz), with energies and forces.
        validation: File of validation frames, by which the strength of the ridge and the cutoff are chosen.
        folder: Folder of the model.
        workdir: Folder of the environments.
        threads: Number of threads.
        model: Options that replace those of the peer.

    Returns:
        Loader options of the model.

    Raises:
        BenchmarkError: The fit failed. The text names the log.
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
    """Return loader options of a model fitted to random labels of a structure; the model is kept for later runs."""
    folder = workdir / "models" / f"{peer.name}-{atoms.get_chemical_formula()}"
    if (folder / "model.json").is_file():
        return {"path": str(folder / "model.json")}
    folder.mkdir(parents=True, exist_ok=True)
    labelled = folder / "random.extxyz"
    write_random_labels(atoms, labelled)
    return fit(peer, labelled, labelled, folder, workdir, threads=threads, model={"cutoffs": [CUTOFF]})


def cutoff_of(options: dict[str, Any]) -> float:
    """Return the cutoff of a fitted model in Angstrom, from its loader options."""
    return float(json.loads(Path(options["path"]).read_text(encoding="utf-8"))["cutoff"])
