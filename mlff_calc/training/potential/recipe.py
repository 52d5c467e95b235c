"""The recipe of a potential: one YAML file, checked as a whole before anything runs or is written.

Every section refuses unknown keys and names the nearest valid one.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mlff_calc.potential.load import KIND
from mlff_calc.training.fine_tuning import FineTunedRecipe
from mlff_calc.training.frames.recipe import FrameLoss, FramesRecipe
from mlff_calc.training.potential.section import FixedPointSection, PotentialSection

Form = Literal["l2", "huber", "mse"]


class LossSection(FrameLoss):
    """Weights and form of the loss; energies count per atom (eV), forces in eV/Angstrom, stress in eV/Angstrom^3."""

    energy: float = Field(1.0, ge=0.0)
    """Weight of energies, whose errors count per atom [eV]."""
    forces: float = Field(1.0, ge=0.0)
    """Weight of forces [eV/Angstrom]."""
    stress: float = Field(0.0, ge=0.0)
    """Weight of stresses; above 0 the label is required [eV/Angstrom^3]."""
    form: Form = "l2"
    """Form of each term: norm (l2), huber, or mean square (mse)."""
    huber_delta: float = Field(0.01, gt=0.0)
    """Error at which huber changes from square to linear, in the unit of the label."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> LossSection:
        if not self.weights():
            raise ValueError("all weights are 0; give energy, forces or stress a weight greater than 0")
        return self

    def weights(self) -> dict[str, float]:
        """Return the weights that are above 0."""
        return {name: getattr(self, name) for name in ("energy", "forces", "stress") if getattr(self, name) > 0.0}


class PotentialRecipe(FineTunedRecipe, FramesRecipe):
    """Recipe of a potential. Create it with `load_recipe` or `parse_recipe`."""

    potential: PotentialSection | None = None
    """Architecture; with `fine_tune_from` it may be left out, or name what is new."""
    reference_energies: Literal["auto", "isolated", "fit"] | dict[str, float] = "auto"
    """Reference energies of the elements: auto, isolated, fit, or one for each element [eV]."""
    loss: LossSection = LossSection()
    """Weights and form of the loss."""
    fixed_point: FixedPointSection = FixedPointSection()
    """Training of a potential on a fixed point."""

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Move keys of the section `fixed_point` that earlier versions had in `loss`."""
        loss, section = data.get("loss"), data.get("fixed_point", {})
        moved = [key for key in FixedPointSection.model_fields if isinstance(loss, dict) and key in loss]
        if not (moved and isinstance(loss, dict) and isinstance(section, dict)):
            return data
        twice = [key for key in moved if key in section]
        if twice:
            raise ValueError(f"{twice[0]!r} stands in `loss` and in `fixed_point`; leave it out of `loss`")
        rest = {key: value for key, value in loss.items() if key not in moved}
        return data | {"loss": rest, "fixed_point": section | {key: loss[key] for key in moved}}

    def listed_elements(self) -> list[str]:
        """Return the chemical symbols of the section `potential`, where it lists them."""
        listed = "auto" if self.potential is None else self.potential.elements
        return [] if isinstance(listed, str) else listed

    @model_validator(mode="after")
    def _one_origin_of_the_architecture(self) -> PotentialRecipe:
        if self.fine_tune_from is None and (self.potential is None or self.potential.backbone is None):
            raise ValueError(
                "there is no architecture; give `potential.backbone` (a new one), or `fine_tune_from` (name or path of a "
                "trained network)"
            )
        return self

    @model_validator(mode="after")
    def _stress_is_there_to_learn(self) -> PotentialRecipe:
        if self.potential is not None and self.potential.forces == "direct" and self.loss.stress > 0.0:
            raise ValueError(
                f"loss.stress is {self.loss.stress:g}, but potential.forces is direct, which gives no stress; "
                "set loss.stress to 0, or write forces: gradient"
            )
        return self

    @model_validator(mode="after")
    def _fixed_point_is_there(self) -> PotentialRecipe:
        if self.trainer.compile and self.fixed_point.correction > 0.0:
            raise ValueError(
                f"fixed_point.correction is {self.fixed_point.correction:g}, but trainer.compile is true, and compiled "
                "solves do not return intermediate states; set trainer.compile: false, or leave `correction` out"
            )
        if self.potential is not None and self.potential.backbone is not None:  # else see training/potential/fixed_point.py
            finding = self.fixed_point.finding(self.potential.backbone.config(), direct=self.potential.forces == "direct")
            if finding:
                raise ValueError(finding)
        return self

    def continues(self) -> bool:
        """Whether a whole potential is continued; raises a PotentialFileError where the start is missing or damaged."""
        return self.same_kind(KIND)
