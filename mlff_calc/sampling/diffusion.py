"""Structures drawn from a score: the reverse diffusion, with the weight of each path, and Langevin steps at its end.

With noise levels s_0 = sigma_max > ... > s_K = 0, b_k = s_k^2 - s_(k+1)^2 and the score S,

    x_0     = sqrt(s_0^2 + D^2) xi                                    (D the spread of the data)
    x_(k+1) = x_k + b_k S(x_k, s_k) + sqrt(f_k b_k) xi

with f_k = 1 - b_k J_k, J_k the mean square of S per degree of freedom: the variance of x_(k+1) given x_k, for normal data
exactly. The noise that leads back is known, x_k = x_(k+1) + sqrt(b_k) xi, and so is the ratio of the densities of both
paths. With it and an energy E, averages over exp(-E/kT) are those over drawn structures with weights proportional to

    w = exp(-E(x_K)/kT) prod_k q(x_k | x_(k+1)) / (p(x_0) prod_k p(x_(k+1) | x_k)),

whatever the score, as far as drawn structures reach. A step that leaves exp(-E/kT) unchanged, such as one of Langevin
dynamics that is accepted by its energy, leaves the weights valid.

Sources: Song et al., "Score-based generative modeling through stochastic differential equations" (2021); Neal, "Annealed
importance sampling" (2001); Roberts and Tweedie, Bernoulli 2, 341 (1996) for accepted Langevin steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.graph.keys import Graph
from mlff_calc.sampling.evaluators import Evaluation, Evaluator
from mlff_calc.sampling.systems import FloatArray, Systems
from mlff_calc.score import Schedule, ScoreModel
from mlff_calc.score.graph import NOISE_LEVEL, SCORE, moved
from mlff_calc.score.moments import degrees_of_freedom

Score = Callable[[Tensor, float], Tensor]
"""Function from positions [n, n_atoms, 3] (Angstrom) and a noise level to scores of the same shape (1/Angstrom)."""
CHUNK = 256
"""Number of structures evaluated at once. Raising it takes memory, and little time."""


class ModelScore:
    """The score of a trained model.

    Args:
        model: Model on any device.
    """

    def __init__(self, model: ScoreModel) -> None:
        self.model = model.eval()
        self._graphs: dict[int, Graph] = {}

    def __call__(self, positions: Tensor, sigma: float) -> Tensor:
        """Scores at one noise level (Angstrom)."""
        with torch.no_grad():
            return torch.cat([self._chunk(chunk, sigma) for chunk in positions.split(CHUNK)])

    def _chunk(self, positions: Tensor, sigma: float) -> Tensor:
        n, there = len(positions), positions.to(self.model.edges.device)
        if n not in self._graphs:
            self._graphs[n] = self.model.topology.graph(there, there.new_zeros(n))
        graph = moved(self._graphs[n], there.reshape(-1, 3))
        graph[NOISE_LEVEL] = there.new_full((n,), sigma)
        return self.model(graph)[SCORE].reshape(positions.shape).to(positions.device)


@dataclass(frozen=True)
class Space:
    """Positions without translations.

    Attributes:
        n_atoms: Number of atoms.
        dimensions: 3, or 2 for positions with z = 0.
        whole: Number of structures for which random numbers are drawn at least; fewer structures take the first of them, and
            are the same as among more.
    """

    n_atoms: int
    dimensions: int = 3
    whole: int = 0

    @property
    def degrees(self) -> int:
        """Number of degrees of freedom."""
        return degrees_of_freedom(self.n_atoms, self.dimensions)

    def noise(self, n: int, random: torch.Generator) -> Tensor:
        """Normal numbers [n, n_atoms, 3] in this space."""
        drawn = torch.randn(max(n, self.whole), self.n_atoms, 3, generator=random, dtype=torch.float64)[:n]
        if self.dimensions == 2:
            drawn[..., 2] = 0.0
        return drawn - drawn.mean(dim=1, keepdim=True)

    def uniform(self, n: int, random: torch.Generator) -> Tensor:
        """Numbers [n] from 0 to 1."""
        return torch.rand(max(n, self.whole), generator=random, dtype=torch.float64)[:n]


@dataclass(frozen=True)
class Drawn:
    """Structures from a reverse diffusion.

    Attributes:
        positions: [n, n_atoms, 3] Angstrom.
        log_ratio: Log of the ratio of the densities of the paths back and forth [n]; see the module.
        narrowing: Factors f_k [steps] as measured on these structures.
    """

    positions: Tensor
    log_ratio: Tensor
    narrowing: list[float]


def draw(
    score: Score,
    schedule: Schedule,
    space: Space,
    spread: float,
    n: int,
    *,
    steps: int = 200,
    random: torch.Generator,
    narrowing: Sequence[float] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Drawn:
    """Draw structures by the reverse diffusion.

    Args:
        score: The score.
        schedule: Noise levels.
        space: Number of atoms and dimensions.
        spread: Root mean square of the data per degree of freedom, Angstrom.
        n: Number of structures.
        steps: Number of steps.
        random: Source of random numbers, on the CPU.
        narrowing: Factors f_k of the variances [steps], such as those of an earlier `Drawn`, which make weights more even;
            None for those of normal data.
        on_step: Called after each step with its number.

    Raises:
        OptionError: A number that is not positive.
        SimulationError: Positions are not finite.
    """
    if n < 1 or steps < 2:
        raise OptionError(f"{n} structures in {steps} steps; give at least one structure and two steps")
    levels = schedule.grid(steps).tolist()
    variance = levels[0] ** 2 + spread**2
    positions = math.sqrt(variance) * space.noise(n, random)
    constant = 0.5 * space.degrees * math.log(2.0 * math.pi * variance)
    log_ratio = positions.square().sum(dim=(1, 2)) / (2.0 * variance) + constant
    found = []
    for number, (high, low) in enumerate(pairwise(levels)):
        width = high**2 - low**2
        here = score(positions, high)
        factor = (low**2 + spread**2) / (high**2 + spread**2) if narrowing is None else narrowing[number]
        noise = math.sqrt(factor * width) * space.noise(n, random)
        step = width * here + noise
        log_ratio += (noise.square() / factor - step.square()).sum(dim=(1, 2)) / (2.0 * width)
        log_ratio += 0.5 * space.degrees * math.log(factor)
        positions = positions + step
        square = float(here.square().sum(dim=(1, 2)).mean()) / space.degrees
        found.append(min(1.0, max((low / high) ** 2, 1.0 - width * square, 0.1)))
        if on_step is not None:
            on_step(number)
    lost = int((~torch.isfinite(positions).all(dim=2).all(dim=1)).sum())
    if lost:
        raise SimulationError(f"{lost} of {n} structures are not finite; take more steps, or train the model longer")
    return Drawn(positions, log_ratio, found)


def langevin(
    score: Callable[[Tensor], Tensor], positions: Tensor, space: Space, *, step: float, steps: int, random: torch.Generator
) -> Tensor:
    """Take Langevin steps x <- x + step S(x) + sqrt(step / 2) (xi + xi') with a score, without an energy to accept them by.

    Each xi' is the xi of the next step. The limit distribution is then exact for normal data at any stable step, where
    independent noise would heat by a quarter of step S^2 in each degree of freedom.

    Args:
        score: Score without noise.
        positions: Start [n, n_atoms, 3], Angstrom.
        space: Number of atoms and dimensions.
        step: Step, Angstrom^2; about 0.1 over the mean square of the score is stable.
        steps: Number of steps.
        random: Source of random numbers.

    Source: Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34, eq. 1.
    """
    before = space.noise(len(positions), random)
    for _ in range(steps):
        noise = space.noise(len(positions), random)
        positions = positions + step * score(positions) + math.sqrt(0.5 * step) * (before + noise)
        before = noise
    return positions


@dataclass(frozen=True)
class Walked:
    """Structures after Langevin steps with the exact force.

    Attributes:
        positions: [n, n_atoms, 3] Angstrom.
        energies: [n] eV.
        start: Energies before the first step [n], eV.
        acceptance: Share of accepted steps.
        calls: Number of energies and forces that were computed.
    """

    positions: Tensor
    energies: FloatArray
    start: FloatArray
    acceptance: float
    calls: int


class ExactForce:
    """Energies and forces of copies of one structure, in units of kT.

    Args:
        evaluator: Gives energies and forces.
        systems: Copies of the structure; positions of fewer copies may be asked for.
        kT: Thermal energy, eV.
    """

    def __init__(self, evaluator: Evaluator, systems: Systems, kT: float) -> None:
        self.evaluator, self.systems, self.kT = evaluator, systems, kT
        self.calls = 0

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Energies over kT [n], infinite where the evaluator failed, and scores [n, n_atoms, 3]."""
        n = len(positions)
        systems = self.systems if n == len(self.systems) else self.systems.take(np.arange(n))
        found: Evaluation = self.evaluator(systems, positions.reshape(-1, 3).numpy())
        self.calls += n
        energies = torch.from_numpy(np.where(np.isfinite(found.energies), found.energies, np.inf)) / self.kT
        forces = torch.from_numpy(found.forces.reshape(positions.shape)) / self.kT
        return energies, forces - forces.mean(dim=1, keepdim=True)


def accepted_langevin(
    exact: ExactForce, positions: Tensor, space: Space, *, step: float, steps: int, random: torch.Generator,
    on_step: Callable[[int], None] | None = None,
) -> Walked:  # fmt: skip
    """Take Langevin steps with the exact force, each accepted or not by its energy, which leaves exp(-E/kT) unchanged.

    Args:
        exact: Energies and forces.
        positions: Start [n, n_atoms, 3], Angstrom.
        space: Number of atoms and dimensions.
        step: Step, Angstrom^2.
        steps: Number of steps; 0 gives the energies of the start.
        random: Source of random numbers.
        on_step: Called after each step with its number.
    """
    before = exact.calls
    energies, scores = exact(positions)
    accepted, start = 0, energies
    for number in range(steps):
        move = step * scores + math.sqrt(2.0 * step) * space.noise(len(positions), random)
        there = positions + move
        new_energies, new_scores = exact(there)
        forth = (move - step * scores).square().sum(dim=(1, 2))
        back = (-move - step * new_scores).square().sum(dim=(1, 2))
        exponent = energies - new_energies + (forth - back) / (4.0 * step)
        taken = torch.log(space.uniform(len(positions), random)) < exponent
        accepted += int(taken.sum())
        positions = torch.where(taken[:, None, None], there, positions)
        energies, scores = torch.where(taken, new_energies, energies), torch.where(taken[:, None, None], new_scores, scores)
        if on_step is not None:
            on_step(number)
    share = accepted / max(1, steps * len(positions))
    kT = exact.kT
    return Walked(positions, (energies * kT).numpy(), (start * kT).numpy(), share, exact.calls - before)
