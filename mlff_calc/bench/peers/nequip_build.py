"""NequIP and Allegro models, made by their commands `nequip-train` and `nequip-compile` (to AOTInductor)."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from ase import Atoms
from ase.data import chemical_symbols

from mlff_calc.bench.peers.catalogue import CUTOFF, Peer
from mlff_calc.bench.peers.environments import python_of
from mlff_calc.bench.peers.frames import write_random_labels
from mlff_calc.bench.processes import run_logged, thread_environment
from mlff_calc.errors import BenchmarkError

logger = logging.getLogger(__name__)

SEED = 1


def training_config(
    peer: Peer, symbols: list[str], train: Path, validation: Path, *, minutes: float | None
) -> dict[str, Any]:
    """Return the configuration for `nequip-train`, based on the tutorial of the program.

    Batch size, learning rates, loss and averaging are those of the tutorial. The schedule follows the processor time
    (`timed_schedule.py`).

    Args:
        peer: NequIP or Allegro model.
        symbols: Elements of the model.
        train: File of training frames (extxyz).
        validation: File of validation frames (extxyz).
        minutes: Budget in processor minutes of a real training, which compiles its model; None trains on one batch without
            compilation.
    """
    real = minutes is not None
    model = {
        **peer.model,
        "compile_mode": "compile" if real else "eager",
        "seed": SEED,
        "model_dtype": "float32",
        "type_names": symbols,
        "r_max": CUTOFF,
        "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
        "per_type_energy_scales": "${training_data_stats:per_type_forces_rms}",
        "per_type_energy_shifts": "${training_data_stats:per_atom_energy_mean}",
        "per_type_energy_scales_trainable": False,
        "per_type_energy_shifts_trainable": False,
    }
    module: dict[str, Any] = {
        "_target_": "nequip.train.EMALightningModule",
        "ema_decay": 0.999,
        "loss": _energy_forces("EnergyForceLoss", {"total_energy": 1.0, "forces": 1.0}, per_atom_energy=True),
        "val_metrics": _energy_forces("EnergyForceMetrics", {"total_energy_mae": 1.0, "forces_mae": 1.0}),
        "optimizer": {"_target_": "torch.optim.Adam", "lr": peer.learning_rate},
        "model": model,
    }
    if real:
        schedule = {"_target_": "timed_schedule.TimedCosine", "minutes": minutes}
        module["lr_scheduler"] = {"scheduler": schedule, "interval": "step", "frequency": 1}
    return {
        "run": ["train"],
        "data": _data(symbols, train, validation, batch_size=5 if real else 2),
        "trainer": _trainer(minutes),
        "training_module": module,
        "global_options": {"allow_tf32": False},
    }


def _energy_forces(kind: str, coefficients: dict[str, float], **options: Any) -> dict[str, Any]:
    return {"_target_": f"nequip.train.{kind}", "coeffs": coefficients, **options}


def _data(symbols: list[str], train: Path, validation: Path, *, batch_size: int) -> dict[str, Any]:
    transforms = [
        {
            "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
            "model_type_names": symbols,
            "chemical_species_to_atom_type_map": {symbol: symbol for symbol in symbols},
        },
        {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": CUTOFF},
    ]
    loader = {"_target_": "torch.utils.data.DataLoader", "num_workers": 0}
    return {
        "_target_": "nequip.data.datamodule.ASEDataModule",
        "seed": SEED,
        "train_file_path": str(train),
        "val_file_path": [str(validation)],
        "transforms": transforms,
        "train_dataloader": {**loader, "batch_size": batch_size, "shuffle": True},
        "val_dataloader": {**loader, "batch_size": 5 * batch_size},
        "stats_manager": {
            "_target_": "nequip.data.CommonDataStatisticsManager",
            "dataloader_kwargs": {"batch_size": 10 * batch_size},
            "type_names": symbols,
        },
    }


def _trainer(minutes: float | None) -> dict[str, Any]:
    output = "${hydra:runtime.output_dir}"
    checkpoint = {
        "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
        "monitor": "val0_epoch/weighted_sum",
        "dirpath": output,
        "filename": "best",
        "save_last": True,
    }
    trainer: dict[str, Any] = {
        "_target_": "lightning.Trainer",
        "accelerator": "cpu",
        "devices": 1,
        "log_every_n_steps": 50,
        "enable_progress_bar": False,
        "logger": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": output},
        "callbacks": [checkpoint],
    }
    if minutes is None:
        return {**trainer, "max_epochs": 1, "limit_train_batches": 1}
    end = {"_target_": "timed_stop.EndOfBudget", "minutes": minutes}
    return {**trainer, "max_epochs": 1_000_000, "callbacks": [checkpoint, end]}


def train(peer: Peer, config: dict[str, Any], folder: Path, workdir: Path, *, threads: int) -> Path:
    """Run `nequip-train` and return the checkpoint with the best validation error.

    Raises:
        BenchmarkError: The training failed or wrote no checkpoint.
    """
    if (folder / "run").exists():
        shutil.rmtree(folder / "run")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    command = [
        str(python_of(peer.environment, workdir).with_name("nequip-train")),
        *("-cp", str(folder.resolve()), "-cn", "config.yaml", f"hydra.run.dir={(folder / 'run').resolve()}"),
    ]
    search = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    run_logged(command, folder / "train.log", env={**thread_environment(threads), "PYTHONPATH": search})
    checkpoint = folder / "run" / "best.ckpt"
    if not checkpoint.is_file():
        msg = f"{peer.name} left no checkpoint in {folder / 'run'}; see {folder / 'train.log'}"
        raise BenchmarkError(msg)
    return checkpoint


def compile_checkpoint(peer: Peer, checkpoint: Path, target: Path, workdir: Path, *, threads: int) -> dict[str, Any]:
    """Compile a model for a number of threads, and return its loader options.

    If compilation fails, the reason is logged, and the options are those of the eager model.
    """
    program = python_of(peer.environment, workdir).with_name("nequip-compile")
    mode = ["--mode", "aotinductor", "--device", "cpu", "--target", "ase"]
    log = target.with_suffix(".log")
    try:
        run_logged([str(program), str(checkpoint), str(target), *mode], log, env=thread_environment(threads))
    except BenchmarkError as error:
        target.unlink(missing_ok=True)  # the command writes the file before it checks it
        logger.warning("%s cannot be compiled and is timed eager: %s", peer.name, error)
        return {"path": str(checkpoint), "compiled": False}
    return {"path": str(target), "compiled": True}


def random_model(peer: Peer, atoms: Atoms, workdir: Path, versions: dict[str, str], *, threads: int) -> dict[str, Any]:
    """Return loader options of a compiled model trained on one batch of random labels, cached by all that determines it."""
    symbols = [chemical_symbols[z] for z in sorted(set(atoms.numbers.tolist()))]
    facts = json.dumps([peer.model, symbols, versions, threads, CUTOFF], sort_keys=True)
    folder = workdir / "models" / f"{peer.name}-{'-'.join(symbols)}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
    target = folder / "model.nequip.pt2"
    if target.is_file():
        return {"path": str(target), "compiled": True}
    logger.info("building and compiling %s for %s", peer.what, " ".join(symbols))
    folder.mkdir(parents=True, exist_ok=True)
    labelled = folder / "random.extxyz"
    write_random_labels(atoms, labelled)
    config = training_config(peer, symbols, labelled, labelled, minutes=None)
    checkpoint = train(peer, config, folder, workdir, threads=threads)
    return compile_checkpoint(peer, checkpoint, target, workdir, threads=threads)
