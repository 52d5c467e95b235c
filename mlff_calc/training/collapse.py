"""End of a training whose network has collapsed: its loss stays above that of the first epoch."""

from __future__ import annotations

import logging
from typing import Any

import lightning.pytorch as pl

from mlff_calc.errors import TrainingError
from mlff_calc.training.callbacks import Checkpoints
from mlff_calc.training.module import TrainingModule

logger = logging.getLogger(__name__)

PATIENCE = 5  # number of epochs in a row above the first one; a larger number gives a network longer to recover
LEARNT = 0.5  # share of the first epoch's loss below which a network has learnt; a smaller one judges fewer networks


class CollapseWatch(pl.Callback):
    """Ends a training that has lost what it had learnt.

    One step along a large gradient can drive all gates and activations into saturation, where nothing learns any more. A
    network has collapsed if its training loss was below `LEARNT` times that of the first epoch once, and has been above
    that of the first epoch for `PATIENCE` epochs. The best weights so far are the result then, as after an early stop.

    Args:
        checkpoints: Callback that holds the best weights.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.first: float | None = None
        self.learnt = False
        self.epochs = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: TrainingModule) -> None:
        """Compare the loss of this epoch with that of the first one.

        Raises:
            TrainingError: The training has collapsed before its first validation, so that there is no result.
        """
        loss = pl_module.train_loss
        if self.first is None:
            self.first = loss
        self.learnt = self.learnt or loss < LEARNT * self.first
        self.epochs = self.epochs + 1 if self.learnt and loss > self.first else 0
        self.checkpoints.trusted = self.epochs == 0
        if self.epochs < PATIENCE:
            return
        section, began = pl_module.optimizer_section, trainer.current_epoch + 2 - self.epochs
        what = (
            f"the training collapsed in epoch {began}: for {self.epochs} epochs its loss, {loss:.3g} now, has been above "
            f"that of the first epoch, {self.first:.3g}"
        )
        clip = "set a gradient_clip" if section.gradient_clip is None else f"gradient_clip ({section.gradient_clip:g})"
        cure = f"start again with a lower optimizer.learning_rate ({section.learning_rate:g}) or {clip}"
        if self.checkpoints.best is None:
            raise TrainingError(f"{what}. It was not validated before, so that there is no result; {cure}")
        if trainer.is_global_zero:
            best = self.checkpoints.best_epoch + 1
            logger.warning("%s. It ends here with the weights of epoch %d, the best ones; %s", what, best, cure)
        trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What has been seen of the losses."""
        return {"first": self.first, "learnt": self.learnt, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what had been seen."""
        self.first, self.learnt, self.epochs = state_dict["first"], state_dict["learnt"], state_dict["epochs"]
        self.checkpoints.trusted = self.epochs == 0
