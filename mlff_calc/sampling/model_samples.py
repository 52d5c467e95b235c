"""Structures drawn from a trained score model, weighed by the energies of a calculator where there is one.

Structures are drawn in pieces, each from a seed of its own, so that neither an interruption nor the number of structures
changes the first of them, but for rounding. What a piece gave is kept in a folder, where one is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import covalent_radii

from mlff_calc.errors import OptionError
from mlff_calc.sampling.calculators import evaluator_of
from mlff_calc.sampling.diffusion import CHUNK, ExactForce, ModelScore, Space, accepted_langevin, draw, langevin
from mlff_calc.sampling.evaluators import BatchedPotential, Evaluator
from mlff_calc.sampling.pieces import PieceStore
from mlff_calc.sampling.reweighting import effective_sample_size, normalized
from mlff_calc.sampling.systems import FloatArray, Systems
from mlff_calc.score import ScoreModel, load_score_model

STEP = 0.1
"""Langevin step times the mean square of the score. Raising it moves faster, and is unstable from about 2."""
SLOW_CHUNK = 16
"""Number of structures in a piece whose energies come one by one. Raising it loses more work where a run is killed."""
PILOT = 64
"""Number of structures that are drawn first, to measure how noise narrows. Raising it makes weights a little more even."""
WHOLE = 1.5
"""Factor of the sum of covalent radii up to which a bond counts as whole. Raising it counts more structures as whole."""


@dataclass(frozen=True)
class Drawing:
    """How structures are drawn.

    Attributes:
        n: Number of structures.
        steps: Number of steps of the reverse diffusion.
        langevin: Number of Langevin steps with the model's score at its smallest noise.
        exact: Number of accepted Langevin steps with the calculator's forces.
        seed: Seed of everything random.
    """

    n: int = 500
    steps: int = 200
    langevin: int = 0
    exact: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("steps", 2), ("langevin", 0), ("exact", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise OptionError(f"{name} is {getattr(self, name)}; give {least} or more")


@dataclass(frozen=True)
class Samples:
    """Structures drawn from a score model.

    Attributes:
        numbers: Atomic numbers.
        positions: [n, n_atoms, 3] Angstrom.
        kT: Thermal energy, eV.
        whole: Whether the bonds of the training data are whole [n]; true for clusters without bonds.
        energies: [n] eV; None without a calculator, infinite where it failed.
        weights: Weights for exp(-E/kT) [n], which add up to one; None where they cannot be known.
        acceptance: Share of accepted steps with exact forces; None where there were none.
        calls: Number of energies and forces that were computed.
        outside: Parts of sentences about what of the structures a potential was not trained on.
    """

    numbers: tuple[int, ...]
    positions: FloatArray
    kT: float
    whole: FloatArray
    energies: FloatArray | None = None
    weights: FloatArray | None = None
    acceptance: float | None = None
    calls: int = 0
    outside: tuple[str, ...] = ()

    def report(self) -> dict[str, Any]:
        """Plain values: numbers of structures, effective number of samples, mean energies."""
        found: dict[str, Any] = {
            "structures": len(self.positions),
            "with whole bonds": int(self.whole.sum()),
            "kT (eV)": self.kT,
        }
        if self.energies is not None:
            good = np.isfinite(self.energies)
            found |= {
                "energies": int(good.sum()),
                **({"mean energy as drawn (eV)": float(self.energies[good].mean())} if good.any() else {}),
                "calls of the calculator": self.calls,
            }
        if self.acceptance is not None:
            found["accepted share of exact steps"] = self.acceptance
        if self.weights is not None and self.energies is not None:
            some = self.weights > 0.0
            effective = effective_sample_size(self.weights)
            found |= {
                "effective number of samples": effective,
                "effective share": effective / len(self.weights),
                "largest weight": float(self.weights.max()),
                "mean energy with weights (eV)": float((self.weights[some] * self.energies[some]).sum()),
            }
        return found

    def as_text(self) -> str:
        """The report as lines, with what it means for averages."""
        found = self.report()
        shown = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in found.items()}
        lines = [f"{name:<36} {value}" for name, value in shown.items()]
        if self.outside:
            what = "; ".join(self.outside)
            lines.append(f"The potential was not trained on such structures ({what}): energies are a guess there.")
        if self.weights is not None and found["effective number of samples"] < 50.0:
            lines.append(
                "Weighted averages rest on few structures: draw more, or take more steps (--steps, --exact). Basins that "
                "were not drawn have no weight at all."
            )
        if self.weights is None and self.energies is not None:
            lines.append(
                "Weights are not known after Langevin steps with the model's score; leave out --langevin to have them."
            )
        elif self.weights is None:
            lines.append(
                "Weights of basins are those of the training frames where barriers are above 2 to 3 kT; --calculator gives "
                "each structure a weight that repairs them."
            )
        return "\n".join(lines)

    def to_ase(self) -> list[Atoms]:
        """The structures; `info` holds `energy` (eV), `weight` and `whole`."""
        structures = []
        for k, place in enumerate(self.positions):
            info: dict[str, Any] = {"whole": bool(self.whole[k])}
            if self.energies is not None:
                info["energy"] = float(self.energies[k])
            if self.weights is not None:
                info["weight"] = float(self.weights[k])
            structures.append(Atoms(self.numbers, place, info=info))
        return structures


def sample_model(
    model: ScoreModel | str | Path,
    calculator: Any = None,  # noqa: ANN401
    *,
    folder: Path | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
    charge: int = 0,
    multiplicity: int = 1,
    workers: int = 0,
    compile: bool = False,
    **options: int,
) -> Samples:
    """Draw structures from a score model.

    Args:
        model: Model, or its folder.
        calculator: What gives energies, see `evaluator_of`; None for none. Its energies give each structure a weight,
            unless `langevin` steps were taken, whose distribution is not known.
        folder: Where pieces of work are kept, so that a run that was stopped goes on; None keeps nothing.
        on_progress: Called with what is done, and how many of how many steps.
        charge: Total charge, e; see `evaluator_of`.
        multiplicity: Number of unpaired electrons and one; see `evaluator_of`.
        workers: Number of processes for calculators that are not potentials.
        compile: Whether a potential is compiled.
        **options: Fields of `Drawing`.

    Raises:
        OptionError: An option that cannot be honoured.
        UnknownElementError: An element that the calculator does not know.
        SimulationError: Structures are not finite, or none has an energy.
    """
    drawing = Drawing(**options)
    if drawing.exact and calculator is None:
        raise OptionError(f"{drawing.exact} steps with exact forces need a calculator; name one, or leave them out")
    if calculator is None and (charge or multiplicity != 1 or workers):
        raise OptionError("charge, multiplicity and workers are of a calculator; name one, or leave them out")
    score = model if isinstance(model, ScoreModel) else load_score_model(model)
    evaluator = (
        None if calculator is None
        else evaluator_of(calculator, charge=charge, multiplicity=multiplicity, workers=workers, compile=compile)
    )  # fmt: skip
    try:
        if evaluator is not None:
            evaluator.check(_copies(score, 1)[0])
        return _drawn(score, evaluator, drawing, folder, on_progress or (lambda what, done, total: None))
    finally:
        if evaluator is not None:
            evaluator.close()


def _copies(model: ScoreModel, n: int) -> tuple[Systems, FloatArray]:
    numbers = np.array(model.topology.numbers)
    return Systems.of([Atoms(numbers, np.zeros((len(numbers), 3)))] * n)


def _drawn(
    model: ScoreModel,
    evaluator: Evaluator | None,
    drawing: Drawing,
    folder: Path | None,
    on_progress: Callable[[str, int, int], None],
) -> Samples:
    space = Space(len(model.topology.numbers), model.dimensions)
    facts = {
        "model": model.sha256, "calculator": None if evaluator is None else evaluator.name(), "steps": drawing.steps,
        "langevin": drawing.langevin, "exact": drawing.exact,
    }  # fmt: skip
    store = PieceStore(folder, facts)
    random = torch.Generator().manual_seed(0)
    pilot = draw(ModelScore(model), model.schedule, space, model.spread, PILOT, steps=drawing.steps, random=random)
    pieces = []
    whole = CHUNK if evaluator is None or isinstance(evaluator, BatchedPotential) else SLOW_CHUNK
    for number, first in enumerate(range(0, drawing.n, whole)):
        size = min(whole, drawing.n - first)

        def made(_: FloatArray, number: int = number, size: int = size, first: int = first) -> dict[str, Any]:
            def report(step: int) -> None:
                done = first + size * step // (drawing.steps + drawing.exact + 1)
                on_progress("drawing structures", done, drawing.n)

            return _piece(model, evaluator, drawing, pilot.narrowing, number, size, whole, report)

        pieces.append(store.piece("drawing", np.array([drawing.seed, number, size]), made))
        on_progress("drawing structures", first + size, drawing.n)
    joined = {name: np.concatenate([np.atleast_1d(piece[name]) for piece in pieces]) for name in pieces[0]}
    energies, weights = joined.get("energies"), None
    if energies is not None and "log_weights" in joined:
        weights = normalized(joined["log_weights"])
    outside = () if evaluator is None else _outside(model, evaluator, joined["positions"])
    return Samples(
        model.topology.numbers, joined["positions"], model.kT, _whole(model, joined["positions"]), energies, weights,
        float(joined["acceptance"].mean()) if drawing.exact else None, int(joined["calls"].sum()),
        outside,
    )  # fmt: skip


def _outside(model: ScoreModel, evaluator: Evaluator, positions: FloatArray) -> tuple[str, ...]:
    """What of the structures with whole bonds an evaluator was not trained on."""
    good = positions[np.logical_and(_whole(model, positions), np.all(np.isfinite(positions), axis=(1, 2)))]
    if not len(good):
        return ()
    return tuple(evaluator.outside(_copies(model, len(good))[0], good.reshape(-1, 3)))


def _piece(
    model: ScoreModel,
    evaluator: Evaluator | None,
    drawing: Drawing,
    narrowing: list[float],
    number: int,
    n: int,
    whole: int,
    on_step: Callable[[int], None],
) -> dict[str, Any]:
    """The first `n` structures of a piece of `whole`, which are the same however many of them are wanted."""
    random = torch.Generator().manual_seed(int(np.random.SeedSequence([drawing.seed, number]).generate_state(1)[0]))
    space, score = Space(len(model.topology.numbers), model.dimensions, whole), ModelScore(model)
    drawn = draw(
        score, model.schedule, space, model.spread, n, steps=drawing.steps, random=random,
        narrowing=narrowing, on_step=lambda number: on_step(number + 1),
    )  # fmt: skip
    step, positions = STEP / model.target.information, drawn.positions
    if drawing.langevin:
        low = model.schedule.sigma_min
        positions = langevin(lambda x: score(x, low), positions, space, step=step, steps=drawing.langevin, random=random)
    if evaluator is None:
        return {"positions": positions.numpy(), "calls": 0, "acceptance": 0.0}
    exact = ExactForce(evaluator, _copies(model, n)[0], model.kT)
    walked = accepted_langevin(
        exact, positions, space, step=step, steps=drawing.exact, random=random,
        on_step=lambda number: on_step(drawing.steps + number + 1),
    )  # fmt: skip
    found: dict[str, Any] = {
        "positions": walked.positions.numpy(), "energies": walked.energies, "calls": exact.calls,
        "acceptance": walked.acceptance,
    }  # fmt: skip
    if not drawing.langevin:
        found["log_weights"] = drawn.log_ratio.numpy() - walked.start / model.kT
    return found


def _whole(model: ScoreModel, positions: FloatArray) -> FloatArray:
    """Whether all bonds of the topology are whole [n]."""
    bonds = np.array(model.topology.bonds, dtype=np.int64).reshape(-1, 2)
    radii = covalent_radii[np.array(model.topology.numbers)]
    lengths = np.linalg.norm(positions[:, bonds[:, 0]] - positions[:, bonds[:, 1]], axis=-1)
    whole: FloatArray = (lengths < WHOLE * (radii[bonds[:, 0]] + radii[bonds[:, 1]])).all(axis=1)
    return whole
