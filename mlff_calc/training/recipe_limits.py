"""Refusals that recipes of several kinds share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlff_calc.backbones import is_fixed_point
from mlff_calc.errors import RecipeError
from mlff_calc.training.recipe_base import TrainerSection, TrainingRecipe


def refuse_mixed(trainer: TrainerSection, who: str) -> None:
    """Refuse mixed precision.

    Args:
        trainer: Section of the recipe.
        who: Plural name of the networks that lack it.

    Raises:
        ValueError: It is asked for.
    """
    if trainer.precision == "mixed":
        raise ValueError(f"trainer.precision is mixed, which {who} do not have; give float32 or float64")


def refuse_compile(trainer: TrainerSection, who: str) -> None:
    """Refuse compiled training, with arguments and errors of `refuse_mixed`."""
    if trainer.compile:
        raise ValueError(f"trainer.compile is true, and {who} are not compiled for training; set it to false")


def refuse_compiled_solves(trainer: TrainerSection, backbone: str, who: str) -> None:
    """Refuse compiled training of a backbone by name that solves for a fixed point, as `refuse_mixed` does."""
    if trainer.compile and is_fixed_point(backbone):
        raise ValueError(
            f"trainer.compile is true, but backbone {backbone!r} solves for a fixed point, which {who} do not "
            "compile; set trainer.compile: false, or take another backbone"
        )


@contextmanager
def naming(recipe: TrainingRecipe, section: str) -> Iterator[None]:
    """Name recipe and section in a RecipeError of a network that is built from it."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"{recipe.origin}: {section}: {error}") from error
