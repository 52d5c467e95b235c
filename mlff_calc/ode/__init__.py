"""Ordinary differential equations of many samples at once, y' = f(t, y). Nothing here knows what the states mean.

- `Dopri5` takes any f, in steps that each sample chooses by its own error.
- `RK4` takes any f in equal steps, at a fixed cost.
- `verlet` takes equal steps for x'' = a(x), which keep energies.
- `exact` solves y' = A y with constant A, without steps.

No solver shortens a step to end it at a requested time: values between the ends of steps are interpolated. What a
sample gets at a time therefore does not depend on other times that are asked for, nor on other samples of the batch.
"""

from mlff_calc.ode.adaptive import Dopri5
from mlff_calc.ode.fixed import RK4
from mlff_calc.ode.linear import exact
from mlff_calc.ode.pieces import Slope, Solution
from mlff_calc.ode.verlet import verlet

__all__ = ["RK4", "Dopri5", "Slope", "Solution", "exact", "verlet"]
