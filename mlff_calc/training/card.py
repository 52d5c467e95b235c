"""The common layout of the cards of all kinds: title, data, model, training, errors, limits, licence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlff_calc.training.machine import machine
from mlff_calc.training.task import Outcome


def table(rows: Sequence[Sequence[object]]) -> list[str]:
    """Format rows as lines of a Markdown table; the first row holds the headings."""
    lines = ["|" + "|".join(f" {cell} " if cell != "" else " " for cell in row) + "|" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def card_text(
    outcome: Outcome[Any, Any],
    items: str,
    *,
    what: str,
    data: Sequence[str],
    limits: str,
    about: str = "",
    start: str = "",
    below: str = "",
    more_limits: str = "",
) -> str:
    """Write a card as Markdown.

    Args:
        outcome: Outcome of the run.
        items: Plural noun for the samples of a part.
        what: Name of the kind of network, for the title.
        data: Lines about the data, including a table.
        limits: Limits of the network, used where the recipe names none.
        about: Sentence under the title.
        start: Sentence about what the network was fine-tuned from.
        below: Sentences under the table of errors.
        more_limits: Sentences after the limits.
    """
    recipe, network, fitted, said = outcome.recipe, outcome.network, outcome.fitted, outcome.recipe.card
    options = ", ".join(f"{key} {value}" for key, value in network.config.get("backbone", {}).items())
    n_weights = sum(p.numel() for p in network.parameters())
    lines = [f"# {said.title or recipe.origin.stem}: {what}", "", *([about, ""] if about else []), "## Data", "", *data]
    lines += ["", *(f"- {note}" for note in outcome.notes)] if outcome.notes else []
    options = f"{options}; " if options else ""
    lines += ["", "## Model", "", f"{options}{n_weights} weights; precision in training {recipe.trainer.precision}."]
    lines += [start] if start else []
    lines += ["", "## Training", "", f"    {outcome.command or 'train(recipe)'}", ""]
    lines.append(f"{fitted.time_text()}, {fitted.epochs} epochs (best: {fitted.best_epoch}), on {machine()}.")
    where = f"test {items}" if outcome.judged == "test" else f"validation {items} (there were no test {items})"
    lines += ["", f"## Errors on {len(outcome.parts[outcome.judged])} {where}", "", *table(outcome.report.rows())]
    lines += ["", below] if below else []
    lines += ["", "## Not for", "", said.not_for or limits, *([more_limits] if more_limits else [])]
    lines += ["", f"Licence: {said.licence}"] if said.licence else []
    return "\n".join(lines) + "\n"
