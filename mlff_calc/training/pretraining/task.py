"""Training and evaluation of pretrained networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlff_calc.datasets import Kind, matching_files
from mlff_calc.device import resolve_device
from mlff_calc.pretraining import PretrainingNetwork, load_pretraining
from mlff_calc.training.frames.failures import SavedFrames
from mlff_calc.training.frames.labels import check_labels, label_table
from mlff_calc.training.frames.marks import data_marks
from mlff_calc.training.frames.read import Frames, read_frames, read_sources
from mlff_calc.training.frames.recipe import parse_sources
from mlff_calc.training.pretraining.build import new_pretraining
from mlff_calc.training.pretraining.evaluate import BATCH_SIZE, PretrainingReport, evaluate_pretraining
from mlff_calc.training.pretraining.example import EXAMPLE_PRETRAINING_RECIPE
from mlff_calc.training.pretraining.recipe import PretrainingRecipe
from mlff_calc.training.task import Outcome, Prepared, Task


class PretrainingTask(Task[PretrainingRecipe, Frames]):
    """Pretrained networks, from structures that need no labels."""

    name = "pretraining"
    recipe = PretrainingRecipe
    example = EXAMPLE_PRETRAINING_RECIPE
    items = "structures"
    instead = "name it under `fine_tune_from` in a recipe"
    options = frozenset({"keys", "units", "index", "part", "format"})

    def read(self, recipe: PretrainingRecipe) -> dict[str, Frames]:
        """Read the frames by part, and check that the labels of the loss are there."""
        parts = read_frames(recipe)
        check_labels(recipe, [frames.count() for frames in parts.values()])
        return parts

    def fingerprints(self, recipe: PretrainingRecipe, parts: Mapping[str, Frames]) -> dict[str, dict[str, Any]]:
        """Return names, sizes and hashes of all files, numbers of frames, and factors of units."""
        return data_marks(recipe, parts)

    def prepare(self, recipe: PretrainingRecipe, parts: Mapping[str, Frames]) -> Prepared:
        """Build a new network, with its objective and batches."""
        network, objective, train, valid = new_pretraining(recipe, parts)
        left_out = sum(len(frames.isolated) for frames in parts.values())
        return Prepared(
            network,
            objective,
            train,
            valid,
            lambda folder: SavedFrames(folder, dict(parts)),
            label_table([count for frames in parts.values() for count in frames.count_by_file()]),
            [f"{left_out} frames of isolated atoms are in no part of the data"] if left_out else [],
        )

    def judge(self, recipe: PretrainingRecipe, network: PretrainingNetwork, samples: Frames) -> PretrainingReport:
        """Compute unexplained shares of the noise, or errors of labels, and what the features are worth."""
        return evaluate_pretraining(network, samples.samples, batch_size=recipe.optimizer.judging_size)

    def card(self, outcome: Outcome[PretrainingRecipe, Frames]) -> str:
        """The card as Markdown."""
        from mlff_calc.training.pretraining.card import write_card

        return write_card(outcome)

    def evaluate(
        self,
        model: str,
        data: Sequence[Path],
        *,
        batch_size: int | None = None,
        device: str = "auto",
        precision: str | None = None,
        index: str = ":",
        **reading: Any,  # noqa: ANN401
    ) -> PretrainingReport:
        """See `evaluate_pretraining`; `index`, `part`, `format`, `keys` and `units` are those of a recipe's data files."""
        network = load_pretraining(model).to_precision(precision or "float32").to(resolve_device(device))
        sources = parse_sources({"file": [str(file) for file in data], "index": index} | reading, "mlff eval")
        files = [(path, source) for source in sources for path in matching_files(source.file)]
        checked: Sequence[Kind] = ("energy", "forces") if network.objective.takes_forces else ()
        return evaluate_pretraining(network, read_sources(files, checked), batch_size=batch_size or BATCH_SIZE)
