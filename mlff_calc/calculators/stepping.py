"""Settings of exported steps that belong to an option of reuse."""

from __future__ import annotations

from mlff_calc.calculators.reuse import Reuse, reuse_of
from mlff_calc.calculators.shadow import LONGEST_SOLVE, SOLVED, Shadow
from mlff_calc.errors import OptionError
from mlff_calc.export.stepping import ShadowStepping, Stepping
from mlff_calc.fixed_point.predictors import LeastSquares, build_predictor
from mlff_calc.potential import Potential
from mlff_calc.potential.fixed_point import FixedPointPotential


def stepping_of(option: str | Reuse | Shadow, potential: Potential) -> Stepping | ShadowStepping | None:
    """Return the settings of reuse for `export_potential`; None for potentials without a fixed point, or without reuse.

    They include the tolerance for float64, since the exported file may differ in precision from the potential.

    Raises:
        OptionError: The option uses no earlier steps, has a predictor or window that exported steps lack, or was given
            for a potential without a fixed point.
    """
    fixed_point = isinstance(potential, FixedPointPotential)
    mode = reuse_of(option, fixed_point=fixed_point, fields=potential.fields is not None)
    if isinstance(mode, Shadow):
        return ShadowStepping(mode.sizes, mode.dissipation, mode.limit, SOLVED, LONGEST_SOLVE)
    if not fixed_point:
        return None
    if mode is None or mode.sizes.window < 1:
        raise OptionError(f"reuse={option!r} looks back no step; export with reuse='conservative' or 'fast'")
    if mode.predictor != "previous" and not isinstance(build_predictor(mode.predictor), LeastSquares):
        raise OptionError(
            f"predictor {mode.predictor!r} of reuse is not part of exported steps, which start from the previous step or by "
            "least squares; export with predictor='previous', 'least_squares4', 'least_squares6' or 'least_squares8'"
        )
    looks_back = build_predictor(mode.predictor).window
    if mode.sizes.window != looks_back:
        raise OptionError(
            f"window = {mode.window} of reuse: an exported step with the predictor {mode.predictor!r} looks back "
            f"{looks_back} steps and no more; leave window out"
        )
    double = reuse_of(option, fixed_point=True, precision="float64")
    double_tolerance = double.tolerance if isinstance(double, Reuse) else None
    return Stepping(mode.sizes, mode.tolerance, mode.fit_ridge, mode.ridge, double_tolerance, mode.warm)
