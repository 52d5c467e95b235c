"""Decisions about the data that a recipe may leave open, and the check that a resumed run makes the same ones.

The record of a run states where its reference energies come from, how many frames and isolated atoms each part has, and
the factors from the files' units to eV and Angstrom. Other versions of this package may decide differently for the same
recipe and files: `auto` now takes isolated atoms, where older versions fitted and trained on them like on other frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlff_calc.bounded import shorten
from mlff_calc.errors import TrainingError
from mlff_calc.training.fine_tuning import check_start, start_record
from mlff_calc.training.frames.read import Frames
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.potential.references import origin_of
from mlff_calc.training.run_folder import ORIGIN

_SAME = 1e-6
"""Relative difference up to which factors count as equal, since constants of nature are measured again."""


def decisions(recipe: PotentialRecipe, parts: Mapping[str, Frames]) -> dict[str, Any]:
    """Return the record's entries on the origin of the reference energies and on the start."""
    return {ORIGIN: origin_of(recipe, parts["train"])} | start_record(recipe)


def check_decisions(
    place: str, record: Mapping[str, Any], recipe: PotentialRecipe, data: Mapping[str, Any], decided: Mapping[str, Any]
) -> None:
    """Refuse to resume a run whose data are now read differently.

    Args:
        place: Folder of the run, for messages.
        record: Record of the run.
        recipe: Present recipe.
        data: Present result of `data_marks`.
        decided: Present result of `decisions`.

    Raises:
        TrainingError: Something differs; the message names it and the cure.
    """
    check_start(Path(place), record, decided)
    marks = record.get("data", {})
    if ORIGIN not in record:
        if not any("isolated_atoms" in mark for mark in marks.values()):
            _refuse_silent_isolated(place, recipe, data, decided)
    elif record[ORIGIN] != decided[ORIGIN]:
        raise _differs(place, "its reference energies were", record[ORIGIN], decided[ORIGIN], ORIGIN)
    for part, now in data.items():
        before = marks.get(part, {})
        for key, default, cure in (
            ("frames", now["frames"], "data.split, data.keep_isolated_atoms and the index of its files"),
            ("isolated_atoms", 0 if ORIGIN in record else now.get("isolated_atoms", 0), "data.keys.config_type"),
            ("units", None if ORIGIN in record else now.get("units"), "data.units"),
        ):
            old, new = before.get(key, default), now.get(key, None if key == "units" else 0)
            if not _same(old, new):
                what = f"{'factors of its units' if key == 'units' else key} of `{part}` were"
                raise _differs(place, what, old, new, cure)


def _refuse_silent_isolated(
    place: str, recipe: PotentialRecipe, data: Mapping[str, Any], decided: Mapping[str, Any]
) -> None:
    """Refuse to resume a run that did not know isolated atoms unless they are treated as it treated them."""
    n_isolated = sum(mark.get("isolated_atoms", 0) for mark in data.values())
    cures = ["--set reference_energies=fit"] if decided[ORIGIN] == "from isolated atoms" else []
    cures += [] if recipe.data.keep_isolated_atoms else ["--set data.keep_isolated_atoms=true"]
    if n_isolated and cures:
        raise TrainingError(
            f"{place}: the version that began this run fitted reference energies and trained on isolated atoms as on other "
            f"frames. This version would leave out the {n_isolated} isolated atoms in its data; continue as it began with "
            f"{' '.join(cures)}, or start anew with --overwrite"
        )


def _differs(place: str, what: str, before: object, now: object, key: str) -> TrainingError:
    return TrainingError(
        f"{place}: {what} {shorten(before)} when this run began, but are {shorten(now)} from the same files now; "
        f"set {key} so that the run continues as it began, or start anew with --overwrite"
    )


def _same(before: Any, now: Any) -> bool:  # noqa: ANN401
    """Whether two entries of a record are equal, numbers within rounding."""
    if isinstance(now, dict):
        return isinstance(before, dict) and before.keys() == now.keys() and all(_same(before[k], now[k]) for k in now)
    if isinstance(now, list):
        return isinstance(before, list) and len(before) == len(now) and all(map(_same, before, now))
    if isinstance(now, float):
        return isinstance(before, int | float) and math.isclose(before, now, rel_tol=_SAME)
    return bool(before == now)
