"""Structures of ethanol from a score model that learnt from the lower half of a short run of dynamics, beside the whole run.

    python md_runs/score_sampling.py                            # about 20 minutes on one core
    python md_runs/score_sampling.py --target dsm               # without forces, for comparison
    python md_runs/score_sampling.py --potential my/potential --structure start.xyz
    python md_runs/score_sampling.py --resume                   # after Ctrl-C or a kill
    python md_runs/score_sampling.py --short                    # few steps, as a test

Runs dynamics with a potential, keeps the frames below the median energy, trains a score model on them, draws structures,
weighs them by the potential, and prints how far both are from the whole run. Writes into score_sampling/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import units
from ase.build import molecule

from mlff_calc.sampling import Langevin, Systems, compare_samples, evaluator_of, sample_model
from mlff_calc.training import train
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.whole_files import replacing

TEMPERATURE = 500.0  # K
FRICTION = 5.0  # 1/ps
REPLICAS = 16
BETWEEN = 80  # steps of 0.5 fs between frames


def write(path, frames):
    """Write frames, whole or not at all: --resume takes a file that is there as whole."""
    with replacing(path) as temporary:
        ase.io.write(temporary, frames, format="extxyz")


def dynamics(atoms, evaluator, n_frames, between):
    """Frames of all replicas, with energies and forces."""
    systems, positions = Systems.of([atoms] * REPLICAS)
    run = Langevin(systems, positions, evaluator, temperatures=TEMPERATURE, friction=FRICTION, seed=0)
    run.run(10 * between)
    frames = []
    while len(frames) < n_frames:
        run.run(between)
        frames += run.frames()
    return frames[:n_frames]


def recipe(options, data):
    small = {"channels": 8, "n_layers": 1, "n_basis": 8} if options.short else {"channels": 64, "n_layers": 3, "n_basis": 16}
    budget = {"max_epochs": 2} if options.short else {"max_cpu_minutes": options.minutes}
    return parse_recipe(
        {
            "score": {"backbone": {"name": "hegnn", "l_max": 2} | small, "temperature": TEMPERATURE},
            "data": {"train": str(data.absolute()), "split": {"valid": 0.1, "seed": 0}},
            "loss": {"target": options.target},
            "optimizer": {"learning_rate": 0.003, "batch_size": 32} | budget,
            "trainer": {"device": "cpu", "validate_every": 1 if options.short else 5},
        },
        origin="md_runs/score_sampling.py",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="ethanol")
    parser.add_argument("--structure", type=Path, help="any file of ASE; ethanol without it")
    parser.add_argument("--target", default="optimal", choices=["optimal", "piecewise", "dsm"])
    parser.add_argument("--minutes", type=float, default=10.0, help="processor minutes of training")
    parser.add_argument("--output", type=Path, default=Path("score_sampling"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    evaluator = evaluator_of(options.potential, compile=not options.short)
    whole = folder / "dynamics.extxyz"
    if not (options.resume and whole.is_file()):
        atoms = molecule("CH3CH2OH") if options.structure is None else ase.io.read(options.structure)
        write(whole, dynamics(atoms, evaluator, *((48, 4) if options.short else (2000, BETWEEN))))
    frames = ase.io.read(whole, ":")
    energies = np.array([frame.get_potential_energy() for frame in frames])
    half = folder / f"lower_half_{options.target}.extxyz"
    write(half, [frames[k] for k in np.flatnonzero(energies <= np.median(energies))])
    place = folder / options.target
    resume = options.resume and (place / "run.json").is_file()
    if not (options.resume and (place / "score").is_dir()):
        train(recipe(options, half), output=place, resume=resume, overwrite=not resume, show_bar=True)
    drawing = {"n": 8, "steps": 6} if options.short else {"n": 1000, "steps": 200}
    samples = sample_model(place / "score", evaluator, folder=folder / f"{options.target}.work", **drawing)
    write(folder / f"drawn_{options.target}.extxyz", samples.to_ase())
    print(samples.as_text())
    kT = units.kB * TEMPERATURE
    print("\nlower half against the whole run\n" + compare_samples(frames, ase.io.read(half, ":"), kT=kT).as_text())
    print("\ndrawn against the whole run\n" + compare_samples(frames, samples.to_ase(), kT=kT, weighted=False).as_text())
    print("\ndrawn, with weights\n" + compare_samples(frames, samples.to_ase(), kT=kT).as_text())


if __name__ == "__main__":
    main()
