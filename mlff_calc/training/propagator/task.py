"""Training and evaluation of propagators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlff_calc.datasets.motion import MotionSample
from mlff_calc.propagator import Propagator
from mlff_calc.training.one_file import OneFileTask
from mlff_calc.training.propagator.build import new_propagator
from mlff_calc.training.propagator.data import MotionPairs
from mlff_calc.training.propagator.evaluate import BATCH_SIZE, MotionReport, evaluate_motion_file, evaluate_propagator
from mlff_calc.training.propagator.example import EXAMPLE_MOTION_RECIPE
from mlff_calc.training.propagator.objective import MotionObjective
from mlff_calc.training.propagator.parts import data_fingerprint, read_parts
from mlff_calc.training.propagator.recipe import MotionRecipe
from mlff_calc.training.task import Outcome, Prepared

Samples = Sequence[MotionSample]
READING = ("horizon", "start", "hops", "heavy_atoms", "neighbors")


class PropagatorTask(OneFileTask[MotionRecipe, Samples]):
    """Propagators, trained on pairs of frames of a motion."""

    name = "propagator"
    recipe = MotionRecipe
    example = EXAMPLE_MOTION_RECIPE
    items = "samples"
    advice = "Look for particles that are very near or very fast there"
    instead = "`mlff eval` compares its later positions with those of a file of trajectories, and load_propagator gives them"
    options = frozenset({"part", "format", "limit", *READING})

    def read(self, recipe: MotionRecipe) -> dict[str, Samples]:
        """Read the samples by part."""
        return dict(read_parts(recipe))

    def mark(self, recipe: MotionRecipe) -> dict[str, Any]:
        """Return name, size and hash of the data, which may be several files."""
        return data_fingerprint(recipe.data_file(folder=True), recipe.data.format)

    def place(self, samples: Samples, number: int) -> str:
        """Return file and frame of a sample."""
        return samples[number].place

    def prepare(self, recipe: MotionRecipe, parts: Mapping[str, Samples]) -> Prepared:
        """Build a new propagator, with scales measured on its training samples."""
        train, valid = MotionPairs(parts["train"]), MotionPairs(parts["valid"])
        return Prepared(
            new_propagator(recipe, parts["train"]),
            MotionObjective(recipe.loss),
            train,
            valid,
            self.bad_batch(parts),
            self.table(parts),
            example=range(min(recipe.optimizer.batch_size, len(train))),
        )

    def judge(self, recipe: MotionRecipe, network: Propagator, samples: Samples) -> MotionReport:
        """Compute the errors of positions and velocities, and those of two guesses."""
        return evaluate_propagator(network, samples, batch_size=recipe.optimizer.judging_size)

    def card(self, outcome: Outcome[MotionRecipe, Samples]) -> str:
        """The card as Markdown."""
        from mlff_calc.training.propagator.card import write_card

        return write_card(outcome)

    def provenance(self, recipe: MotionRecipe, parts: Mapping[str, Samples]) -> dict[str, Any]:
        """Return how the data were read."""
        del parts
        reading = recipe.data.reading(recipe.trainer.seed)
        return {"reading": {key: value for key, value in reading.items() if value is not None}}

    def evaluate(
        self,
        model: str,
        data: Sequence[Path],
        *,
        batch_size: int | None = None,
        device: str = "auto",
        precision: str | None = None,
        part: str | None = None,
        format: str | None = None,
        limit: int | None = None,
        **reading: Any,  # noqa: ANN401
    ) -> MotionReport:
        """See `evaluate_motion_file`.

        Raises:
            OptionError: More than one file is given, or an unknown part.
        """
        return evaluate_motion_file(
            model,
            self.one_of(data, part),
            part=None if part == "all" else part or "test",
            format=format,
            reading=reading,
            limit=limit,
            batch_size=batch_size or BATCH_SIZE,
            device=device,
            precision=precision or "float32",
        )
