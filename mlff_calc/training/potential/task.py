"""Training and evaluation of potentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_calc.graph.domain import domain_of, united
from mlff_calc.potential import Potential
from mlff_calc.training.fine_tuning import start_record
from mlff_calc.training.frames.labels import check_labels, label_table
from mlff_calc.training.frames.marks import data_marks
from mlff_calc.training.frames.read import Frames, read_frames
from mlff_calc.training.frames.recipe import parse_sources
from mlff_calc.training.potential.build import new_potential
from mlff_calc.training.potential.data import check_structures, graph_frames
from mlff_calc.training.potential.decisions import check_decisions, decisions
from mlff_calc.training.potential.evaluate import evaluate, evaluate_files
from mlff_calc.training.potential.example import EXAMPLE_RECIPE
from mlff_calc.training.potential.finetune import start_from
from mlff_calc.training.potential.fixed_point import objective_for
from mlff_calc.training.potential.predictor import PotentialPredictor
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.potential.references import notes_of, origin_of
from mlff_calc.training.potential.report import EvaluationReport
from mlff_calc.training.potential.uncertainty import calibrate_errors, check_error_labels, measure_distances
from mlff_calc.training.task import Outcome, Prepared, Task

if TYPE_CHECKING:
    from mlff_calc.training.folder import RunFolder


class PotentialTask(Task[PotentialRecipe, Frames]):
    """Potentials, trained on frames with energies, forces and stresses."""

    name = "potential"
    recipe = PotentialRecipe
    example = EXAMPLE_RECIPE
    drawings = ("parity.png",)
    options = frozenset({"plot", "keys", "units", "index", "part", "format", "trust", "output", "overwrite"})
    predictions = frozenset({"trust"})

    def read(self, recipe: PotentialRecipe) -> dict[str, Frames]:
        """Read the frames by part, and count and check their labels."""
        parts = read_frames(recipe)
        check_labels(recipe, [frames.count() for frames in parts.values()])
        return parts

    def fingerprints(self, recipe: PotentialRecipe, parts: Mapping[str, Frames]) -> dict[str, dict[str, Any]]:
        """Return names, sizes and hashes of all files, numbers of frames, and factors of units."""
        return data_marks(recipe, parts)

    def decisions(self, recipe: PotentialRecipe, parts: Mapping[str, Frames]) -> dict[str, Any]:
        """Return where the reference energies come from."""
        return decisions(recipe, parts)

    def check_resumed(
        self,
        folder: Path,
        record: Mapping[str, Any],
        recipe: PotentialRecipe,
        data: Mapping[str, Any],
        decided: Mapping[str, Any],
    ) -> None:
        """See `check_decisions`."""
        check_decisions(str(folder), record, recipe, data, decided)

    def prepare(self, recipe: PotentialRecipe, parts: Mapping[str, Frames]) -> Prepared:
        """Build a new potential, or one to fine-tune."""
        from mlff_calc.training.frames.failures import SavedFrames

        started: list[str] = []
        if recipe.fine_tune_from is None:
            potential, train = new_potential(recipe, parts["train"])
        else:
            potential, train, started = start_from(recipe, parts["train"])
        check_error_labels(recipe, potential, parts)
        section = recipe.potential if recipe.fine_tune_from is None else None
        measured = section is not None and section.avg_num_neighbors == "auto"
        for part, frames in parts.items():
            if part != "train" or not measured:  # to measure neighbours, all graphs were made
                check_structures(frames.samples, potential.cutoff)
        return Prepared(
            potential,
            objective_for(recipe, potential),
            train,
            graph_frames(parts["valid"].samples, potential.cutoff, parts["valid"].weights),
            lambda folder: SavedFrames(folder, dict(parts)),
            label_table([count for frames in parts.values() for count in frames.count_by_file()]),
            [*started, *notes_of(recipe, potential, parts)],
            example=(0, len(train) - 1),  # two systems
        )

    def judge(self, recipe: PotentialRecipe, network: Potential, samples: Frames) -> EvaluationReport:
        """Compute the errors of energies, forces and stresses."""
        return evaluate(network, samples.samples, batch_size=recipe.optimizer.judging_size)

    def finish(self, network: Potential, parts: Mapping[str, Frames]) -> None:
        """Store the domain of the training data, with that of a start; measure and calibrate heads of errors."""
        found = domain_of((sample.atoms for sample in parts["train"].samples), network.cutoff)
        network.domain = found if network.domain is None else united(network.domain, found)
        if network.error_heads:
            measure_distances(network, graph_frames(parts["train"].samples, network.cutoff))
            calibrate_errors(network, graph_frames(parts["valid"].samples, network.cutoff))

    def plots(self, folder: RunFolder, report: EvaluationReport, what: str) -> None:
        """Draw predictions against labels."""
        from mlff_calc.training.plots import parity

        parity(report.pairs, folder.path / "parity.png", what)

    def card(self, outcome: Outcome[PotentialRecipe, Frames]) -> str:
        """The card as Markdown."""
        from mlff_calc.training.potential.card import write_card

        return write_card(outcome)

    def provenance(self, recipe: PotentialRecipe, parts: Mapping[str, Frames]) -> dict[str, Any]:
        """Return level of theory, origin of the reference energies and the start."""
        return {
            "reference_energies": origin_of(recipe, parts["train"]),
            "level_of_theory": recipe.card.level_of_theory,
            **start_record(recipe),
        }

    def evaluate(
        self,
        model: str,
        data: Sequence[Path],
        *,
        batch_size: int | None = None,
        device: str = "auto",
        precision: str | None = None,
        plot: Path | None = None,
        output: Path | None = None,
        overwrite: bool = False,
        trust: bool = False,
        index: str = ":",
        **reading: Any,  # noqa: ANN401
    ) -> EvaluationReport:
        """See `evaluate_files`; `index`, `part`, `format`, `keys` and `units` are those of a recipe's data files."""
        sources = parse_sources({"file": [str(file) for file in data], "index": index} | reading, "mlff eval")
        return evaluate_files(
            model, sources, batch_size=batch_size or 16, device=device, precision=precision, plot=plot, output=output,
            overwrite=overwrite, trust=trust,
        )  # fmt: skip

    def predictor(
        self, model: str, *, device: str = "auto", precision: str | None = None, trust: bool = False, **asked: Any
    ) -> PotentialPredictor:
        """See `PotentialPredictor`."""
        del asked
        return PotentialPredictor(model, device=device, precision=precision, trust=trust)
