"""Training and evaluation of rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlff_calc.datasets.motion.windows import Windows
from mlff_calc.rollout import Rollout
from mlff_calc.training.one_file import OneFileTask
from mlff_calc.training.rollout.build import new_rollout
from mlff_calc.training.rollout.data import Molecule, WindowBatches, molecule_of, read_windows
from mlff_calc.training.rollout.evaluate import (
    BATCH_SIZE,
    RolloutReport,
    calibrate,
    evaluate_rollout,
    evaluate_rollout_file,
)
from mlff_calc.training.rollout.example import EXAMPLE_ROLLOUT_RECIPE
from mlff_calc.training.rollout.objective import RolloutObjective
from mlff_calc.training.rollout.recipe import RolloutRecipe
from mlff_calc.training.task import Outcome, Prepared


class RolloutTask(OneFileTask[RolloutRecipe, Windows]):
    """Rollouts, trained on windows of a trajectory of one molecule."""

    name = "rollout"
    recipe = RolloutRecipe
    example = EXAMPLE_ROLLOUT_RECIPE
    items = "windows"
    advice = "Look for atoms that are very near or very fast there"
    instead = "`mlff rollout` predicts later positions of a molecule"
    options = frozenset({"part", "limit", "calculator"})

    def __init__(self) -> None:
        self._molecule: Molecule | None = None

    def read(self, recipe: RolloutRecipe) -> dict[str, Windows]:
        """Read the windows by part."""
        self._molecule, parts = read_windows(recipe)
        return parts

    def place(self, samples: Windows, number: int) -> str:
        """Return file and frame of a sample."""
        return samples.place(number)

    def prepare(self, recipe: RolloutRecipe, parts: Mapping[str, Windows]) -> Prepared:
        """Build a new rollout, with constants measured on its training windows."""
        run = parts["train"].run
        molecule = self._molecule or molecule_of(run, heavy_atoms=False)[0]
        rollout = new_rollout(recipe, parts["train"], molecule)
        notes = []
        if run.differences:
            notes.append("the trajectory has no velocities: central differences of positions are taken, without both ends")
        return Prepared(
            rollout,
            RolloutObjective(recipe.loss, rollout),
            WindowBatches(parts["train"], rollout.topology, fresh=True),
            WindowBatches(parts["valid"], rollout.topology),
            self.bad_batch(parts),
            self.table(parts),
            notes,
        )

    def finish(self, network: Rollout, parts: Mapping[str, Windows]) -> None:
        """Set the temperature of the error bars on the validation windows."""
        calibrate(network, parts["valid"])

    def judge(self, recipe: RolloutRecipe, network: Rollout, samples: Windows) -> RolloutReport:
        """Compute the errors of positions beside predictions that need no network."""
        return evaluate_rollout(network, samples, batch_size=recipe.optimizer.judging_size)

    def card(self, outcome: Outcome[RolloutRecipe, Windows]) -> str:
        """The card as Markdown."""
        from mlff_calc.training.rollout.card import write_card

        return write_card(outcome)

    def provenance(self, recipe: RolloutRecipe, parts: Mapping[str, Windows]) -> dict[str, Any]:
        """Return how the trajectory was cut."""
        data = recipe.data
        return {
            "reading": {
                "n_times": data.times.count, "irregular": data.times.irregular is not None,
                "timestep": next(iter(parts.values())).run.timestep,
                "shares": [data.split.train, data.split.valid, data.split.test], "seed": recipe.trainer.seed,
                "limit": {part: len(one) for part, one in parts.items()},
            }
        }  # fmt: skip

    def evaluate(
        self,
        model: str,
        data: Sequence[Path],
        *,
        batch_size: int | None = None,
        device: str = "auto",
        precision: str | None = None,
        part: str | None = None,
        limit: int | None = None,
        calculator: str | None = None,
        **asked: Any,  # noqa: ANN401
    ) -> RolloutReport:
        """See `evaluate_rollout_file`.

        Raises:
            OptionError: More than one file is given, or an unknown part.
        """
        del asked
        return evaluate_rollout_file(
            model, self.one_of(data, part), part=part or "test", limit=limit, potential=calculator,
            batch_size=batch_size or BATCH_SIZE, device=device, precision=precision or "float32",
        )  # fmt: skip
