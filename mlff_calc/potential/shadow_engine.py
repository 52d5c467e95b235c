"""A step of shadow dynamics for engines that keep one array per atom: the fields of earlier steps travel with atoms.

`memory` [n_atoms, slots, width] holds the last response y, the fields n of the last steps, newest first, and in the last
row the number of steps since they were solved. `control` [4] is that of potential/engine.py, of which the mode and the last
number are read, the relative residual at which the engine ends this step. Mode 0 begins at phi(u); mode 1 moves the fields
by the time-reversible rule; mode 2 takes the last response for the fields of this step, and mode 3 the fields of the step
before, for the same structure again.

Fields of the first steps are not followed but solved: until as many steps are known as the rule needs, n is the last
response, and residuals are those of the fields times the engine's tolerance over that of a solve, so that the engine
repeats the step (mode 2) until the fields are solved. A step that followed and is above the tolerance begins such a history
anew.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.fixed_point.predictors import TimeReversible
from mlff_calc.heads.fields import FIELDS, FIELDS_RESIDUAL, START_FIELDS
from mlff_calc.nn.exchange import all_sum
from mlff_calc.potential.engine import COLD, CONTINUE
from mlff_calc.potential.shadow import ShadowStep, fields_of

AGAIN = 3.0
"""Value of the mode in `control` for the structure of the last step."""


class ShadowEngineStep(nn.Module):
    """A `ShadowStep` whose memory is stored in rows.

    Args:
        step: step.
        rule: rule by which fields follow their responses.
        solved: relative residual of solved fields.
    """

    def __init__(self, step: ShadowStep, rule: TimeReversible, solved: float) -> None:
        super().__init__()
        self.step, self.rule, self.solved = step, rule, solved
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
        cold, going_on, again = mode == COLD, mode == CONTINUE, mode == AGAIN
        rows = memory.transpose(0, 1)
        rows = torch.where(cold, torch.zeros_like(rows), rows)
        newest, past, age = rows[0], rows[1:-1], rows[-1]
        begun = torch.where(age >= self.rule.depth, torch.zeros_like(age), age)
        known = torch.where(going_on, begun, torch.where(again | cold, age, age + 1.0))
        first = self.is_young(known[:, 0], graph)
        followed = ~(first | going_on | again | cold)
        moved = torch.where(again, past[0], torch.where(followed, self.rule.moved(newest, past), newest))
        out = self.step({**graph, START_FIELDS: moved.view(-1, *self.shape), "cold": cold})
        found = out[FIELDS].reshape(moved.shape)
        used = torch.where(cold, found, moved).unsqueeze(0)
        pushed = torch.cat([used, torch.where(going_on, past[1:], past[:-1])])
        rows = torch.cat([found.unsqueeze(0), torch.where(again, past, pushed), known.unsqueeze(0)])
        out["memory"] = rows.transpose(0, 1)
        residual, tolerance = out[FIELDS_RESIDUAL], graph["control"][3]
        strictness = (tolerance / self.solved).clamp(min=1.0)
        residual = torch.where(first | (residual > tolerance), residual * strictness, residual)
        out["residuals"] = torch.cat([residual, torch.zeros_like(residual)])
        return out

    def is_young(self, known: Tensor, graph: dict[str, Tensor]) -> Tensor:
        """Whether an atom of any process lacks earlier steps; `known` [n_atoms] are their numbers."""
        lacking = (known < self.rule.depth).double()
        if "owned" in graph:
            lacking = lacking * graph["owned"]
        count = lacking.sum().view(1)
        return ((all_sum(count) if "node_numbers" in graph else count) > 0.0).squeeze(0)
