"""A step of shadow dynamics for engines that keep one array per atom: the fields of earlier steps travel with atoms.

`memory` [n_atoms, slots, width] holds the last response y, the fields n of the last steps, newest first, and in the last
row the number of steps since they were solved. `control` [4] is that of potential/engine.py, of which the mode is read.
Mode 0 begins at phi(u); mode 1 moves the fields by the time-reversible rule; mode 2 takes the last response for the fields
of this step.

Fields of the first steps are not followed but solved: until as many steps are known as the rule needs, n is the last
response, and residuals are multiplied by `strictness`, so that an engine repeats the step (mode 2) until the fields are
solved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.fixed_point.predictors import TimeReversible
from mlff_calc.heads.fields import FIELDS, FIELDS_RESIDUAL, START_FIELDS
from mlff_calc.potential.engine import COLD, CONTINUE
from mlff_calc.potential.shadow import ShadowStep, fields_of


class ShadowEngineStep(nn.Module):
    """A `ShadowStep` whose memory is stored in rows.

    Args:
        step: step.
        rule: rule by which fields follow their responses.
        strictness: factor of residuals in the first steps.
    """

    def __init__(self, step: ShadowStep, rule: TimeReversible, strictness: float) -> None:
        super().__init__()
        self.step, self.rule, self.strictness = step, rule, strictness
        self.shape = fields_of(step.potential).shape

    @property
    def slots(self) -> int:
        """Number of rows in the memory of an atom."""
        return self.rule.depth + 2

    @property
    def width(self) -> int:
        """Number of entries of a row."""
        return self.shape[0] * self.shape[1]

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of the step, the new `memory`, and the `residuals` [2], of which the second is 0.

        Args:
            graph: graph with `memory` and `control`, of the atoms of one process or of all atoms.
        """
        memory, mode = graph["memory"], graph["control"][0]
        cold, going_on = mode == COLD, mode == CONTINUE
        rows = memory.transpose(0, 1)
        rows = torch.where(cold, torch.zeros_like(rows), rows)
        newest, past, age = rows[0], rows[1:-1], rows[-1]
        known = torch.where(cold, torch.zeros_like(age), torch.where(going_on, age, age + 1.0))
        followed = (known >= self.rule.depth) & ~going_on
        moved = torch.where(followed, self.rule.moved(newest, past), newest)
        given = {**graph, START_FIELDS: moved.view(-1, *self.shape), "cold": cold}
        out = self.step(given)
        found = out[FIELDS].reshape(moved.shape)
        used = torch.where(cold, found, moved)
        older = torch.where(going_on, past[1:], past[:-1])
        out["memory"] = torch.cat([found.unsqueeze(0), used.unsqueeze(0), older, known.unsqueeze(0)]).transpose(0, 1)
        first = (known[:1, :1] < self.rule.depth).any()
        factor = torch.where(first, self.strictness, 1.0).to(torch.float64)
        residual = out[FIELDS_RESIDUAL] * factor
        out["residuals"] = torch.cat([residual, torch.zeros_like(residual)])
        return out
