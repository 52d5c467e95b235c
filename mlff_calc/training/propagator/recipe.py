"""The recipe of a propagator: data, network and loss; optimizer and trainer are those of every recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlff_calc.datasets.motion import MOTION_FORMATS
from mlff_calc.training.recipe_backbone import MeasuredBackbone
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.recipe_limits import refuse_compiled_solves, refuse_mixed
from mlff_calc.training.recipe_section import Section
from mlff_calc.training.recipe_times import Times


class PropagatorSection(Section):
    """Architecture; scales are measured on the training samples."""

    backbone: MeasuredBackbone
    """Backbone and its options; `cutoff` and `avg_num_neighbors` may be auto."""
    predict_velocities: bool = False
    """Switch for predicting velocities as well, which need a weight in `loss`."""
    centre: bool = False
    """Switch for giving positions relative to the centre of each system as inputs."""

    @model_validator(mode="after")
    def _can_be_built(self) -> PropagatorSection:
        """Check ranges, which only the parts know, by building the propagator once."""
        from mlff_calc.propagator import build_propagator

        build_propagator(self.config() | {"kinds": [1]}, seed=0)
        return self

    def config(self) -> dict[str, Any]:
        """Return the configuration for `build_propagator`, without values measured on the data."""
        return {
            "backbone": self.backbone.config(),
            "predict_velocities": self.predict_velocities,
            "centre": self.centre,
        }


class Limits(Section):
    """Numbers of samples taken from the beginning of each part."""

    train: int | None = Field(None, ge=1)
    """Number of training samples; null for all."""
    valid: int | None = Field(None, ge=1)
    """Number of validation samples; null for all."""
    test: int | None = Field(None, ge=0)
    """Number of test samples; 0 for a file without any, null for all."""


class MotionData(Section):
    """One file that holds all parts, and how to read it; the options of `read_motion`."""

    file: str
    """Path of the file, which holds train, valid and test; relative to the recipe."""
    format: str | None = None
    """Format: nbody, md17, mocap or asf_amc; null to tell by content."""
    horizon: int | None = Field(None, ge=1)
    """Number of frames to predict ahead; null for that of the format's protocol."""
    start: int | None = Field(None, ge=0)
    """Number of the first frame (N-body); null for that of the protocol."""
    hops: int = Field(2, ge=1)
    """Largest number of bonds or bones that an edge spans (molecules, skeletons)."""
    heavy_atoms: bool = True
    """Switch for leaving hydrogens out (molecules)."""
    neighbors: int | None = Field(None, ge=1)
    """Number of nearest neighbours as edges, instead of the edges of the format."""
    times: Times | None = None
    """Several later times up to the horizon for each first frame (molecules), in place of one. Parts then follow each other
    in time, with a gap of one horizon, as for rollouts; `limit` counts first frames, and times are in fs."""
    limit: Limits = Limits()
    """Largest numbers of samples, or of first frames."""

    @field_validator("format")
    @classmethod
    def _format_is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in MOTION_FORMATS:
            raise ValueError(f"give one of {', '.join(MOTION_FORMATS)}, or leave it out to tell by content")
        return value

    @model_validator(mode="after")
    def _times_are_of_molecules(self) -> MotionData:
        if self.times is not None and self.format not in (None, "md17"):
            raise ValueError(f"`times` are for trajectories of molecules, and format is {self.format}; leave them out")
        if self.times is not None and self.horizon is None:
            raise ValueError("`times` need a `horizon`, the number of frames to the longest time; give it")
        return self

    def reading(self, seed: int = 0) -> dict[str, Any]:
        """Return the options that decide which samples and edges a file gives, besides part and format.

        Args:
            seed: Seed of later times that are drawn.
        """
        found = self.model_dump(include={"horizon", "start", "hops", "heavy_atoms", "neighbors"})
        if self.times is None:
            return found
        return found | {"n_times": self.times.count, "irregular": self.times.irregular is not None, "seed": seed}


class MotionLossSection(Section):
    """Weights and form of the loss, in the units of the data."""

    positions: float = Field(1.0, ge=0.0)
    """Weight of positions, in the units of the data."""
    velocities: float = Field(0.0, ge=0.0)
    """Weight of velocities, in the units of the data."""
    form: Literal["mse", "l2"] = "mse"
    """Form: mean square, or norm per particle (l2)."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> MotionLossSection:
        if not self.weights():
            raise ValueError("all weights are 0; give positions or velocities a weight greater than 0")
        return self

    def weights(self) -> dict[str, float]:
        """Return the weights that are above 0."""
        return {name: getattr(self, name) for name in ("positions", "velocities") if getattr(self, name) > 0.0}


class MotionRecipe(TrainingRecipe):
    """Recipe of a propagator. Create it with `load_recipe` or `parse_recipe`."""

    propagator: PropagatorSection
    """Architecture of the propagator."""
    data: MotionData
    """Trajectories."""
    loss: MotionLossSection = MotionLossSection()
    """Weights and form of the loss."""

    @model_validator(mode="after")
    def _velocities_are_predicted_and_learnt(self) -> MotionRecipe:
        predicted, weight = self.propagator.predict_velocities, self.loss.velocities
        if weight > 0.0 and not predicted:
            raise ValueError(
                f"loss.velocities is {weight:g}, but propagator.predict_velocities is false; "
                "set predict_velocities: true, or loss.velocities: 0"
            )
        if predicted and weight == 0.0:
            raise ValueError(
                "propagator.predict_velocities is true, but loss.velocities is 0, so nothing would train them; "
                "give loss.velocities a weight, or set predict_velocities: false"
            )
        return self

    @model_validator(mode="after")
    def _can_be_compiled(self) -> MotionRecipe:
        refuse_compiled_solves(self.trainer, self.propagator.backbone.name, "propagators")
        if self.trainer.compile and self.propagator.backbone.config().get("centre"):
            raise ValueError(
                "trainer.compile is true, and propagator.backbone.centre looks at systems in a way that is not compiled; "
                "set trainer.compile: false, or backbone.centre: false (propagator.centre does compile)"
            )
        return self

    @model_validator(mode="after")
    def _precision_is_there(self) -> MotionRecipe:
        refuse_mixed(self.trainer, "propagators")
        return self
