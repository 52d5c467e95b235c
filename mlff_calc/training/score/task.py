"""Training and evaluation of score models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlff_calc.datasets import matching_files
from mlff_calc.score import ScoreModel
from mlff_calc.training.frames.labels import check_labels, label_table
from mlff_calc.training.frames.marks import data_marks
from mlff_calc.training.frames.read import Frames, read_frames
from mlff_calc.training.frames.recipe import parse_sources
from mlff_calc.training.score.build import new_score_model
from mlff_calc.training.score.data import NoisyFrames, Structures, check_frames
from mlff_calc.training.score.evaluate import BATCH_SIZE, ScoreReport, evaluate_score, evaluate_score_files
from mlff_calc.training.score.example import EXAMPLE_SCORE_RECIPE
from mlff_calc.training.score.objective import ScoreObjective
from mlff_calc.training.score.recipe import ScoreRecipe
from mlff_calc.training.task import Outcome, Prepared, Task


class ScoreTask(Task[ScoreRecipe, Frames]):
    """Score models, trained on frames of one molecule or cluster and their forces."""

    name = "score"
    recipe = ScoreRecipe
    example = EXAMPLE_SCORE_RECIPE
    instead = "`mlff sample` draws structures"
    options = frozenset({"keys", "units", "index", "part", "format"})

    def read(self, recipe: ScoreRecipe) -> dict[str, Frames]:
        """Read the frames by part, and check that forces are there."""
        parts = read_frames(recipe)
        check_labels(recipe, [frames.count() for frames in parts.values()])
        return parts

    def fingerprints(self, recipe: ScoreRecipe, parts: Mapping[str, Frames]) -> dict[str, dict[str, Any]]:
        """Return names, sizes and hashes of all files, numbers of frames, and factors of units."""
        return data_marks(recipe, parts)

    def prepare(self, recipe: ScoreRecipe, parts: Mapping[str, Frames]) -> Prepared:
        """Build a new score model, with scales measured on its training frames."""
        from mlff_calc.training.frames.failures import SavedFrames

        notes = check_frames(recipe, parts)
        structures = {part: Structures.of(parts[part].samples) for part in ("train", "valid")}
        model = new_score_model(recipe, structures["train"])
        train, valid = (
            NoisyFrames(one, model.topology, model.kT, recipe.loss.clip) for one in structures.values()
        )  # fmt: skip
        return Prepared(
            model,
            ScoreObjective(model, recipe.loss.anchor),
            train,
            valid,
            lambda folder: SavedFrames(folder, dict(parts)),
            label_table([count for frames in parts.values() for count in frames.count_by_file()]),
            notes,
            example=range(min(recipe.optimizer.batch_size, len(train))),
        )

    def judge(self, recipe: ScoreRecipe, network: ScoreModel, samples: Frames) -> ScoreReport:
        """Compute the unexplained share of the target by noise level."""
        return evaluate_score(network, Structures.of(samples.samples), batch_size=recipe.optimizer.judging_size)

    def card(self, outcome: Outcome[ScoreRecipe, Frames]) -> str:
        """The card as Markdown."""
        from mlff_calc.training.score.card import write_card

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
    ) -> ScoreReport:
        """See `evaluate_score_files`; `index`, `part`, `format`, `keys` and `units` are those of a recipe's data files."""
        sources = parse_sources({"file": [str(file) for file in data], "index": index} | reading, "mlff eval")
        files = [(path, source) for source in sources for path in matching_files(source.file)]
        return evaluate_score_files(
            model, files, batch_size=batch_size or BATCH_SIZE, device=device, precision=precision or "float32"
        )
