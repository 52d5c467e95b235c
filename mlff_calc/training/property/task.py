"""Training and evaluation of properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_calc.datasets import matching_files
from mlff_calc.device import resolve_device
from mlff_calc.networks import find_network, read_header
from mlff_calc.properties import PropertyNetwork, load_property
from mlff_calc.training.failures import NamedSamples
from mlff_calc.training.fine_tuning import check_start, start_record
from mlff_calc.training.fingerprints import fingerprint_all
from mlff_calc.training.output_files import check_output
from mlff_calc.training.property.build import new_property, notes_of, outside_note
from mlff_calc.training.property.calibrate import BATCH_SIZE, calibrate
from mlff_calc.training.property.data import Labelled, PropertyFrames, read_files, read_parts
from mlff_calc.training.property.evaluate import PropertyReport, evaluate_property
from mlff_calc.training.property.example import EXAMPLE_PROPERTY_RECIPE
from mlff_calc.training.property.finetune import property_from
from mlff_calc.training.property.objective import PropertyObjective
from mlff_calc.training.property.predictor import PropertyPredictor
from mlff_calc.training.property.recipe import PropertyRecipe
from mlff_calc.training.task import Outcome, Prepared, Task

if TYPE_CHECKING:
    from mlff_calc.training.folder import RunFolder

KEYS = ("label", "smiles")


class PropertyTask(Task[PropertyRecipe, Labelled]):
    """Properties, trained on structures with one number each."""

    name = "property"
    recipe = PropertyRecipe
    example = EXAMPLE_PROPERTY_RECIPE
    items = "structures"
    drawings = ("calibration.png",)
    options = frozenset({"plot", "keys", "index", "format"})
    predictions = frozenset()

    def read(self, recipe: PropertyRecipe) -> dict[str, Labelled]:
        """Read the structures by part."""
        return read_parts(recipe)

    def fingerprints(self, recipe: PropertyRecipe, parts: Mapping[str, Labelled]) -> dict[str, dict[str, Any]]:
        """Return names, sizes and hashes of all files, and numbers of structures."""
        del recipe
        return {
            part: fingerprint_all(one.paths, f"{len(one.paths)} files") | {"structures": len(one)}
            for part, one in parts.items()
        }

    def prepare(self, recipe: PropertyRecipe, parts: Mapping[str, Labelled]) -> Prepared:
        """Build a new network, with bins and standard units measured on its training labels, or one to fine-tune."""
        started: list[str] = []
        if recipe.fine_tune_from is None:
            network, train = new_property(recipe, parts["train"])
        else:
            network, train, started = property_from(recipe, parts["train"])
        places = {part: [one.place for one in parts[part].samples] for part in ("train", "valid")}
        return Prepared(
            network,
            PropertyObjective(network, recipe.loss),
            train,
            PropertyFrames(parts["valid"].samples, network.cutoff),
            lambda folder: NamedSamples(folder, places, "Look for overlapping atoms or wrong labels there"),
            ", ".join(f"{len(one)} structures for {part}" for part, one in parts.items()),
            [*started, *notes_of(network, dict(parts), recipe.property.pooling)],
        )

    def finish(self, network: PropertyNetwork, parts: Mapping[str, Labelled]) -> None:
        """Calibrate the distributions on the validation structures."""
        calibrate(network, parts["valid"].samples)

    def judge(self, recipe: PropertyRecipe, network: PropertyNetwork, samples: Labelled) -> PropertyReport:
        """Compute errors, likelihood and coverage."""
        return evaluate_property(network, samples.samples, batch_size=recipe.optimizer.judging_size)

    def plots(self, folder: RunFolder, report: PropertyReport, what: str) -> None:
        """Draw predictions with error bars, and the calibration."""
        from mlff_calc.training.property.plots import draw

        draw(report, folder.path / self.drawings[0], what)

    def card(self, outcome: Outcome[PropertyRecipe, Labelled]) -> str:
        """The card as Markdown."""
        from mlff_calc.training.property.card import write_card

        return write_card(outcome)

    def provenance(self, recipe: PropertyRecipe, parts: Mapping[str, Labelled]) -> dict[str, Any]:
        """Return how the data were read, and the start."""
        del parts
        return {"reading": recipe.data.model_dump(include={"smiles", "seed"}), **start_record(recipe)}

    def decisions(self, recipe: PropertyRecipe, parts: Mapping[str, Labelled]) -> dict[str, Any]:
        """Return the record's entry on the start."""
        del parts
        return start_record(recipe)

    def check_resumed(
        self,
        folder: Path,
        record: Mapping[str, Any],
        recipe: PropertyRecipe,
        data: Mapping[str, Any],
        decided: Mapping[str, Any],
    ) -> None:
        """Refuse to resume where the start was replaced."""
        del recipe, data
        check_start(folder, record, decided)

    def evaluate(
        self,
        model: str,
        data: Sequence[Path],
        *,
        batch_size: int | None = None,
        device: str = "auto",
        precision: str | None = None,
        plot: Path | None = None,
        keys: Mapping[str, str] | None = None,
        index: str = ":",
        format: str | None = None,
        **asked: Any,  # noqa: ANN401
    ) -> PropertyReport:
        """Evaluate a network on files; `keys` names `label` and `smiles` where they differ from those of the training.

        Raises:
            OptionError: An unknown key is named, or the plot cannot be written.
        """
        del asked
        from mlff_calc.training.property.plots import draw

        known = dict(read_header(find_network(model, self.name))["provenance"].get("reading", {}))
        given = dict(keys or {})
        unknown = sorted(given.keys() - set(KEYS))
        if unknown:
            from mlff_calc.errors import OptionError

            raise OptionError(f"--key {unknown[0]}: a property has the keys {', '.join(KEYS)}; name one of these")
        if plot is not None:
            check_output("--plot", plot, (".png",), "calibration.png")
        network = load_property(model).to_precision(precision or "float32").to(resolve_device(device))
        files = [file for name in data for file in matching_files(str(name))]
        label = given.pop("label", network.name)
        part = read_files(files, label, "eval", **(known | given | {"index": index, "format": format}))
        report = evaluate_property(network, part.samples, batch_size=batch_size or BATCH_SIZE)
        note = outside_note(network, part)
        report.notes.extend([*part.notes, *([note] if note else [])])
        if plot is not None:
            draw(report, plot, f"{report.structures} structures")
        return report

    def predictor(
        self, model: str, *, device: str = "auto", precision: str | None = None, **asked: Any  # noqa: ANN401
    ) -> PropertyPredictor:
        """See `PropertyPredictor`."""
        del asked
        return PropertyPredictor(model, device=device, precision=precision)
