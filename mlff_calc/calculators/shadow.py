"""Shadow dynamics: fields of a potential move with the atoms, one product with their couplings a step.

A run begins with solved fields. Once enough steps are known, the fields n of the next step follow from earlier n and
responses y by a time-reversible rule with weak friction, and energy and forces are those of the shadow energy at n, which
together with the kinetic energy is conserved although nothing is solved to any tolerance. The distance of y and n (the
residual) tells how good the fields are; it grows with the time step.

Shadow dynamics suits trajectories. A structure that does not continue the motion of those before (the first of a run, a
jump, a step back, or one of another length, as in relaxations) is solved, and the history begins anew; so is one whose
residual is above a limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from mlff_calc.calculators.served import ServedModel, Step
from mlff_calc.calculators.stats import CalculatorStats
from mlff_calc.errors import ConvergenceError, OptionError
from mlff_calc.fixed_point.memory import REACH, Memory, RunCache
from mlff_calc.fixed_point.predictors import Past, TimeReversible
from mlff_calc.graph.frame import Frame
from mlff_calc.heads.fields import FIELDS, FIELDS_RESIDUAL, MOST_PRODUCTS, START_FIELDS
from mlff_calc.potential import Potential
from mlff_calc.potential.shadow import ShadowSizes, fields_of, solve_fields

SOLVED = {"float32": 1e-6, "mixed": 1e-6, "float64": 1e-12}
"""Relative change of the fields at which a solve ends, by precision."""
LOOSELY = 10.0
"""Multiple of `SOLVED` up to which a solve that ended for other reasons (rounding) is accepted."""
LONGEST_SOLVE = 1000
"""Number of products of a solve; couplings with a norm of 0.9 take about 130 in float32 and 260 in float64."""
FAILURES, WITHIN = 3, 100
"""Number of steps above `Shadow.limit`, within so many steps, at which a run stops."""
PACE = 2.0
"""Factor between the lengths of two successive steps above which the motion counts as interrupted."""


@dataclass(frozen=True)
class Shadow:
    """Options of shadow dynamics.

    Args:
        products: Number of products with the couplings in a step. With 2 the error of the fields is squared.
        dissipation: Number K of earlier steps in the friction that damps noise of the fields, 0 or 3 to 7; see
            `fixed_point.predictors.TimeReversible`.
        limit: Relative residual above which a step is not accepted, and solved.

    Raises:
        OptionError: An option is out of range.
    """

    products: int = 1
    dissipation: int = 5
    limit: float = 0.1

    def __post_init__(self) -> None:
        """Check the options."""
        if type(self.products) is not int or not 1 <= self.products <= MOST_PRODUCTS:
            raise OptionError(
                f"products = {self.products!r} of Shadow; it must be a whole number from 1 to {MOST_PRODUCTS}"
            )
        if type(self.limit) not in (int, float) or not 0.0 < self.limit <= 1.0:
            raise OptionError(f"limit = {self.limit!r} of Shadow; it must be above 0 and at most 1")
        TimeReversible(self.dissipation)

    @property
    def sizes(self) -> ShadowSizes:
        """Sizes for which the step is compiled."""
        return ShadowSizes(self.products)


class ShadowModel(ServedModel):
    """A potential with fields and a memory for each run that it serves; `serve` precedes every call.

    Args:
        potential: Potential on its device, in evaluation mode, for solves.
        mode: Options of shadow dynamics.
        step: Function for all other steps, compiled or not.
        cache: Memories of the runs.
        stats: Counts to which products and solves are added.
    """

    def __init__(
        self,
        potential: Potential,
        mode: Shadow,
        step: Step,
        cache: RunCache,
        stats: CalculatorStats,
    ) -> None:
        super().__init__(step, cache, stats)
        self.potential, self.mode, self.predictor = potential, mode, TimeReversible(mode.dissipation)
        fields_of(potential).following = mode.products

    def _outputs(self, graph: dict[str, Tensor], place: Frame) -> dict[str, Tensor]:
        """See `ServedModel`.

        Raises:
            ConvergenceError: A solve did not converge, or the fields do not follow the atoms.
        """
        memory = self.cache.find(self._owner, place, REACH)
        if memory is None or not _continues(memory, place):
            failures = [] if memory is None else memory.failures
            memory = Memory(place, failures=failures)
            self.cache.add(self._owner, memory)
        start = self.predictor.replaced(memory.past)
        memory.failures = [count + 1 for count in memory.failures if count + 1 < WITHIN]
        outputs = None if start is None else self._followed(graph, start, memory)
        if outputs is None:
            if start is not None:
                memory.past = Past()
            start, outputs = None, self._solved(graph)
        memory.go_to(place)
        self.predictor.remember(memory.past, outputs[FIELDS].unsqueeze(0), None, start)
        return outputs

    def solved_energy(self, graph: dict[str, Tensor]) -> float:
        """Energy of a structure at solved fields, eV; the history of the run is left as it is.

        Raises:
            ConvergenceError: The solve did not converge.
        """
        kept = replace(self.stats)
        try:
            return float(self._solved(graph)["energy"])
        finally:
            vars(self.stats).update(vars(kept))

    def _followed(self, graph: dict[str, Tensor], start: Tensor, memory: Memory) -> dict[str, Tensor] | None:
        """Make a step at fields `start` [1, n_atoms, ...]; None if its residual is above the limit.

        Raises:
            ConvergenceError: That was so too often.
        """
        outputs = {name: tensor.detach() for name, tensor in self.step({**graph, START_FIELDS: start[0]}).items()}
        self.stats.n_forward += self.mode.products
        self.stats.residual = float(outputs[FIELDS_RESIDUAL])
        if self.stats.residual <= self.mode.limit:
            return outputs
        self.stats.n_retries += 1
        memory.failures.append(0)
        if len(memory.failures) >= FAILURES:
            memory.failures = []
            raise ConvergenceError(
                f"shadow dynamics: the fields are {self.stats.residual:.2g} of their length away from those that belong to "
                f"the atoms, above the limit of {self.mode.limit:g}, for the {FAILURES}rd time within {WITHIN} steps. The "
                "atoms move too far in one step: shorten the time step, take Shadow(products=2), or leave reuse out",
                [self.stats.residual],
            )
        return None

    def _solved(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs at solved fields.

        Raises:
            ConvergenceError: The solve did not converge.
        """
        tolerance = SOLVED[self.potential.precision]
        fields, change, products = solve_fields(self.potential, graph, tolerance, LONGEST_SOLVE)
        products += self.mode.products
        self.stats.n_forward += products
        self.stats.n_cold += 1
        self.stats.cold_forward += products
        if not change <= LOOSELY * tolerance:
            raise ConvergenceError(
                f"the fields of this structure were not found: after {products} products with their couplings they still "
                f"change by {change:.2g} of their length. Couplings with bound {self.potential.fields.bound:g} need not "  # type: ignore[union-attr]
                "converge; train with a smaller `fields.bound`, or leave reuse out",
                [change],
            )
        outputs = {name: tensor.detach() for name, tensor in self.potential({**graph, START_FIELDS: fields}).items()}
        self.stats.residual = float(outputs[FIELDS_RESIDUAL])
        return outputs


def _continues(memory: Memory, place: Frame) -> bool:
    """Whether a structure continues the motion of a run, in direction and pace, as steps of equal time do."""
    return memory.move is None or (memory.goes_on(place) and memory.keeps_pace(place, PACE))
