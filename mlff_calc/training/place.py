"""A run writes only into the folder that it holds: one that was moved, deleted or replaced during the run is noticed."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from mlff_calc.errors import TrainingError
from mlff_calc.locks import FolderLock


def check_place(lock: FolderLock) -> None:
    """Make sure that the folder's path still leads to the folder that is held; a deleted lock file is made anew.

    Args:
        lock: The lock of the run's folder.

    Raises:
        TrainingError: It does not; says where the folder is now and how to go on.
    """
    if lock.keep():
        return
    now = lock.whereabouts()
    if now is not None and now != lock.folder.resolve():
        raise TrainingError(
            f"{lock.folder} was moved during the run, which was stopped. Everything up to its last saved epoch is in {now}. "
            f"Go on there: mlff train {now / 'recipe.yaml'} --resume --output {now}"
        )
    raise TrainingError(
        f"{lock.folder} (or its {lock.file.name}) was deleted or replaced during the run, which was stopped; what "
        "stands there now was left alone. If its checkpoints are there, go on with --resume; else start anew with another "
        "--output"
    )


class KeepsPlace(pl.Callback):
    """Looks where the folder is before anything is written to it; the first of the callbacks.

    Args:
        lock: The lock of the run's folder.
    """

    def __init__(self, lock: FolderLock) -> None:
        self.lock = lock

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before a better `best.ckpt` is written."""
        del trainer, pl_module
        check_place(self.lock)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Before metrics and `last.ckpt` are written."""
        del trainer, pl_module, args
        check_place(self.lock)
