"""MACE models: the worker makes random weights, and `mace_train.py` trains."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mlff_calc.bench.peers.catalogue import CUTOFF, Peer
from mlff_calc.bench.peers.environments import python_of
from mlff_calc.bench.processes import run_logged, thread_environment
from mlff_calc.errors import BenchmarkError


def random_model(peer: Peer, elements: list[int]) -> dict[str, Any]:
    """Return loader options of a MACE with random weights, evaluated eagerly as MACE does on a CPU."""
    return {"elements": sorted(set(elements)), "cutoff": CUTOFF, **peer.model}


def train_command(peer: Peer, train: Path, validation: Path, folder: Path, workdir: Path, minutes: float) -> list[str]:
    """Return the command line of a training, with MACE's defaults and its recommendations for small data sets."""
    options = {
        "name": "peer",
        "seed": 1,
        "model": "MACE",
        "train_file": train.resolve(),
        "valid_file": validation.resolve(),
        "energy_key": "energy",
        "forces_key": "forces",
        "E0s": "average",
        "r_max": CUTOFF,
        "hidden_irreps": peer.model["hidden_irreps"],
        "batch_size": 5,
        "valid_batch_size": 25,
        "lr": peer.learning_rate,
        "scheduler": "ExponentialLR",
        "max_num_epochs": 1_000_000,
        "patience": 1_000_000,
        "eval_interval": 1,
        "ema_decay": 0.99,
        "default_dtype": "float32",
        "device": "cpu",
        "num_workers": 0,
        "work_dir": folder.resolve(),
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    script = str(Path(__file__).with_name("mace_train.py"))
    return [
        str(python_of(peer.environment, workdir)),
        "-W",
        "ignore",
        script,
        str(minutes),
        *words,
        "--ema",
        "--amsgrad",
    ]


def train(
    peer: Peer, files: dict[str, Path], folder: Path, workdir: Path, minutes: float, *, threads: int
) -> dict[str, Any]:
    """Train for a number of minutes.

    Args:
        peer: MACE model to train.
        files: Files `train` and `validation` (extxyz).
        folder: Folder of the training, which is emptied first.
        workdir: Folder of the environments.
        minutes: Budget in processor minutes.
        threads: Number of threads of PyTorch.

    Returns:
        Loader options of the model with the best validation error.

    Raises:
        BenchmarkError: The training failed or wrote no model.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    log = folder / "train.log"
    command = train_command(peer, files["train"], files["validation"], folder, workdir, minutes)
    run_logged(command, log, env=thread_environment(threads))
    model = folder / "peer.model"
    if not model.is_file():
        msg = f"{peer.name} left no model {model}; see {log}"
        raise BenchmarkError(msg)
    return {"path": str(model)}
