"""Fixed points z = f(z): solvers, derivatives, and starts predicted from earlier solutions."""

from mlff_calc.fixed_point.implicit import attach, unroll
from mlff_calc.fixed_point.preconditioner import LowRankInverse, apply_inverse, transposed
from mlff_calc.fixed_point.solve import Solution, solve
from mlff_calc.fixed_point.solvers import Anderson, Broyden, Picard, Solver, build_solver
from mlff_calc.fixed_point.spectrum import spectral_radius
from mlff_calc.fixed_point.state import Secants, SolveState, inverse_of

__all__ = [
    "Anderson",
    "Broyden",
    "LowRankInverse",
    "Picard",
    "Secants",
    "Solution",
    "SolveState",
    "Solver",
    "apply_inverse",
    "attach",
    "build_solver",
    "inverse_of",
    "solve",
    "spectral_radius",
    "transposed",
    "unroll",
]
