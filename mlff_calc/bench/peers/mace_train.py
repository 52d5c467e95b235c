"""MACE's training command with a time budget; runs in the environment of MACE.

MACE limits epochs but not time. This script ends its training function at the first epoch that would start after the budget
of processor minutes. MACE then loads the best checkpoint and writes the model, as after any training. Its exponential
schedule is replaced by the cosine schedule by processor time that all peers get (`timed_schedule.py`).

    python mace_train.py MINUTES [arguments of mace_run_train]
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from timed_schedule import TimedCosine


class _BudgetSpentError(Exception):
    """Error raised inside MACE's loop when the budget is spent."""


def main() -> None:
    """Train with the budget given by the first argument."""
    minutes = float(sys.argv.pop(1))
    import mace.tools
    from mace.cli.run_train import main as run_train

    loop: Any = sys.modules["mace.tools.train"]
    train_one_epoch, train = loop.train_one_epoch, loop.train
    started: list[float] = []

    def one_epoch(*args: Any, **kwargs: Any) -> Any:
        started.append(time.process_time())
        if time.process_time() - started[0] > 60.0 * minutes:
            raise _BudgetSpentError
        return train_one_epoch(*args, **kwargs)

    def whole(*args: Any, **kwargs: Any) -> None:
        try:
            train(*args, **kwargs)
        except _BudgetSpentError:
            sys.stderr.write(f"budget of {minutes} minutes spent after {len(started) - 1} epochs\n")

    def timed(optimizer: torch.optim.Optimizer, gamma: float) -> TimedCosine:
        return TimedCosine(optimizer, minutes, warm_up=0.0)

    loop.train_one_epoch = one_epoch
    mace.tools.train = whole
    torch.optim.lr_scheduler.ExponentialLR = timed  # type: ignore[misc,assignment]
    run_train()


if __name__ == "__main__":
    main()
