"""The recipe of a pretraining: structures, the backbone, what it is trained for, and the loss."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mlff_calc.training.frames.recipe import FrameLoss, FramesRecipe
from mlff_calc.training.potential.recipe import LossSection
from mlff_calc.training.recipe_backbone import MeasuredBackbone
from mlff_calc.training.recipe_limits import refuse_compile, refuse_mixed
from mlff_calc.training.recipe_section import Section

AUTO = {"cutoff": 5.0, "avg_num_neighbors": 10.0}
"""Options of a backbone before they are measured; the cutoff (Angstrom) is the default of `auto`."""


class ObjectiveSection(Section):
    """What the backbone is trained for, with options of its noise, code and decoder."""

    name: Literal["denoising", "georecon", "supervised"]
    """Objective: denoising for noise in positions; georecon for strong noise too, found with a code of the structure without
    noise; supervised for energies and forces of a cheap method."""
    noise: Literal["cartesian", "fractional", "bond_angle_torsion"] = "cartesian"
    """Noise of copies to denoise: cartesian alone, or after torsions about bonds that turn, or after moves of all bonds."""
    sigma: float = 0.04
    """Noise in positions to denoise [Angstrom]."""
    bond: float = 0.058
    """Noise of bond lengths (bond_angle_torsion) [Angstrom]."""
    angle: float = 0.129
    """Noise of angles (bond_angle_torsion) [radian]."""
    torsion: float | None = None
    """Noise of torsions about bonds that turn; null for 2 (fractional) or 1 (bond_angle_torsion) [radian]."""
    fixed_torsion: float = 0.18
    """Noise of torsions about other bonds (bond_angle_torsion) [radian]."""
    sigma_reconstruction: float = 0.2
    """Noise in positions to reconstruct (georecon) [Angstrom]."""
    pooling: Literal["sum", "mean"] = "sum"
    """Pool of atoms in the code (georecon)."""
    code: Literal["true", "constant"] = "true"
    """Code: that of the structure, or one learned vector for all structures, by which codes are judged (georecon)."""
    width: int = 0
    """Number of entries of the code; 0 for the number of channels (georecon)."""
    decoder_layers: int = 1
    """Number of layers of the decoder (georecon)."""
    conditioning: Literal["fusion", "adaptive_norm"] = "fusion"
    """Entry of the code into the decoder: once before its layers, or by the norm before each layer (georecon)."""

    @model_validator(mode="before")
    @classmethod
    def _code_is_a_word(cls, value: Any) -> Any:  # noqa: ANN401
        """Read `code: true`, which YAML takes for a switch, as the word."""
        if isinstance(value, dict) and value.get("code") is True:
            return value | {"code": "true"}
        return value

    @model_validator(mode="after")
    def _options_are_of_the_objective(self) -> ObjectiveSection:
        others = sorted(self.model_fields_set - {"name"} - set(self._own()))
        if others:
            raise ValueError(f"`{others[0]}` does not belong to name: {self.name}; leave it out")
        fixed = ("bond", "angle", "fixed_torsion")
        unused = {"cartesian": (*fixed, "torsion"), "fractional": fixed}.get(self.noise, ())
        given = [key for key in unused if key in self.model_fields_set]
        if given:
            raise ValueError(f"`{given[0]}` does not belong to noise: {self.noise}; leave it out, or name another noise")
        return self

    def _own(self) -> dict[str, Any]:
        from mlff_calc.pretraining import OBJECTIVES

        return OBJECTIVES.options(self.name)

    def config(self) -> dict[str, Any]:
        """Return name and options of the objective."""
        return self.model_dump(include={"name", *(self._own().keys() & type(self).model_fields.keys())})


class PretrainingSection(Section):
    """Architecture and objective; reference energies and scale of `supervised` are measured on the training frames."""

    backbone: MeasuredBackbone
    """Backbone and its options; `cutoff` (auto is 5 Angstrom) and `avg_num_neighbors` may be auto."""
    objective: ObjectiveSection
    """What the backbone is trained for."""

    @model_validator(mode="after")
    def _can_be_built(self) -> PretrainingSection:
        """Check ranges, which only the parts know, by building the network once."""
        from mlff_calc.pretraining import build_pretraining

        build_pretraining(self.config() | {"backbone": self.backbone.measured(AUTO), "elements": [1]}, seed=0)
        return self

    def config(self) -> dict[str, Any]:
        """Return the configuration for `build_pretraining`, without values measured on the data."""
        return {"backbone": self.backbone.config(), "objective": self.objective.config()}


class PretrainingLoss(FrameLoss):
    """Weights of the terms of the loss: those of noise are mean squares of vectors, with noise of unit variance."""

    reconstruction: float = Field(1.0, ge=0.0)
    """Weight of the noise found by the decoder (georecon)."""
    denoising: float = Field(1.0, ge=0.0)
    """Weight of the noise found from atoms (georecon; the only term of denoising)."""
    clean: float = Field(0.0, ge=0.0)
    """Weight of the noise found in structures without noise, which should be 0 (georecon); 0.1 is a usual value."""
    energy: float = Field(0.0, ge=0.0)
    """Weight of energies, whose errors count per atom (supervised) [eV]."""
    forces: float = Field(0.0, ge=0.0)
    """Weight of forces (supervised) [eV/Angstrom]."""
    form: Literal["l2", "huber", "mse"] = "l2"
    """Form of the terms of energies and forces (supervised)."""
    huber_delta: float = Field(0.01, gt=0.0)
    """Error at which huber changes from square to linear (supervised)."""

    def weights(self) -> dict[str, float]:
        """Return the weights of labels that are above 0."""
        return {name: getattr(self, name) for name in ("energy", "forces") if getattr(self, name) > 0.0}

    def of_labels(self) -> LossSection:
        """Return the loss of a potential with these weights."""
        return LossSection(
            energy=self.energy, forces=self.forces, form=self.form, huber_delta=self.huber_delta,
            config_weights=self.config_weights, frame_weights=self.frame_weights,
        )  # fmt: skip


_TERMS = {
    "denoising": {"denoising"},
    "georecon": {"reconstruction", "denoising", "clean"},
    "supervised": {"energy", "forces", "form", "huber_delta", "config_weights", "frame_weights"},
}


class PretrainingRecipe(FramesRecipe):
    """Recipe of a pretraining. Create it with `load_recipe` or `parse_recipe`."""

    pretraining: PretrainingSection
    """Architecture and objective."""
    loss: PretrainingLoss = PretrainingLoss()
    """Weights of the terms of the loss."""

    @model_validator(mode="after")
    def _can_be_trained(self) -> PretrainingRecipe:
        refuse_mixed(self.trainer, "pretrainings")
        refuse_compile(self.trainer, "pretrainings")
        name = self.pretraining.objective.name
        wrong = sorted(self.loss.model_fields_set - _TERMS[name] - {"frame_weights"})
        if wrong:
            raise ValueError(f"loss.{wrong[0]} does not belong to pretraining.objective {name}; leave it out")
        if name == "supervised" and not self.loss.weights():
            raise ValueError("pretraining.objective supervised learns from labels; give loss.energy, loss.forces or both")
        if name == "denoising" and not self.loss.denoising > 0.0:
            raise ValueError("loss.denoising is 0, and the objective denoising has no other term; raise it")
        if name == "georecon" and not self.loss.reconstruction > 0.0:
            raise ValueError("loss.reconstruction is 0; raise it, or take the objective denoising")
        return self
