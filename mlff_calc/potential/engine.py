"""A step on a fixed point for engines that keep one array per atom: the memory is stored in rows that travel with atoms.

`memory` [n_atoms, slots, width] holds, slot by slot, the embeddings, states and adjoints of the last `window` steps,
newest first, followed by the secants of the solves for state and adjoint, [2, kept] each. `control` [4] holds the mode,
the ridge of the least-squares start, the ridge of the acceleration, and the tolerance of the engine, not used here.
Mode 0 begins cold and fills the memory with its results; mode 1 predicts from the memory and adds its solution as the
newest; mode 2 continues from the newest solution and replaces it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlff_calc.potential.fixed_point_step import FixedPointStep

COLD, PREDICT, CONTINUE = 0.0, 1.0, 2.0
"""Values of the mode in `control`."""


class EngineStep(nn.Module):
    """A `FixedPointStep` whose memory is stored in rows.

    Args:
        step: step with a window of at least one.
    """

    def __init__(self, step: FixedPointStep) -> None:
        super().__init__()
        self.step = step
        backbone = step.potential.backbone
        self.components, self.channels = backbone.state_shape

    @property
    def slots(self) -> int:
        """Number of rows in the memory of an atom."""
        return 3 * self.step.sizes.window + 4 * self.step.sizes.kept

    @property
    def width(self) -> int:
        """Number of entries of a row."""
        return self.components * self.channels

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs of the step, the new `memory`, and the `residuals` [2] of state and adjoint.

        Args:
            graph: graph with `memory` and `control`, of the atoms of one process or of all atoms.
        """
        memory, mode = graph["memory"], graph["control"][0]
        cold, going_on = mode == COLD, mode == CONTINUE
        n_atoms, window, kept = memory.shape[0], self.step.sizes.window, self.step.sizes.kept
        rows = memory.view(n_atoms, self.slots, self.components, self.channels).transpose(0, 1)
        rows = torch.where(cold, torch.zeros_like(rows), rows)
        past = [rows[i * window : (i + 1) * window] for i in range(3)]
        secants = rows[3 * window :].reshape(2, 2, kept, n_atoms, self.components, self.channels)
        newest = torch.zeros(window, dtype=torch.float64, device=memory.device)
        newest = torch.cat([newest[:1] + going_on.to(torch.float64), newest[1:]])
        given = dict(graph)
        given.update(
            past_embeddings=past[0], past_states=past[1], past_adjoints=past[2], mix=newest, ridges=graph["control"][1:3],
            state_secants=secants[0], adjoint_secants=secants[1], cold=cold,
        )  # fmt: skip
        out = self.step(given)
        pushed = [_pushed(out[name], old, cold, going_on) for name, old in zip(_SOLUTIONS, past, strict=True)]
        kept_secants = [
            _shifted(out[name], old, kept)
            for name, old in (("new_state_secants", secants[0]), ("new_adjoint_secants", secants[1]))
        ]
        rows = torch.cat([*pushed, *kept_secants]).transpose(0, 1)
        out["memory"] = rows.reshape(n_atoms, self.slots, self.width)
        out["residuals"] = torch.cat([out["residual"], out["adjoint_residual"]])
        return out


_SOLUTIONS = ("embedding", "state", "adjoint")


def _pushed(new: Tensor, old: Tensor, cold: Tensor, going_on: Tensor) -> Tensor:
    """Combine the newest with the others [window, ...]: pushed in front, in place of the last newest, or alone."""
    window, newest = old.shape[0], new.unsqueeze(0)
    others = torch.where(going_on, old[1:], old[: window - 1])
    return torch.cat([newest, torch.where(cold, newest, others)])


def _shifted(new: Tensor, old: Tensor, kept: int) -> Tensor:
    """Merge new secants [2, k, ...], oldest first, with old ones [2, kept, ...], newest first, to [2 * kept, ...]."""
    return torch.cat([new.flip(1), old], dim=1)[:, :kept].flatten(0, 1)
