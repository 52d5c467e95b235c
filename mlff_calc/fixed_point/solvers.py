"""Solvers of z = f(z) that are told values of f and answer with the next z to try.

A solver holds options only. What it knows of a problem is a dict of tensors that `begin` makes and `tell` replaces, so that
one loop serves Python, TorchScript, a traced graph, and an engine that exchanges ghost atoms between evaluations:

    known = solver.begin(start, system_index, n_systems)
    while not bool(known["done"].all()):
        known = solver.tell(known, f(known["z"]))
    solution = known["best"]

Rows of z belong to systems; each system has residual, mixing weights and end of its own. Once a system is done its z stays
as it is and its evaluations are not counted, whatever the others of the batch do.

An inverse Jacobian of an earlier solve nearby (preconditioner.py) can be given to `begin`: steps are then -B g instead of g.

| symbol | name in code | shape |
|---|---|---|
| z | `z` | [n_rows, width] |
| g = f(z) - z | `gap` | [n_rows, width] |
| dz_i, dg_i (secants) | `secants_z`, `secants_g` | [k, n_rows, width], oldest first |

Sources: Walker and Ni, "Anderson acceleration for fixed-point iterations" (2011), Eq. 2.2 (least squares over differences);
Broyden (1965), and Bai, Kolter, Koltun, "Deep equilibrium models" (2019), Sec. 3 (its low-rank form).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mlff_calc.errors import OptionError
from mlff_calc.fixed_point.preconditioner import LowRankInverse, given_inverse, low_rank_product, preconditioned
from mlff_calc.fixed_point.systems import system_dot, to_rows

TINY = 1e-30
"""Under roots and in quotients that may be of zeros."""


class Solver(nn.Module):
    """What all solvers share: residuals, the best state seen, and when a system is done.

    Args:
        tolerance: residual below which a system is done.
        relative: whether the residual is |g| / |f(z)| over the rows of a system, or the root mean square of g's numbers.
        max_evaluations: a system that needs more ends as not converged.
        damping: share of g in a step.

    Raises:
        OptionError: an option out of range.
    """

    def __init__(
        self, tolerance: float = 1e-4, relative: bool = True, max_evaluations: int = 50, damping: float = 1.0
    ) -> None:
        super().__init__()
        check_range("tolerance", tolerance, tolerance > 0.0, "positive")
        check_range("max_evaluations", max_evaluations, max_evaluations >= 1, "at least 1")
        check_range("damping", damping, 0.0 < damping <= 1.0, "above 0 and at most 1")
        self.tolerance = tolerance
        self.relative = relative
        self.max_evaluations = max_evaluations
        self.damping = damping

    def begin(
        self,
        start: Tensor,
        system_index: Tensor,
        n_systems: int,
        tolerance: float = 0.0,
        max_evaluations: int = 0,
        preconditioner: LowRankInverse | None = None,
    ) -> dict[str, Tensor]:
        """What is known before the first evaluation.

        Args:
            start: [n_rows, width].
            system_index: [n_rows], the system of each row.
            n_systems: number of systems.
            tolerance: for this solve, where it is not to be the solver's own.
            max_evaluations: likewise.
            preconditioner: an inverse Jacobian of the same rows, from an earlier solve.

        Returns:
            `z` (where to evaluate next), `best`, `best_residual` [n_systems], `residual` [n_systems], `evaluations`
            [n_systems], `converged` and `done` [n_systems] (done: converged, or out of evaluations).

        Raises:
            OptionError: a preconditioner of other rows.
        """
        nothing = torch.zeros(n_systems, dtype=torch.bool, device=start.device)
        unknown = torch.full((n_systems,), float("inf"), dtype=torch.float64, device=start.device)
        known = {
            "z": start,
            "best": start,
            "residual": unknown,
            "best_residual": unknown,
            "evaluations": torch.zeros(n_systems, dtype=torch.long, device=start.device),
            "converged": nothing,
            "done": nothing,
            "system_index": system_index,
            "limit": torch.full(
                (n_systems,),
                max_evaluations if max_evaluations > 0 else self.max_evaluations,
                dtype=torch.long,
                device=start.device,
            ),
            "tolerance": torch.full_like(unknown, tolerance if tolerance > 0.0 else self.tolerance),
        }
        if preconditioner is not None:
            known.update(given_inverse(preconditioner, start))
        return known

    def tell(self, known: dict[str, Tensor], value: Tensor) -> dict[str, Tensor]:
        """Take note of `value` = f(z) and choose the next z."""
        raise NotImplementedError

    def judge(self, known: dict[str, Tensor], value: Tensor) -> dict[str, Tensor]:
        """Take note of `value` = f(z) [n_rows, width]: residuals, the best state, who is done."""
        known = dict(known)
        index, n_systems = known["system_index"], known["done"].shape[0]
        gap = value - known["z"]
        square = system_dot(gap.unsqueeze(0), gap, index, n_systems)[0]
        if self.relative:
            size = system_dot(value.unsqueeze(0), value, index, n_systems)[0]
        else:
            ones = torch.ones_like(gap)
            size = system_dot(ones.unsqueeze(0), ones, index, n_systems)[0]
        before = known["done"]
        residual = torch.where(before, known["residual"], torch.sqrt(square / size.clamp(min=TINY)))
        better = (residual < known["best_residual"]) & ~before
        known["best"] = torch.where(to_rows(better, index, n_systems).unsqueeze(-1), known["z"], known["best"])
        known["best_residual"] = torch.where(better, residual, known["best_residual"])
        known["residual"] = residual
        known["evaluations"] = known["evaluations"] + (~before).long()
        known["converged"] = known["converged"] | (residual < known["tolerance"])
        known["done"] = known["converged"] | (known["evaluations"] >= known["limit"])
        return known

    def move(self, known: dict[str, Tensor], proposal: Tensor) -> dict[str, Tensor]:
        """Go on at `proposal` [n_rows, width] in systems that are not done."""
        index, n_systems = known["system_index"], known["done"].shape[0]
        done = to_rows(known["done"], index, n_systems).unsqueeze(-1)
        known["z"] = torch.where(done, known["z"], proposal)
        return known


class Picard(Solver):
    """Plain iteration z <- z + damping * g, or z <- z - damping * B g with a preconditioner."""

    def tell(self, known: dict[str, Tensor], value: Tensor) -> dict[str, Tensor]:
        """Take note of `value` = f(z) and choose the next z."""
        gap = value - known["z"]
        known = self.judge(known, value)
        return self.move(known, known["z"] + self.damping * preconditioned(known, gap))


class Anderson(Solver):
    """Anderson acceleration: the step that would make g smallest, were g linear between the last few states.

    Weights come from a least-squares problem per system, in float64, over secants scaled to length one, with a ridge: the
    ridge is relative to the secants at every stage of the solve (an absolute one stops the acceleration near the solution).

    Args:
        history: secants kept.
        ridge: added to the diagonal of the scaled normal equations.
        tolerance, relative, max_evaluations, damping: see `Solver`.

    Raises:
        OptionError: an option out of range.
    """

    def __init__(
        self,
        tolerance: float = 1e-4,
        relative: bool = True,
        max_evaluations: int = 50,
        damping: float = 1.0,
        history: int = 5,
        ridge: float = 1e-10,
    ) -> None:
        super().__init__(tolerance, relative, max_evaluations, damping)
        check_range("history", history, history >= 1, "at least 1")
        check_range("ridge", ridge, ridge > 0.0, "positive")
        self.history = history
        self.ridge = ridge

    def resume(self, known: dict[str, Tensor], secants_z: Tensor, secants_g: Tensor) -> dict[str, Tensor]:
        """Begin with the secants [k, n_rows, width] of an earlier solve nearby, so that the first step is accelerated."""
        known = dict(known)
        known["secants_z"], known["secants_g"] = secants_z, secants_g
        return known

    def tell(self, known: dict[str, Tensor], value: Tensor) -> dict[str, Tensor]:
        """Take note of `value` = f(z) and choose the next z."""
        z, gap = known["z"], value - known["z"]
        known = self.judge(known, value)
        if "last_z" in known:
            step_z, step_g = (z - known["last_z"]).unsqueeze(0), (gap - known["last_gap"]).unsqueeze(0)
            if "secants_z" in known:
                step_z = torch.cat([known["secants_z"], step_z])[-self.history :]
                step_g = torch.cat([known["secants_g"], step_g])[-self.history :]
            known["secants_z"], known["secants_g"] = step_z, step_g
        known["last_z"], known["last_gap"] = z, gap
        proposal = z + self.damping * preconditioned(known, gap)
        if "secants_z" in known:
            proposal = proposal - self.correction(known, gap)
        return self.move(known, proposal)

    def correction(self, known: dict[str, Tensor], gap: Tensor) -> Tensor:
        """The part of the step [n_rows, width] along the secants, by least squares."""
        index, n_systems = known["system_index"], known["done"].shape[0]
        secants_z, secants_g = known["secants_z"], known["secants_g"]
        k = secants_g.shape[0]
        rows = [system_dot(secants_g, secants_g[i], index, n_systems) for i in range(k)]
        gram = torch.stack(rows).permute(2, 0, 1)
        scale = torch.sqrt(torch.diagonal(gram, dim1=1, dim2=2)).clamp(min=TINY)
        ridge = self.ridge * torch.eye(k, dtype=gram.dtype, device=gram.device)
        right = system_dot(secants_g, gap, index, n_systems).transpose(0, 1) / scale
        scaled = gram / scale.unsqueeze(1) / scale.unsqueeze(2) + ridge
        weights = torch.linalg.solve_ex(scaled, right.unsqueeze(-1))[0].squeeze(-1) / scale
        weights = to_rows(weights.transpose(0, 1), index, n_systems).to(gap.dtype).unsqueeze(-1)
        if "left" in known:
            return (weights * secants_z).sum(dim=0) + self.damping * preconditioned(known, (weights * secants_g).sum(0))
        return (weights * (secants_z + self.damping * secants_g)).sum(dim=0)


class Broyden(Solver):
    """Broyden's method: an inverse Jacobian of g of low rank, B = -1 + sum_i u_i v_i^T per system, updated at every step.

    What it ends with can start other solves (preconditioner.py); a preconditioner it is given, it goes on updating.

    Args:
        history: rank kept; the oldest terms go first.
        tolerance, relative, max_evaluations, damping: see `Solver`.

    Raises:
        OptionError: an option out of range.
    """

    def __init__(
        self,
        tolerance: float = 1e-4,
        relative: bool = True,
        max_evaluations: int = 50,
        damping: float = 1.0,
        history: int = 20,
    ) -> None:
        super().__init__(tolerance, relative, max_evaluations, damping)
        check_range("history", history, history >= 1, "at least 1")
        self.history = history

    def resume(self, known: dict[str, Tensor], left: Tensor, right: Tensor) -> dict[str, Tensor]:
        """Begin with an inverse Jacobian found before, `left` (u) and `right` (v) [k, n_rows, width], as preconditioner."""
        known = dict(known)
        known["left"], known["right"] = left, right
        return known

    def tell(self, known: dict[str, Tensor], value: Tensor) -> dict[str, Tensor]:
        """Take note of `value` = f(z) and choose the next z."""
        z, gap = known["z"], value - known["z"]
        known = self.judge(known, value)
        index, n_systems = known["system_index"], known["done"].shape[0]
        if "left" not in known:
            known["left"], known["right"] = gap.new_zeros((0, *gap.shape)), gap.new_zeros((0, *gap.shape))
        left, right = known["left"], known["right"]
        if "last_z" in known:
            step_z, step_g = z - known["last_z"], gap - known["last_gap"]
            image = low_rank_product(left, right, step_g, index, n_systems)
            row = low_rank_product(right, left, step_z, index, n_systems)
            overlap = system_dot(row.unsqueeze(0), step_g, index, n_systems)[0]
            lengths = system_dot(row.unsqueeze(0), row, index, n_systems)[0]
            lengths = torch.sqrt(lengths * system_dot(step_g.unsqueeze(0), step_g, index, n_systems)[0])
            sound = (overlap.abs() > 1e-8 * lengths) & (overlap.abs() > TINY)
            inverse = torch.where(sound, 1.0 / torch.where(sound, overlap, torch.ones_like(overlap)), 0.0)
            new = (step_z - image) * to_rows(inverse, index, n_systems).to(gap.dtype).unsqueeze(-1)
            left = torch.cat([left, new.unsqueeze(0)])[-self.history :]
            right = torch.cat([right, row.unsqueeze(0)])[-self.history :]
            known["left"], known["right"] = left, right
        known["last_z"], known["last_gap"] = z, gap
        return self.move(known, z - self.damping * low_rank_product(left, right, gap, index, n_systems))


SOLVERS = {"picard": Picard, "anderson": Anderson, "broyden": Broyden}


def build_solver(name: str, **options: Any) -> Solver:
    """A solver by name: `picard`, `anderson` or `broyden`; options that are None are left at their defaults.

    Raises:
        OptionError: an unknown name, or an option out of range.
    """
    if name not in SOLVERS:
        msg = f"unknown solver {name!r}; choose one of {', '.join(SOLVERS)}"
        raise OptionError(msg)
    return SOLVERS[name](**{key: value for key, value in options.items() if value is not None})


def check_range(name: str, value: float, valid: bool, what: str) -> None:
    """Refuse an option out of range.

    Raises:
        OptionError: it is.
    """
    if not valid:
        msg = f"{name} = {value} of a fixed-point solver; it must be {what}"
        raise OptionError(msg)
