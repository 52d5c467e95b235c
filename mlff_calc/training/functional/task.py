"""Training and evaluation of learned functionals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.units import Bohr

from mlff_calc.charges import charge_of
from mlff_calc.electronic.functional import FunctionalNetwork
from mlff_calc.graph.domain import domain_of
from mlff_calc.training.frames.labels import label_table
from mlff_calc.training.frames.marks import data_marks
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.frames.recipe import parse_sources
from mlff_calc.training.functional.build import FunctionalTraining, new_functional
from mlff_calc.training.functional.data import read_parts
from mlff_calc.training.functional.evaluate import FunctionalReport, evaluate_functional, evaluate_functional_files
from mlff_calc.training.functional.example import EXAMPLE_FUNCTIONAL_RECIPE
from mlff_calc.training.functional.recipe import FunctionalRecipe
from mlff_calc.training.task import Outcome, Prepared, Task

if TYPE_CHECKING:
    from mlff_calc.electronic.scf.kept_densities import KeptDensities


class FunctionalTask(Task[FunctionalRecipe, Frames]):
    """Learned exchange-correlation functionals, trained on energies.

    Args:
        kept: Densities of base functionals that several trainings share; None computes them for this one.
    """

    name = "functional"
    recipe = FunctionalRecipe
    example = EXAMPLE_FUNCTIONAL_RECIPE
    items = "molecules"
    options = frozenset({"keys", "units", "index", "part", "format", "limit", "rivals"})

    def __init__(self, kept: KeptDensities | None = None) -> None:
        self._kept = kept
        self._training: FunctionalTraining | None = None

    def read(self, recipe: FunctionalRecipe) -> dict[str, Frames]:
        """Read the molecules by part, and check them."""
        return read_parts(recipe)

    def fingerprints(self, recipe: FunctionalRecipe, parts: Mapping[str, Frames]) -> dict[str, dict[str, Any]]:
        """Return names, sizes and hashes of all files, numbers of frames, and factors of units."""
        return data_marks(recipe, parts)

    def prepare(self, recipe: FunctionalRecipe, parts: Mapping[str, Frames]) -> Prepared:
        """Build a new functional; its densities are made when the folder of the run is known."""
        from mlff_calc.training.frames.failures import SavedFrames

        training = self._training = FunctionalTraining(recipe, new_functional(recipe, parts), parts, self._kept)
        return Prepared(
            training.network,
            training.objective,
            training.train,
            training.valid,
            lambda folder: SavedFrames(folder, dict(parts)),
            label_table([count for frames in parts.values() for count in frames.count_by_file()]),
            begin=training.begin,
        )

    def finish(self, network: FunctionalNetwork, parts: Mapping[str, Frames]) -> None:
        """Fit constants anew where errors were relative, and store the domain of the data."""
        network.domain = domain_of((sample.atoms for sample in parts["train"].samples), network.cutoff * Bohr)
        if self._training is not None:
            self._training.end(network)

    def clean(self) -> None:
        """Remove the densities."""
        if self._training is not None:
            self._training.rounds.remove()

    def judge(self, recipe: FunctionalRecipe, network: FunctionalNetwork, samples: Frames) -> FunctionalReport:
        """Compute the errors of self-consistent energies beside those of the base functional."""
        section = recipe.densities
        return evaluate_functional(
            network, samples.samples, workers=section.workers, kept=self._kept, conv_tol=section.conv_tol,
            max_cycle=section.max_cycle,
        )  # fmt: skip

    def card(self, outcome: Outcome[FunctionalRecipe, Frames]) -> str:
        """The card as Markdown."""
        from mlff_calc.training.functional.card import write_card

        return write_card(outcome, [] if self._training is None else self._training.rounds.reports())

    def provenance(self, recipe: FunctionalRecipe, parts: Mapping[str, Frames]) -> dict[str, Any]:
        """Return level of the energies, numbers of electrons of the training, and the rounds."""
        electrons = [int(sample.atoms.numbers.sum()) - charge_of(sample.atoms) for sample in parts["train"].samples]
        reports = [] if self._training is None else self._training.rounds.reports()
        return {
            "level_of_theory": recipe.card.level_of_theory or (self._training and self._training.network.config["level"]),
            "electrons": [min(electrons), max(electrons)],
            "rounds": [str(one) for one in reports],
        }

    def evaluate(
        self,
        model: str,
        data: Sequence[Path],
        *,
        batch_size: int | None = None,
        device: str = "auto",
        precision: str | None = None,
        index: str = ":",
        limit: int | None = None,
        rivals: Path | None = None,
        **reading: Any,  # noqa: ANN401
    ) -> FunctionalReport:
        """See `evaluate_functional_files`; `index`, `part`, `format`, `keys` and `units` are those of a recipe's files.

        SCFs run on the processor in float64, one molecule at a time.
        """
        del batch_size, device, precision
        sources = parse_sources({"file": [str(file) for file in data], "index": index} | reading, "mlff eval")
        training = [] if rivals is None else parse_sources({"file": str(rivals)} | reading, "mlff eval --rivals")
        return evaluate_functional_files(model, sources, limit=limit, rivals=training)
