"""Reading, splitting and checking the frames that a recipe names, before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from ase.data import chemical_symbols

from mlff_calc.datasets import KINDS, PARTS, Kind, Sample, count_labels, matching_files
from mlff_calc.datasets.absent import absent_labels
from mlff_calc.datasets.isolated import isolated_energies, part_isolated
from mlff_calc.datasets.lazy import chosen, joined_samples, marks_of
from mlff_calc.datasets.readers import open_structures
from mlff_calc.datasets.several import refuse_frames_twice
from mlff_calc.datasets.weights import frame_weights, refuse_unknown_types
from mlff_calc.errors import DatasetError, RecipeError
from mlff_calc.training.frames.labels import PartCount
from mlff_calc.training.frames.recipe import FramesRecipe, Source
from mlff_calc.training.frames.survey import Survey, structure_hash, survey_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frames:
    """A part of the data.

    Attributes:
        part: `train`, `valid` or `test`.
        paths: Data files.
        samples: Structures with their labels.
        isolated: Frames of isolated atoms; `samples` contains them only where the recipe says so.
        weights: Weights of the labels of each sample; None where all are 1.
        survey: Survey of the samples, once it was made.
    """

    part: str
    paths: tuple[Path, ...]
    samples: Sequence[Sample]
    isolated: list[Sample] = field(default_factory=list)
    weights: list[dict[Kind, float]] | None = None
    survey: Survey | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def where(self) -> str:
        """Names of the files, for messages."""
        rest = len(self.paths) - 1
        return str(self.paths[0]) + (f" and {rest} other file{'s' * (rest > 1)}" if rest else "")

    def count(self) -> PartCount:
        """Count the labels of each kind."""
        return self._counted(self.where, self.surveyed().outlines)

    def surveyed(self) -> Survey:
        """Return the survey of the samples; makes it by reading all of them if there is none yet."""
        return survey_of(self.samples)[0] if self.survey is None else self.survey

    def count_by_file(self) -> list[PartCount]:
        """Count the labels of each kind for each file."""
        found: dict[Path, list[Sample]] = {path: [] for path in self.paths}
        for outline in self.surveyed().outlines:
            found[outline.path].append(outline)
        return [self._counted(path, outlines) for path, outlines in found.items()]

    def _counted(self, path: str | Path, samples: Sequence[Sample]) -> PartCount:
        return PartCount(self.part, path, len(samples), count_labels(samples), absent_labels(samples))

    def elements(self) -> set[int]:
        """Return the atomic numbers that occur."""
        return self.surveyed().elements


def read_frames(recipe: FramesRecipe) -> dict[str, Frames]:
    """Read all parts of the data of a recipe.

    Returns:
        `train`, `valid`, and `test` where the recipe has one.

    Raises:
        RecipeError: A file is missing, a split asks for more frames than there are, or a frame is in two parts.
        DatasetError: A file cannot be read, labels are not finite, a part has an element that the training part lacks,
            a frame is named twice, a weight is invalid, or frames of isolated atoms are invalid or disagree.
    """
    parts: dict[str, Frames] = {}
    for part in PARTS:
        sources = recipe.data.sources(part)
        if sources:
            parts[part] = _read(recipe, part, sources)
    isolated_energies(sample for frames in parts.values() for sample in frames.isolated)
    if recipe.data.split is not None:
        parts |= _split(recipe, parts["train"])
    for part, frames in parts.items():
        if len(frames) == 0:
            beside = " beside isolated atoms" if frames.isolated else ""
            raise DatasetError(f"{frames.where}: no frames for `{part}`{beside}; check the file and data.split")
    structures: dict[str, dict[bytes, int]] = {}
    for part, frames in parts.items():
        survey, structures[part] = survey_of(frames.samples)
        parts[part] = replace(frames, survey=survey)
    _check_elements(recipe, parts)
    _check_disjoint(recipe, parts, structures)
    return _weighed(recipe, parts)


def _read(recipe: FramesRecipe, part: str, sources: list[Source]) -> Frames:
    """Read the frames of one part, with isolated atoms separated."""
    found: list[tuple[Path, Source]] = []
    for number, source in enumerate(sources):
        place = f"data.{part}.{number}.file" if len(sources) > 1 else f"data.{part}.file"
        try:
            files = matching_files(recipe.expanded(source.file), recipe.origin.parent)
        except DatasetError as error:
            raise RecipeError(f"{recipe.origin}: {place}: {error}") from error
        found += [(file.resolve(), source) for file in files]
    samples = read_sources(found, weighted(recipe))
    _require_unit_of_forces(recipe, found, samples)
    others, isolated = part_isolated(samples)
    paths = tuple(dict.fromkeys(path for path, _ in found))
    return Frames(part, paths, samples if recipe.data.keep_isolated_atoms else others, isolated)


def _require_unit_of_forces(
    recipe: FramesRecipe, files: Sequence[tuple[Path, Source]], samples: Sequence[Sample]
) -> None:
    """Refuse forces in a guessed unit: programs that print Hartree print them per Bohr, data sets do not."""
    if "forces" not in weighted(recipe):
        return
    guessed = [one for one in files if one[1].units is not None and one[1].units.for_reader().forces_are_supposed]
    labelled = {sample.path for sample in samples if sample.forces is not None} if guessed else set()
    for path, source in guessed:
        units = source.units
        if units is not None and path in labelled:
            energy, length = units.energy, units.length
            own = f"write forces: {energy}/{length} among the units of that file"
            cure = f"--set data.units.forces={energy}/{length}" if units is recipe.data.units else own
            raise RecipeError(
                f"{recipe.origin}: units.forces of {path} is not given, and with energy: {energy} and length: {length} it "
                f"could be {energy}/Bohr, as programs print gradients, or {energy}/{length}, as data sets such as ANI hold "
                f"forces; give it ({cure}, if it is that)"
            )


def refuse_weights(frames: Frames, why: str) -> None:
    """Refuse weights of frames, for kinds that learn all frames alike.

    Args:
        frames: Part of the data.
        why: What counts all frames alike, for the message.

    Raises:
        DatasetError: There are weights.
    """
    if frames.weights is not None:
        raise DatasetError(
            f"{frames.where} ({frames.part}) has weights of frames, and {why}; leave out loss.config_weights, or set "
            "loss.frame_weights to false where the frames hold weights"
        )


def weighted(recipe: FramesRecipe) -> list[Kind]:
    """Return the labels with a weight in the loss; faults of all others are ignored, and their labels dropped."""
    return [kind for kind in KINDS if kind in recipe.loss.weights()]


def read_sources(files: Sequence[tuple[Path, Source]], checked: Collection[Kind] = KINDS) -> Sequence[Sample]:
    """Read the samples of some files, each as its source says; faulty labels outside `checked` are dropped.

    Raises:
        DatasetError: see `read_structures`; also raised where two sources name the same frame.
    """
    read = [(path, open_structures(path, **source.reading(), checked=checked)) for path, source in files]
    refuse_frames_twice(read)
    return joined_samples([samples for _, samples in read])


def _split(recipe: FramesRecipe, frames: Frames) -> dict[str, Frames]:
    split = recipe.data.split
    if split is None:
        return {}
    isolated = {"train": frames.isolated}
    return {
        part: Frames(part, frames.paths, chosen(frames.samples, indices), isolated.get(part, []))
        for part, indices in split.drawn(frames.samples, f"{recipe.origin}: data.split of {frames.where}").items()
    }


def _weighed(recipe: FramesRecipe, parts: dict[str, Frames]) -> dict[str, Frames]:
    """Add weights to the parts that enter a loss, where any weight is not 1."""
    by_type: Mapping[str, float] = recipe.loss.config_weights
    refuse_unknown_types(by_type, parts["train"].surveyed().outlines, f"{recipe.origin}: loss.config_weights")
    for part in ("train", "valid"):
        frames = parts[part]
        told: dict[tuple[float, ...], dict[Kind, float]] = {}  # equal weights share one object to save memory
        outlines = frames.surveyed().outlines
        found = (frame_weights(outline, by_type, recipe.loss.frame_weights) for outline in outlines)
        weights = [told.setdefault(tuple(each.values()), each) for each in found]
        if all(weight == 1.0 for values in told for weight in values):
            continue
        _require_weight(recipe, frames, weights)
        parts[part] = replace(frames, weights=weights)
    return parts


def _require_weight(recipe: FramesRecipe, frames: Frames, weights: list[dict[Kind, float]]) -> None:
    """Refuse weights that are all 0 for a label in the loss."""
    for kind in weighted(recipe):
        outlines = frames.surveyed().outlines
        labelled = [each[kind] for outline, each in zip(outlines, weights, strict=True) if kind in outline.labels()]
        if labelled and max(labelled) == 0.0:
            raise RecipeError(
                f"{recipe.origin}: loss.{kind} is {recipe.loss.weights()[kind]:g}, but the weights of all {len(labelled)} "
                f"frames of `{frames.part}` with this label are 0; correct loss.config_weights or the frames, or set "
                f"loss.{kind} to 0"
            )


def _check_elements(recipe: FramesRecipe, parts: dict[str, Frames]) -> None:
    """Check that elements of all parts are in the training part or the recipe."""
    known = parts["train"].elements() | {symbol_number(symbol, recipe) for symbol in recipe.listed_elements()}
    for part, frames in parts.items():
        unknown = sorted(frames.elements() - known)
        if unknown:
            names = " ".join(chemical_symbols[z] for z in unknown)
            have = " ".join(chemical_symbols[z] for z in sorted(known))
            raise DatasetError(
                f"{frames.where} ({part}) holds {names}, but the training data {parts['train'].where} hold only {have}; "
                f"add frames with {names} to the training data, or leave these out of `{part}`"
            )


def _check_disjoint(
    recipe: FramesRecipe, parts: dict[str, Frames], structures: dict[str, dict[bytes, int]]
) -> None:
    """Refuse frames that are in two parts; warn of equal structures, since files may hold copies."""
    frames = {
        part: {(archive_part, path, frame) for path, archive_part, frame in marks_of(parts[part].samples)} for part in parts
    }
    for one, other in combinations([part for part in PARTS if part in parts], 2):
        shared = frames[one] & frames[other]
        if shared:
            _, path, first = min(shared, key=lambda found: found[2])
            raise RecipeError(
                f"{recipe.origin}: {len(shared)} frames of {path} are in `{one}` and in `{other}` (the "
                f"first is frame {first}); name other frames with data.{other}.index, or let data.split divide the file"
            )
        copies = structures[one].keys() & structures[other].keys()
        if copies:
            twice = (parts[other].samples[structures[other][key]] for key in copies)
            again = min(twice, key=lambda sample: sample.frame)
            before = parts[one].samples[structures[one][structure_hash(again)]]
            logger.warning(
                "%d structures of `%s` are in `%s` as well, the first is %s (%s): errors on `%s` will look better than they "
                "are; remove the copies",
                len(copies), other, one, again.place, before.place, other,
            )  # fmt: skip


def symbol_number(symbol: str, recipe: FramesRecipe) -> int:
    """Return the atomic number of a symbol in a recipe.

    Raises:
        RecipeError: There is no such element.
    """
    if symbol not in chemical_symbols[1:]:
        raise RecipeError(f"{recipe.origin}: unknown element {symbol!r}; write a chemical symbol such as Si")
    return chemical_symbols.index(symbol)
