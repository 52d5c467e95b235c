"""Section of recipes that learn several later times of each first frame."""

from __future__ import annotations

from pydantic import Field, model_validator

from mlff_calc.training.recipe_section import Section


class Times(Section):
    """Later times of each first frame; exactly one of the two."""

    irregular: int | None = Field(None, ge=1)
    """Number of times drawn from all frames up to the horizon; rollouts draw them anew in every epoch of the training."""
    regular: int | None = Field(None, ge=1)
    """Number of equally spaced times up to the horizon."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Times:
        if (self.irregular is None) == (self.regular is None):
            raise ValueError("give exactly one of `irregular` and `regular`, each a number of times")
        return self

    @property
    def count(self) -> int:
        """Number of times."""
        return int(self.irregular or self.regular or 0)
