"""Checks that the folder of a run has not been moved, deleted or replaced, so that a run writes only into its own folder."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from mlff_calc.errors import TrainingError
from mlff_calc.locks import FolderLock


def check_place(lock: FolderLock) -> None:
    """Check that the folder's path still leads to the folder that is locked; a deleted lock file is created again.

    Args:
        lock: The lock of the run's folder.

    Raises:
        TrainingError: The path leads elsewhere; the message says where the folder is now and how to continue.
    """
    if lock.keep():
        return
    now = lock.whereabouts()
    if now is not None and now != lock.folder.resolve():
        raise TrainingError(
            f"{lock.folder} was moved during the run, which was stopped. Everything up to its last saved epoch is in {now}. "
            f"Continue there: mlff train {now / 'recipe.yaml'} --resume --output {now}"
        )
    raise TrainingError(
        f"{lock.folder} (or its {lock.file.name}) was deleted or replaced during the run, which was stopped; its present "
        "content was not changed. If its checkpoints are there, continue with --resume; otherwise start anew with another "
        "--output"
    )


class KeepsPlace(pl.Callback):
    """Checks the place of the folder before anything is written to it; must be the first callback.

    Args:
        lock: The lock of the run's folder.
    """

    def __init__(self, lock: FolderLock) -> None:
        self.lock = lock

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check before a better `best.ckpt` is written."""
        del trainer, pl_module
        check_place(self.lock)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Check before metrics and `last.ckpt` are written."""
        del trainer, pl_module, args
        check_place(self.lock)
