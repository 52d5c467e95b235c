"""The recipe of a rollout: trajectory, horizon, times, network and loss."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlff_calc.training.recipe_backbone import MeasuredBackbone
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.recipe_limits import refuse_compile, refuse_mixed
from mlff_calc.training.recipe_section import Section
from mlff_calc.training.recipe_times import Times


class SolverSection(Section):
    """Solver of the equation of the modes, in units of the fastest motion of the molecule."""

    name: Literal["dopri5", "rk4", "exact"] = "dopri5"
    """Solver: steps by error, equal steps, or none; then weights depend on neither state nor time, and nothing is damped."""
    rtol: float | None = Field(None, gt=0.0)
    """Relative tolerance of dopri5; null for 0.001."""
    atol: float | None = Field(None, gt=0.0)
    """Absolute tolerance of dopri5; null for 0.001."""
    step: float | None = Field(None, gt=0.0)
    """Largest step of dopri5, or the step of rk4; null for 1 and 0.25."""
    max_steps: int | None = Field(None, ge=1)
    """Largest number of steps of dopri5 and rk4; null for 500."""


class RolloutSection(Section):
    """Architecture; scales and the constants of the base are measured on the training frames."""

    backbone: MeasuredBackbone
    """Backbone of the encoder and its options; `cutoff` and `avg_num_neighbors` may be auto."""
    base: Literal["valence", "harmonic", "rotor", "start", "none"] | None = None
    """Motion that the network adds to: by a fitted valence force field, turning mean structure with vibrations, without
    them, first positions, or none. null for valence, or harmonic where hydrogens are left out or frames are more than 1 fs
    apart."""
    basis: Literal["graph", "atoms"] = "graph"
    """Modes: of the bond graph, or the atoms themselves."""
    hops: int = Field(2, ge=1, le=2)
    """Largest number of bonds that joins two atoms of the graph."""
    modes: int | None = Field(None, ge=1)
    """Number of lowest modes that evolve; null for all. A cut through an eigenspace is refused."""
    eigenspaces: int | None = Field(None, ge=1)
    """Number of lowest eigenspaces that evolve, in place of `modes`."""
    ode: bool = True
    """Switch for the equation of the modes; without it, only the decoder knows the time."""
    order: Literal[1, 2] = 2
    """Order of the equation: 2 for positions driven by forces, or 1."""
    vectors: int = Field(4, ge=2)
    """Number of vectors of a mode; displacement and velocity are the first two."""
    scalars: int = Field(24, ge=1)
    """Number of scalars of a mode."""
    width: int = Field(32, ge=1)
    """Width of the networks of equation and decoder."""
    layers: int = Field(1, ge=0)
    """Number of layers of the decoder."""
    solver: SolverSection = SolverSection()
    """Solver of the equation."""

    @model_validator(mode="after")
    def _can_be_built(self) -> RolloutSection:
        """Check ranges, which only the parts know, by building the network once for a molecule of three atoms."""
        from mlff_calc.rollout import build_rollout

        small = {"numbers": [8, 1, 1], "bonds": [[0, 1], [0, 2]], "masses": [16.0, 1.0, 1.0], "horizon": 1.0}
        build_rollout(self.config(self.base or "valence") | {"modes": None, "eigenspaces": None} | small, seed=0)
        if self.modes is not None and self.eigenspaces is not None:
            raise ValueError("`modes` and `eigenspaces` are both given; give one of them")
        return self

    def config(self, base: str) -> dict[str, Any]:
        """Return the configuration for `build_rollout` with a base, without values measured on the data."""
        plain = self.model_dump(exclude={"backbone", "solver"})
        solver = {key: value for key, value in self.solver.model_dump().items() if value is not None}
        return plain | {"base": base, "backbone": self.backbone.config(), "solver": solver}


class Shares(Section):
    """Shares of the frames, in order of time; a gap of one horizon is left between them."""

    train: float = Field(0.6, gt=0.0, lt=1.0)
    """Share of the training."""
    valid: float = Field(0.15, gt=0.0, lt=1.0)
    """Share of the validation."""
    test: float = Field(0.25, ge=0.0, lt=1.0)
    """Share of the test; 0 for none."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Shares:
        if self.train + self.valid + self.test > 1.0 + 1e-9:
            raise ValueError(f"the shares add up to {self.train + self.valid + self.test:g}; give at most 1")
        return self


class Starts(Section):
    """Numbers of first frames of each part, evenly spaced."""

    train: int | None = Field(1000, ge=1)
    """Number of first frames of the training, moved at random in every epoch; null for all."""
    valid: int | None = Field(200, ge=1)
    """Number of first frames of the validation; null for all."""
    test: int | None = Field(400, ge=1)
    """Number of first frames of the test; null for all."""


class RolloutData(Section):
    """A trajectory of one molecule, in the layout of MD17."""

    file: str
    """Path of the trajectory, relative to the recipe."""
    horizon: float = Field(100.0, gt=0.0)
    """Longest time that is learnt [fs]."""
    times: Times = Times(irregular=8)
    """Later times of each first frame."""
    timestep: float | None = Field(None, gt=0.0)
    """Time between frames [fs]; null for that of the file, or 0.5."""
    heavy_atoms: bool = False
    """Switch for leaving hydrogens out."""
    split: Shares = Shares()
    """Parts of the trajectory."""
    limit: Starts = Starts()
    """Numbers of first frames."""

    @field_validator("file")
    @classmethod
    def _is_an_archive(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("give the path of a trajectory (`mlff data trajectory` makes one)")
        return value


class RolloutLoss(Section):
    """Weights of the terms; positions and velocities are mean squares in units of the errors of the base."""

    positions: float = Field(1.0, gt=0.0)
    """Weight of positions."""
    velocities: float = Field(0.1, ge=0.0)
    """Weight of velocities."""
    sigma: float = Field(0.1, gt=0.0)
    """Weight of the likelihood that trains standard deviations, for which positions count as constants."""
    beta: float = Field(0.5, ge=0.0, le=1.0)
    """Exponent of the variance that multiplies the likelihood; 0 is the plain likelihood."""


class RolloutRecipe(TrainingRecipe):
    """Recipe of a rollout. Create it with `load_recipe` or `parse_recipe`."""

    rollout: RolloutSection
    """Architecture of the rollout."""
    data: RolloutData
    """Trajectory, horizon and times."""
    loss: RolloutLoss = RolloutLoss()
    """Weights of the loss."""

    @model_validator(mode="after")
    def _can_be_trained(self) -> RolloutRecipe:
        refuse_mixed(self.trainer, "rollouts")
        refuse_compile(self.trainer, "rollouts")
        return self
