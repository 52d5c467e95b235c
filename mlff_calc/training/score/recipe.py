"""The recipe of a score model: frames with forces, their temperature, the network, the noise and the target."""

from __future__ import annotations

from typing import Any, Literal

from ase import units
from pydantic import Field, model_validator

from mlff_calc.training.frames.recipe import FrameLoss, FramesRecipe
from mlff_calc.training.recipe_backbone import MeasuredBackbone
from mlff_calc.training.recipe_limits import refuse_compiled_solves, refuse_mixed
from mlff_calc.training.recipe_section import Section


class ScoreSection(Section):
    """Architecture, noise and temperature; `auto` values are measured on the training frames."""

    backbone: MeasuredBackbone
    """Backbone and its options; `cutoff` and `avg_num_neighbors` may be auto."""
    temperature: float | None = Field(None, gt=0.0)
    """Temperature at which the frames were made [K]; give this or `kT`."""
    kT: float | None = Field(None, gt=0.0)
    """Thermal energy of the frames, in the unit in which their energies are read (eV, or reduced units)."""
    bonds: Literal["auto", "none"] = "auto"
    """Bonds that networks are told: auto for those by distance in the frames, none for clusters."""
    sigma_min: Literal["auto"] | float = "auto"
    """Smallest noise; auto for 0.15 over the root of the mean square of F/kT [Angstrom]."""
    sigma_max: Literal["auto"] | float = "auto"
    """Largest noise; auto for three times the spread of the positions [Angstrom]."""
    spacing: Literal["geometric", "karras"] = "geometric"
    """Spacing of noise levels over time."""

    @model_validator(mode="after")
    def _one_temperature(self) -> ScoreSection:
        if (self.temperature is None) == (self.kT is None):
            raise ValueError(
                "give exactly one of `temperature` (K, of the dynamics that made the frames) and `kT` (in the unit of "
                "their energies)"
            )
        return self

    @model_validator(mode="after")
    def _can_be_built(self) -> ScoreSection:
        """Check ranges, which only the parts know, by building the network once."""
        from mlff_calc.score import build_score_model

        sizes = {key: value for key, value in self.noise().items() if value is not None}
        build_score_model(self.config() | {"numbers": [1, 1]} | sizes, seed=0)
        return self

    @property
    def thermal_energy(self) -> float:
        """KT in the unit of the energies."""
        return units.kB * self.temperature if self.temperature is not None else float(self.kT or 0.0)

    def noise(self) -> dict[str, float | None]:
        """Return the noise levels that are given; None for auto."""
        given = {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max}
        return {key: None if isinstance(value, str) else float(value) for key, value in given.items()}

    def config(self) -> dict[str, Any]:
        """Return the configuration for `build_score_model`, without values measured on the data."""
        return {"backbone": self.backbone.config(), "kT": self.thermal_energy, "spacing": self.spacing}


class ScoreLossSection(FrameLoss):
    """Target of the loss; every noise level has the same weight, since targets have unit variance."""

    target: Literal["optimal", "directional", "piecewise", "dsm", "tsm"] = "optimal"
    """Target: mixture of forces and noise of least variance, the same by direction in molecules with bonds, forces below
    `window` and noise above it, noise alone, or forces alone."""
    window: float | None = Field(None, gt=0.0)
    """Noise below which `piecewise` takes forces; null for one over the root of the mean square of F/kT [Angstrom]."""
    anchor: float = Field(0.0, ge=0.0, le=0.9)
    """Share of frames that get no noise, whose target is F/kT."""
    clip: float | None = Field(None, gt=0.0)
    """Largest norm of F/kT of a frame; larger ones are scaled down [1/Angstrom]. null for none."""

    @model_validator(mode="after")
    def _fits_together(self) -> ScoreLossSection:
        if self.window is not None and self.target != "piecewise":
            raise ValueError(f"`window` belongs to target: piecewise, and the target is {self.target}; leave it out")
        if self.target == "dsm" and self.anchor > 0.0:
            raise ValueError("`anchor` learns from forces, and target: dsm does without them; leave `anchor` out")
        return self

    def weights(self) -> dict[str, float]:
        """Return 1 for forces where the target needs them."""
        return {} if self.target == "dsm" else {"forces": 1.0}


class ScoreRecipe(FramesRecipe):
    """Recipe of a score model. Create it with `load_recipe` or `parse_recipe`."""

    score: ScoreSection
    """Architecture, noise and temperature."""
    loss: ScoreLossSection = ScoreLossSection()
    """Target of the loss."""

    @model_validator(mode="after")
    def _can_be_trained(self) -> ScoreRecipe:
        refuse_mixed(self.trainer, "score models")
        refuse_compiled_solves(self.trainer, self.score.backbone.name, "score models")
        return self
