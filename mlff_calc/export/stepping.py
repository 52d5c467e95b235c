"""Use of an exported step, whose memory is kept in rows: the module that a file holds, and what its record says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mlff_calc.fixed_point.predictors import TimeReversible
from mlff_calc.fixed_point.warm_start import WarmStart
from mlff_calc.potential import Potential
from mlff_calc.potential.engine import EngineStep
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.fixed_point_step import FixedPointStep, StepSizes
from mlff_calc.potential.shadow import ShadowSizes, ShadowStep
from mlff_calc.potential.shadow_engine import ShadowEngineStep

MOST_REPEATS = 60
"""Largest number of repeated steps of a fixed point before a solve fails. Raising it allows slower convergence."""


@dataclass(frozen=True)
class Stepping:
    """Use of the exported step of a fixed point.

    Attributes:
        sizes: sizes of the step; its window is at least one.
        tolerance: relative residual at which a warm-started step ends.
        fit_ridge, ridge: ridge of the least-squares start, and of the acceleration.
        double_tolerance: value of `tolerance` in a float64 file; None for the same.
        warm: policy of repeated calls and cold starts.
    """

    sizes: StepSizes
    tolerance: float
    fit_ridge: float
    ridge: float
    double_tolerance: float | None = None
    warm: WarmStart = field(default_factory=WarmStart)

    def engine(self, potential: FixedPointPotential) -> EngineStep:
        """Build the module that a file holds, of a potential in evaluation mode."""
        return EngineStep(FixedPointStep(potential, self.sizes)).eval()

    def record(self, module: EngineStep) -> dict[str, Any]:
        """Describe the step for the record of a file."""
        potential = module.step.potential
        return {
            "n_forward": self.sizes.n_forward,
            "n_adjoint": self.sizes.n_adjoint,
            "slots": module.slots,
            "width": module.width,
            "tolerance": self.tolerance_in(potential.precision),
            "cold_tolerance": potential.backbone.tolerance,
            "fit_ridge": self.fit_ridge,
            "ridge": self.ridge,
            "max_repeats": MOST_REPEATS,
            **asdict(self.warm),
        }

    def tolerance_in(self, precision: str) -> float:
        """Return the relative residual at which a warm-started step ends, in a file of this precision."""
        return self.double_tolerance if precision == "float64" and self.double_tolerance else self.tolerance


@dataclass(frozen=True)
class ShadowStepping:
    """Use of the exported step of shadow dynamics.

    Attributes:
        sizes: sizes of the step.
        dissipation: number of earlier steps in the friction of the fields.
        limit: relative residual above which a step is repeated.
        solved: relative residual of solved fields, by precision.
        max_repeats: largest number of repeated steps before a solve fails.
        warm: policy of repeated calls and cold starts; plain iteration needs more patience than accelerated solves.
    """

    sizes: ShadowSizes
    dissipation: int
    limit: float
    solved: Mapping[str, float]
    max_repeats: int
    warm: WarmStart = field(default_factory=lambda: WarmStart(warm_patience=40, cold_patience=40))

    def engine(self, potential: Potential) -> ShadowEngineStep:
        """Build the module that a file holds, of a potential in evaluation mode."""
        solved = self.solved[potential.precision]
        return ShadowEngineStep(ShadowStep(potential, self.sizes), TimeReversible(self.dissipation), solved).eval()

    def record(self, module: ShadowEngineStep) -> dict[str, Any]:
        """Describe the step for the record of a file."""
        return {
            "n_forward": self.sizes.products,
            "n_adjoint": 0,
            "slots": module.slots,
            "width": module.width,
            "shadow": True,
            "tolerance": self.limit,
            "cold_tolerance": module.solved,
            "fit_ridge": 0.0,
            "ridge": 0.0,
            "max_repeats": self.max_repeats,
            **asdict(self.warm),
        }
