"""Fixed-point solves that start from an extrapolation of the last steps of a trajectory.

| mode | evaluations per step | for |
|---|---|---|
| conservative | enough to conserve the energy of NVE runs | any dynamics, bands, relaxations |
| fast | fewer | thermostatted dynamics, where the thermostat absorbs the work of the error |
| none | those of a cold solve to the tolerance of the potential | results that depend on the structure alone |

A step makes a fixed number of evaluations. If a residual then exceeds the mode's tolerance, the step is repeated from
its end point. If that does not help, the equation is solved from the embedding, and then once more with damping. If that
fails too, an error with the history of residuals is raised.

A mode's tolerance suits trajectories, whose errors are small because their motion is smooth. A step that does not
continue the direction of the step before (displacements back and forth as in phonon calculations, an unchanged
structure, the first step after a cold start) is solved to the tolerance of a cold solve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mlff_calc.calculators.served import ServedModel, Step
from mlff_calc.calculators.shadow import Shadow
from mlff_calc.calculators.stats import CalculatorStats
from mlff_calc.errors import ConvergenceError, OptionError
from mlff_calc.fixed_point import Solver, build_solver
from mlff_calc.fixed_point.memory import Memory, RunCache
from mlff_calc.fixed_point.predictors import build_predictor
from mlff_calc.fixed_point.warm_start import WarmStart
from mlff_calc.graph.frame import Frame
from mlff_calc.potential.fixed_point import DOUBLE_TOLERANCE, FixedPointPotential
from mlff_calc.potential.fixed_point_step import StepSizes

REPEATS = 8
"""Largest number of calls of a step before a cold solve; more of them would cost more evaluations than that solve."""


@dataclass(frozen=True)
class Reuse:
    """Options for the use of solutions of earlier steps.

    Args:
        predictor: Name of a predictor in `fixed_point.predictors.PREDICTORS`.
        n_forward, n_adjoint: Numbers of evaluations of f and of products with its transposed Jacobian per step; direct
            forces have no products.
        kept: Number of secants of earlier solves that accelerate the next one.
        window: Number of earlier steps that the compiled step takes as input; 0 for that of the predictor. A larger
            window lets one compiled file serve several predictors.
        tolerance: Relative residual above which a step is repeated.
        fit_ridge: Relative regularization of the least-squares fit; a larger value filters more noise out of the start.
        ridge: Regularization of the acceleration, relative to secants of length one.
        warm: Limits for repeated steps and for the distance to the earlier structure; see `WarmStart`.

    Raises:
        OptionError: An option is out of range.
    """

    predictor: str = "least_squares4"
    n_forward: int = 4
    n_adjoint: int = 4
    kept: int = 4
    window: int = 0
    tolerance: float = 1e-3
    fit_ridge: float = 1e-7
    ridge: float = 1e-6
    warm: WarmStart = field(default_factory=WarmStart)

    def __post_init__(self) -> None:
        """Check the options."""
        build_predictor(self.predictor)
        for name, least in (("n_forward", 1), ("n_adjoint", 1), ("kept", 0)):
            value = getattr(self, name)
            if value < least:
                raise OptionError(f"{name} = {value} of reuse; it must be at least {least}")
        if self.window > 0 and build_predictor(self.predictor).window == 0:
            raise OptionError(
                f"window = {self.window} of reuse: predictor {self.predictor!r} uses no earlier steps; leave window out"
            )
        for name in ("tolerance", "fit_ridge", "ridge"):
            if not getattr(self, name) > 0.0:
                raise OptionError(f"{name} = {getattr(self, name)} of reuse; it must be positive")

    @property
    def sizes(self) -> StepSizes:
        """Sizes for which the step is compiled."""
        window = max(self.window, build_predictor(self.predictor).window)
        return StepSizes(self.n_forward, self.n_adjoint, window, self.kept)


MODES: dict[str, Reuse] = {
    "conservative": Reuse(),
    "fast": Reuse(n_forward=2, n_adjoint=2, kept=12, tolerance=2e-2, fit_ridge=1e-3),
}
"""Predefined modes by name."""


def wants_shadow(option: object) -> bool:
    """Whether an option asks for shadow dynamics."""
    return option == "shadow" or isinstance(option, Shadow)


def reuse_of(
    option: str | Reuse | Shadow, *, fixed_point: bool, fields: bool = False, precision: str = "float32"
) -> Reuse | Shadow | None:
    """Return the mode for an option; None for no reuse.

    In float64 the mode `conservative` (also through `auto`) solves every step to `DOUBLE_TOLERANCE`; `fast` and a `Reuse`
    keep their own tolerance.

    Args:
        option: Name of a mode, ``auto``, ``none``, ``shadow``, a `Reuse`, or a `Shadow`.
        fixed_point: Whether the potential has a fixed point.
        fields: Whether the potential has fields.
        precision: Floating-point precision of the model.

    Raises:
        OptionError: The name is unknown, or a mode was chosen for a potential without a fixed point or fields.
    """
    if wants_shadow(option):
        if not fields:
            raise OptionError(
                f"reuse={option!r} needs a potential with fields (`potential.fields` in its recipe); leave it out for "
                "this one"
            )
        return option if isinstance(option, Shadow) else Shadow()
    if isinstance(option, Reuse):
        mode: Reuse | None = option
    elif option == "auto":
        mode = MODES["conservative"] if fixed_point else None
    elif option == "none":
        return None
    elif option in MODES:
        mode = MODES[option]
    else:
        known = ", ".join(["auto", *MODES, "shadow", "none"])
        raise OptionError(f"unknown reuse {option!r}; choose one of {known}, or give a Reuse(...) or Shadow(...)")
    if option in ("auto", "conservative") and mode is not None and precision == "float64":
        mode = replace(mode, tolerance=DOUBLE_TOLERANCE)
    if not fixed_point and option != "auto":
        cure = "take 'shadow' for its fields, or leave it out" if fields else "leave it out for this one"
        raise OptionError(
            f"reuse={option!r} needs a potential with a fixed point (backbone deq); {cure}"
        )
    return mode


class ColdModel:
    """A fixed-point potential that is solved from scratch every time, so that results depend on the structure alone.

    Args:
        potential: Potential on its device, in evaluation mode.
        stats: Counters of evaluations.
    """

    def __init__(self, potential: FixedPointPotential, stats: CalculatorStats) -> None:
        self.potential, self.stats = potential, stats

    def __call__(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of the potential.

        Raises:
            ConvergenceError: The solve did not converge.
        """
        return cold_solve(self.potential, graph, self.stats)


class ReusingModel(ServedModel):
    """A fixed-point potential with a memory for each run that it serves; `serve` precedes every call.

    Args:
        potential: Potential on its device, in evaluation mode, for cold solves.
        mode: Options of reuse.
        step: Function for all other steps, compiled or not.
        cache: Memories of the runs.
        stats: Counters of evaluations.
    """

    def __init__(
        self,
        potential: FixedPointPotential,
        mode: Reuse,
        step: Step,
        cache: RunCache,
        stats: CalculatorStats,
    ) -> None:
        super().__init__(step, cache, stats)
        self.potential, self.mode, self.predictor = potential, mode, build_predictor(mode.predictor)
        self._sizes, self._ridges = mode.sizes, (mode.fit_ridge, mode.ridge)

    def _outputs(self, graph: dict[str, Tensor], place: Frame) -> dict[str, Tensor]:
        """See `ServedModel`.

        Raises:
            ConvergenceError: No solve converged.
        """
        memory = self.cache.find(self._owner, place, self.mode.warm.reach)
        if memory is not None:
            smooth = memory.goes_on(place)
            tolerance = self.mode.tolerance if smooth else min(self.mode.tolerance, self.potential.backbone.tolerance)
            outputs, start = self._warm(graph, memory, tolerance)
            if outputs is not None:
                memory.remember(self.predictor, self.mode.kept, outputs, place, start)
                return outputs
            self.stats.n_retries += 1
        outputs = cold_solve(self.potential, graph, self.stats)
        memory = Memory(place)
        memory.remember(self.predictor, self.mode.kept, outputs, place, None)
        self.cache.add(self._owner, memory)
        return outputs

    def _warm(
        self, graph: dict[str, Tensor], memory: Memory, tolerance: float
    ) -> tuple[dict[str, Tensor] | None, Tensor | None]:
        """Make a step from the memory of a run, and repeat it until its residuals are within `tolerance`.

        Args:
            graph: Graph of the structure.
            memory: Earlier solutions of the run.
            tolerance: Largest accepted relative residual.

        Returns:
            Outputs and the starting point of the solve; both None if repeating does not help.
        """
        inputs, start = memory.inputs(self.predictor, self._sizes.kept, self._sizes.window, self._ridges)
        stats, residuals = self.stats, []
        for _ in range(REPEATS):
            outputs = self.step({**graph, **inputs})
            stats.n_forward += self.mode.n_forward
            stats.n_adjoint += 0 if self.potential.direct_forces else self.mode.n_adjoint
            stats.residual, stats.adjoint_residual = float(outputs["residual"]), float(outputs["adjoint_residual"])
            worst = max(stats.residual, stats.adjoint_residual)
            if not (math.isfinite(stats.residual) and math.isfinite(stats.adjoint_residual)):
                return None, None
            if worst <= tolerance:
                return {name: tensor.detach() for name, tensor in outputs.items()}, start
            residuals.append(worst)
            if self._sizes.window == 0:  # a step without a window cannot continue from its end point
                return None, None
            if not self.mode.warm.goes_on(residuals, cold=False):
                return None, None
            stats.n_repeats += 1
            again = Memory(memory.place, secants=(list(memory.secants[0]), list(memory.secants[1])))
            again.remember(self.predictor, self.mode.kept, outputs, memory.place, None)
            inputs = again.inputs(self.predictor, self._sizes.kept, self._sizes.window, self._ridges)[0]
            inputs["mix"] = torch.zeros_like(inputs["mix"])
            inputs["mix"][0] = 1.0
        return None, None


def cold_solve(potential: FixedPointPotential, graph: dict[str, Tensor], stats: CalculatorStats) -> dict[str, Tensor]:
    """Compute outputs by a solve from the embedding, repeated with damping if it fails.

    Raises:
        ConvergenceError: Neither solve converged.
    """
    outputs = _solved(potential, graph, stats)
    if not _converged(potential, outputs):
        stats.n_retries += 1
        kept, potential.backbone.solver = potential.backbone.solver, _damped(potential)
        try:
            outputs = _solved(potential, graph, stats)
        finally:
            potential.backbone.solver = kept
        if not _converged(potential, outputs):
            raise _failure(potential, graph, outputs)
    stats.n_cold += 1
    stats.cold_forward += int(outputs["evaluations"])
    stats.cold_adjoint += int(outputs["adjoint_evaluations"])
    stats.residual, stats.adjoint_residual = float(outputs["residual"]), float(outputs["adjoint_residual"])
    with torch.no_grad():
        inputs = potential.inputs(graph, graph["edge_vec"])
        outputs["embedding"] = potential.backbone.prepare(inputs)[0].detach()
    return outputs


def _solved(potential: FixedPointPotential, graph: dict[str, Tensor], stats: CalculatorStats) -> dict[str, Tensor]:
    outputs = {name: tensor.detach() for name, tensor in potential(graph).items()}
    stats.n_forward += int(outputs["evaluations"])
    stats.n_adjoint += int(outputs["adjoint_evaluations"])
    return outputs


def _converged(potential: FixedPointPotential, outputs: dict[str, Tensor]) -> bool:
    tolerance = potential.backbone.tolerance
    return float(outputs["residual"].max()) < tolerance and float(outputs["adjoint_residual"].max()) < tolerance


def _damped(potential: FixedPointPotential) -> Solver:
    """Build a slower and more robust solver."""
    backbone = potential.backbone
    return build_solver(
        "anderson",
        tolerance=backbone.tolerance,
        max_evaluations=4 * backbone.solver.max_evaluations,
        damping=0.4,
        history=8,
    )


def _failure(potential: FixedPointPotential, graph: dict[str, Tensor], outputs: dict[str, Tensor]) -> ConvergenceError:
    """Make the error: the solve that failed, its last residual, and all residuals of the first attempt at z."""
    backbone, inputs = potential.backbone, potential.inputs(graph, graph["edge_vec"])
    with torch.no_grad():
        prepared = backbone.prepare(inputs)
        found = backbone.solve(lambda z: backbone.evaluate(z, graph["edge_index"], prepared), prepared[0], graph)
    residuals = [float(residual.max()) for residual in found.residual_history]
    adjoint = float(outputs["residual"].max()) < backbone.tolerance
    name = "adjoint_residual" if adjoint else "residual"
    what = "adjoint of the fixed point" if adjoint else "fixed point"
    return ConvergenceError(
        f"the {what} of this structure was not found to a relative residual of {backbone.tolerance:g}: a cold solve and a "
        f"damped one end at {float(outputs[name].max()):.2g}. The structure is probably far from what the potential was "
        "trained on; look at this frame, or loosen `tolerance` of the potential's backbone",
        residuals,
    )
