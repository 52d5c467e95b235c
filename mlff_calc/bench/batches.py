"""Relaxations and Langevin dynamics of many structures in one batch, against the same one by one.

Time is processor time of one process on one thread, which other programs on the machine hardly change. Relaxations begin
from the same conformers, by L-BFGS to the same largest force: all in one batch, one by one through ASE with the same
potential, and one by one by GFN2-xTB (some of them, evenly chosen). Single runs of dynamics are those of ASE's
Langevin thermostat. Compilation and the first steps do not count.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin as SingleLangevin
from ase.optimize import LBFGS

from mlff_calc.bench.threads import limited_threads
from mlff_calc.calculators import MLFFCalculator
from mlff_calc.datasets.embed import embed
from mlff_calc.potential import Potential, load_potential
from mlff_calc.sampling import Langevin, Systems, evaluator_of, read_molecules, relax_systems
from mlff_calc.sampling.calculators import Xtb

SMILES = {"ethanol": "CCO", "aspirin": "CC(=O)Oc1ccccc1C(=O)O"}
"""Molecules that have a name here; others are given as SMILES."""
TEMPERATURE, TIMESTEP = 300.0, 0.5
SINGLE_STEPS, WARM_STEPS = 200, 10
"""Steps of a single run in a round, and those before it that are not timed. More give smoother figures."""


@dataclass(frozen=True)
class Batches:
    """What is timed.

    Attributes:
        molecules: Names of `SMILES`, or SMILES.
        potential: Name or folder of a potential that knows their elements.
        conformers: Number of structures that are relaxed; 0 for none.
        replicas: Number of replicas of the dynamics; 0 for none.
        fmax: eV/Angstrom.
        steps: Largest number of steps of a relaxation.
        xtb: Number of structures that GFN2-xTB relaxes; 0 for none.
        rounds: Number of rounds of the dynamics, in which batch and single run take turns.
        compiled: Whether the potential is compiled, for all of them.
    """

    molecules: tuple[str, ...] = ("ethanol",)
    potential: str = "ethanol"
    conformers: int = 200
    replicas: int = 64
    fmax: float = 0.05
    steps: int = 500
    xtb: int = 20
    rounds: int = 5
    compiled: bool = True


def measure_batches(chosen: Batches) -> dict[str, list[dict[str, Any]]]:
    """Rows of `relaxations` and of `dynamics`.

    Raises:
        OptionError: RDKit, or with `xtb` tblite, is not installed.
        MoleculeError: A molecule cannot be read or embedded.
        UnknownElementError: The potential does not know an element.
    """
    potential = load_potential(chosen.potential)
    relaxations, dynamics = [], []
    with limited_threads(1):
        for name in chosen.molecules:
            starts = starting_structures(SMILES.get(name, name), max(1, chosen.conformers))
            if chosen.conformers:
                relaxations += [{"molecule": name, **row} for row in time_relaxations(starts, potential, chosen)]
            if chosen.replicas:
                dynamics.append({"molecule": name, **time_dynamics(starts[0], potential, chosen)})
    return {"relaxations": relaxations, "dynamics": dynamics}


def starting_structures(smiles: str, n: int) -> list[Atoms]:
    """Conformers by distance geometry, with as many seeds as it takes to have `n`.

    Raises:
        MoleculeError: See `read_molecules` and `embed`.
    """
    (molecule,) = read_molecules(smiles)
    places = embed(molecule, n, 0).positions
    seed = 0
    while len(places) < n:
        seed += 1
        places = np.concatenate([places, embed(molecule, n, seed).positions])
    return [Atoms(molecule.numbers, place) for place in places[:n]]


def time_relaxations(starts: list[Atoms], potential: Potential, chosen: Batches) -> list[dict[str, Any]]:
    """A row for the batch, for ASE one by one, and for GFN2-xTB: `ms` per structure, `steps`, `converged`, `ratio`."""
    evaluator = evaluator_of(potential, compile=chosen.compiled)
    systems, positions = Systems.of(starts)
    evaluator.check(systems)
    evaluator(systems.take(np.arange(2)), positions[systems.rows(np.arange(2))])
    begin = time.process_time()
    ends = relax_systems(systems, positions, evaluator, fmax=chosen.fmax, steps=chosen.steps)
    batch = (time.process_time() - begin) / len(starts)
    rows = [_row("one batch", len(starts), batch, ends.steps.tolist(), ends.converged.tolist(), batch)]
    calculator = MLFFCalculator(potential, compile=chosen.compiled)
    rows.append(_one_by_one("one by one, ASE", starts, lambda: calculator, chosen, batch))
    if chosen.xtb:
        evaluator_of("gfn2-xtb")  # says what to install
        some = [starts[int(k)] for k in np.linspace(0, len(starts) - 1, min(chosen.xtb, len(starts)))]
        rows.append(_one_by_one("one by one, gfn2-xtb", some, Xtb("GFN2-xTB"), chosen, batch))
    return rows


def _one_by_one(
    program: str, starts: list[Atoms], factory: Callable[[], Any], chosen: Batches, batch: float
) -> dict[str, Any]:
    """Relax structures one after the other through ASE."""
    steps, converged = [], []
    first = starts[0].copy()
    first.calc = factory()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a structure is outside of what a potential was trained on
        first.get_forces()
        begin = time.process_time()
        for start in starts:
            atoms = start.copy()
            atoms.calc = factory()
            run = LBFGS(atoms, logfile=None, memory=30)
            converged.append(bool(run.run(fmax=chosen.fmax, steps=chosen.steps)))
            steps.append(int(run.nsteps))
    seconds = (time.process_time() - begin) / len(starts)
    return _row(program, len(starts), seconds, steps, converged, batch)


def _row(
    program: str, n: int, seconds: float, steps: list[int], converged: list[bool], batch: float
) -> dict[str, Any]:
    return {
        "program": program, "structures": n, "ms": 1e3 * seconds, "steps": float(np.mean(steps)),
        "ms_per_step": 1e3 * seconds / max(1.0, float(np.mean(steps))), "converged": float(np.mean(converged)),
        "ratio": seconds / batch,
    }  # fmt: skip


def time_dynamics(start: Atoms, potential: Potential, chosen: Batches) -> dict[str, Any]:
    """Steps per second of a single run and of all replicas of a batch together, and the median of their ratios."""
    evaluator = evaluator_of(potential, compile=chosen.compiled)
    alone, positions = Systems.of([start])
    place = relax_systems(alone, positions, evaluator, fmax=chosen.fmax).positions
    systems, positions = Systems.of([alone.atoms(0, place)] * chosen.replicas)
    batch = Langevin(systems, positions, evaluator, temperatures=TEMPERATURE, timestep=TIMESTEP, friction=5.0, seed=0)
    atoms = alone.atoms(0, place)
    atoms.calc = MLFFCalculator(potential, compile=chosen.compiled)
    steps = max(10, SINGLE_STEPS // chosen.replicas)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        single = SingleLangevin(
            atoms, TIMESTEP * units.fs, temperature_K=TEMPERATURE, friction=5e-3 / units.fs, fixcm=False,
            rng=np.random.default_rng(0),
        )  # fmt: skip
        for run in (batch, single):
            run.run(WARM_STEPS)
        for _ in range(chosen.rounds):
            begin = time.process_time()
            batch.run(steps)
            middle = time.process_time()
            single.run(SINGLE_STEPS)
            found.append((chosen.replicas * steps / (middle - begin), SINGLE_STEPS / (time.process_time() - middle)))
    many, one = np.array(found).T
    return {
        "replicas": chosen.replicas, "single_per_s": float(np.median(one)), "batch_per_s": float(np.median(many)),
        "ratio": float(np.median(many / one)),
    }  # fmt: skip
