"""The Lightning trainer of a run, with Lightning's own messages and files turned off.

Lightning takes seconds to import. Only this file and the callbacks import it.
"""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy

from mlff_calc.bounded import require_regular, shorten
from mlff_calc.errors import MLFFError, OptionError, TrainingError
from mlff_calc.locks import FolderLock
from mlff_calc.memory import keep_freed_memory
from mlff_calc.training.callbacks import AveragedWeights, BudgetKeeper, Checkpoints, MetricsFile
from mlff_calc.training.checkpoint_files import (
    CURE,
    check_best,
    check_constants,
    check_last,
    exists,
    load_tensors,
    save_tensors,
)
from mlff_calc.training.checkpoint_upgrades import upgrade
from mlff_calc.training.collapse import CollapseWatch
from mlff_calc.training.data import BatchSource, EpochLoader
from mlff_calc.training.failures import BadBatch, FailureReport
from mlff_calc.training.folder import RunFolder
from mlff_calc.training.metrics import read_metrics
from mlff_calc.training.module import TrainingModule
from mlff_calc.training.place import KeepsPlace, check_place
from mlff_calc.training.progress import ProgressReport
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.schedule import Budget


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are written atomically and read without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint atomically."""
        del storage_options
        save_tensors(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read tensors and plain values.

        Raises:
            TrainingError: The file is damaged.
        """
        del weights_only
        return load_tensors(Path(path), map_location or "cpu")


class Loaders(pl.LightningDataModule):
    """Gives every process its share of the frames.

    Args:
        recipe: Recipe with batch sizes and seed.
        train: Source of training frames.
        valid: Source of validation frames.
    """

    def __init__(self, recipe: TrainingRecipe, train: BatchSource, valid: BatchSource) -> None:
        super().__init__()
        self.section, self.seed = recipe.optimizer, recipe.trainer.seed
        self.train, self.valid = train, valid

    def _share(self) -> tuple[int, int]:
        return self._trainer().global_rank, self._trainer().world_size

    def _trainer(self) -> pl.Trainer:
        if self.trainer is None:
            raise RuntimeError("the loaders are not attached to a trainer")
        return self.trainer

    def train_dataloader(self) -> EpochLoader:
        """Loader that draws a new order in every epoch."""
        return EpochLoader(
            self.train, self.section.batch_size, self.seed, *self._share(), epoch=lambda: self._trainer().current_epoch
        )

    def val_dataloader(self) -> EpochLoader:
        """Loader in the order of the file."""
        return EpochLoader(self.valid, self.section.judging_size, None, *self._share())


@dataclass(frozen=True)
class FitResult:
    """Result of a run's fit.

    Attributes:
        seconds: Time used, over all resumed parts.
        cpu_seconds: Processor time used, of all threads.
        best_epoch: Epoch (from 1) with the best validation of averaged weights.
        epochs: Number of finished epochs.
        ended: Whether the budget is used up or the run stopped early; only the result's folder may still be missing.
    """

    seconds: float
    cpu_seconds: float
    best_epoch: int
    epochs: int
    ended: bool

    def time_text(self) -> str:
        """Minutes and processor minutes as text."""
        return f"{self.seconds / 60.0:.1f} minutes ({self.cpu_seconds / 60.0:.1f} of processor time)"


def choose_accelerator(recipe: TrainingRecipe) -> str:
    """Return `cpu` or `cuda`, depending on the recipe and the machine.

    Raises:
        OptionError: CUDA, or the number of devices, is not available.
    """
    wanted, n = recipe.trainer.device, recipe.trainer.n_devices
    there = torch.cuda.device_count() if wanted != "cpu" else 0
    if wanted == "cuda" and there == 0:
        raise OptionError(
            f"{recipe.origin}: trainer.device is cuda, but PyTorch sees no CUDA device; write cpu or auto"
        )
    if there and n > there:
        raise OptionError(f"{recipe.origin}: trainer.n_devices is {n}, but there are {there} CUDA devices; lower it")
    return "cuda" if there else "cpu"


def check_batches(recipe: TrainingRecipe, sizes: dict[str, int]) -> None:
    """Check that every process gets at least one frame of every part.

    Args:
        recipe: Recipe with the number of devices.
        sizes: Numbers of frames of `train` and of `valid`.

    Raises:
        OptionError: There are fewer frames than devices.
    """
    n = recipe.trainer.n_devices
    for part, size in sizes.items():
        if size < n:
            raise OptionError(f"{recipe.origin}: trainer.n_devices is {n}, but `{part}` has {size} frames; lower it")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's messages, and restore everything afterwards, including the handler of Ctrl-C."""
    names = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero",
             "lightning.fabric.utilities.rank_zero", "lightning.fabric.utilities.seed")  # fmt: skip
    loggers = [logging.getLogger(name) for name in names]
    before = [log.level for log in loggers]
    handler = signal.getsignal(signal.SIGINT) if _main_thread() else None
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*(does not have many workers|eval mode|Grad strides).*")
            yield
    finally:
        for log, level in zip(loggers, before, strict=True):
            log.setLevel(level)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


def _main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()


def _strategy(accelerator: str, n_devices: int) -> Any:
    if n_devices == 1:
        return "auto"
    backend = "nccl" if accelerator == "cuda" else "gloo"
    return DDPStrategy(
        start_method="spawn",
        process_group_backend=backend,
        find_unused_parameters=True,  # some weights, such as those of direct forces, have no part in the energy
        broadcast_buffers=False,  # buffers are constants, equal in every process
    )


def fit(
    recipe: TrainingRecipe,
    module: TrainingModule,
    train: BatchSource,
    valid: BatchSource,
    bad_batch: BadBatch,
    folder: RunFolder,
    lock: FolderLock,
    *,
    resume: bool,
    show_bar: bool,
) -> FitResult:
    """Train a network; leaves `best.ckpt`, `last.ckpt` and `metrics.csv` in the folder.

    Args:
        recipe: Recipe of the run.
        module: Module whose network is trained (in place with one device).
        train: Source of training frames.
        valid: Source of validation frames.
        bad_batch: Function that names the frames of a loss that is not finite.
        folder: Folder to write to.
        lock: Lock of that folder; the run stops where it is no longer held.
        resume: Whether to continue from `last.ckpt`, if there is one; a run that has ended is not trained further.
        show_bar: Whether to draw a progress bar on a terminal.

    Raises:
        TrainingError: A loss or gradient is not finite, or the folder was moved, deleted or replaced.
        KeyboardInterrupt: Ctrl-C was pressed; the text says how to continue.
        OSError: A file cannot be written.
    """
    start = folder.last if resume and exists(folder.last) else None
    if start is not None:
        _restore_best(folder, module)
        result = _result(folder)
        if result.ended:
            return result
    accelerator = choose_accelerator(recipe)
    if accelerator == "cpu":
        keep_freed_memory()
    n_devices = recipe.trainer.n_devices
    steps = len(EpochLoader(train, recipe.optimizer.batch_size, 0, 0, n_devices))
    keeper = BudgetKeeper(recipe.optimizer, Budget.of(recipe.optimizer, steps))
    averaged = AveragedWeights(recipe.optimizer.ema_decay)
    checkpoints = Checkpoints(folder.checkpoints, recipe.trainer.checkpoint_every, recipe.trainer.early_stop, averaged)
    callbacks = [
        KeepsPlace(lock),
        averaged,
        keeper,
        MetricsFile(folder.metrics, keeper),
        CollapseWatch(checkpoints),
        checkpoints,
        ProgressReport(keeper, checkpoints, recipe.optimizer.max_epochs, show_bar=show_bar),
        FailureReport(folder, bad_batch),
    ]
    with quiet_lightning(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(recipe.trainer.seed)
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=n_devices,
            strategy=_strategy(accelerator, n_devices),
            max_epochs=recipe.optimizer.max_epochs or -1,
            check_val_every_n_epoch=recipe.trainer.validate_every,
            callbacks=callbacks,
            plugins=[AtomicCheckpoints()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            inference_mode=False,
            default_root_dir=str(folder.path),
        )
        try:
            _run(trainer, module.train(), Loaders(recipe, train, valid), start, folder, checkpoints)
        except (OSError, TrainingError):
            check_place(lock)  # the folder may have been moved, which explains the error
            raise
    check_place(lock)
    return _result(folder)


def _restore_best(folder: RunFolder, module: TrainingModule) -> None:
    """Reset `best.ckpt` to the one that belongs to `last.ckpt`; a killed run may have left a later one, see `Checkpoints`.

    Where an earlier version wrote `last.ckpt`, it is written again as this version does.

    Raises:
        TrainingError: One of the files is damaged or belongs to another run.
    """
    last = load_tensors(folder.last)
    older = upgrade(folder.last, last, module)
    parameters = dict(module.network.named_parameters())
    check_last(folder.last, last, module.state_dict(), parameters)
    check_constants(folder.last, last["state_dict"], module)
    module.load_state_dict(last["state_dict"])
    read_metrics(folder.metrics)
    if exists(folder.best):
        require_regular(folder.best, TrainingError)
    state = last["callbacks"]["Checkpoints"]
    if "best" not in state:  # older checkpoints lack the best weights, so the file decides
        best = load_tensors(folder.best) if exists(folder.best) else None
        if best is not None:
            check_best(folder.best, best, parameters)
        epoch, loss = (best["epoch"], best["loss"]) if best else (-1, math.inf)
        state |= {"best": best, "best_epoch": epoch, "best_loss": loss}
        older = True
    if older:
        save_tensors(last, folder.last)
    if state["best"] is None:
        folder.best.unlink(missing_ok=True)  # there was no validation yet
        return
    check_best(folder.last, state["best"], parameters)
    save_tensors(state["best"], folder.best)


def _result(folder: RunFolder) -> FitResult:
    last = load_tensors(folder.last)
    kept = last["callbacks"]
    best, ended = kept["Checkpoints"]["best_epoch"] + 1, kept["Checkpoints"].get("ended", False)
    used = kept["BudgetKeeper"]
    return FitResult(used["seconds"], used.get("cpu_seconds", used["seconds"]), best, last["epoch"] + 1, ended)


def _run(
    trainer: pl.Trainer,
    module: TrainingModule,
    data: Loaders,
    start: Path | None,
    folder: RunFolder,
    checkpoints: Checkpoints,
) -> None:
    """Call `trainer.fit`, and translate Lightning's ways of ending into our errors."""
    folder.failure.unlink(missing_ok=True)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start)
    except SystemExit:
        if trainer.interrupted:
            where = "the last whole epoch" if folder.last.is_file() else "the beginning (no epoch was finished)"
            text = f"Training stopped; nothing is lost up to {where}. Go on with the same command and --resume"
            raise KeyboardInterrupt(text) from None
        raise
    except torch.multiprocessing.ProcessRaisedException as error:
        if folder.failure.is_file():
            text = folder.failure.read_text(encoding="utf-8")
            folder.failure.unlink()
            raise TrainingError(text) from None
        raise TrainingError(f"a training process failed: {error}") from error
    except Exception as error:
        if start is None or checkpoints.restored or isinstance(error, MLFFError | OSError):
            raise
        reason = shorten(f"{type(error).__name__}: {error}", 300)
        raise TrainingError(f"{start}: training cannot go on from it ({reason}); {CURE}") from error
