"""A rollout of ethanol: dynamics, training, errors beside predictions without a network, and a picture of one motion.

    python md_runs/rollout.py                            # about half an hour on one core
    python md_runs/rollout.py --base harmonic            # normal modes in place of a fitted force field
    python md_runs/rollout.py --potential my/potential --structure start.xyz
    python md_runs/rollout.py --resume                   # after Ctrl-C or a kill, or with another --base
    python md_runs/rollout.py --short                    # few steps, as a test

Runs dynamics with a potential, trains a rollout on them, prints its errors on the last quarter of the run beside those of
the potential's own dynamics, and compares one predicted motion with the run. Writes into rollout/.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from ase import Atoms, units

from mlff_calc.bench.studies.kept import keep_settings
from mlff_calc.rollout import load_rollout
from mlff_calc.rollout.picture import draw
from mlff_calc.training import train
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.rollout.evaluate import evaluate_rollout_file

FRICTION = 0.02
"""Friction of the thermostat, 1/ps. The noise of a strong one cannot be predicted."""


def recipe(options, data):
    small = {"channels": 8, "n_layers": 1} if options.short else {"channels": 32, "n_layers": 2}
    budget = {"max_epochs": 1} if options.short else {"max_cpu_minutes": options.minutes}
    limit = {"train": 20, "valid": 10, "test": 10} if options.short else {"train": 1000, "valid": 200, "test": 400}
    return parse_recipe(
        {
            "rollout": {"backbone": {"name": "hegnn", "l_max": 1} | small, "base": options.base},
            "data": {"file": str(data.absolute()), "horizon": 20.0 if options.short else options.horizon, "limit": limit},
            "optimizer": {"learning_rate": 0.003, "ema_decay": None if options.short else 0.99, "batch_size": 50} | budget,
            "trainer": {"device": "cpu"},
        },
        origin="md_runs/rollout.py",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="ethanol")
    parser.add_argument("--structure", default="CH3CH2OH", help="a file of ASE, or the name of a molecule of its g2 set")
    parser.add_argument("--base", default="valence", choices=["valence", "harmonic", "rotor", "start", "none"])
    parser.add_argument("--horizon", type=float, default=100.0, help="fs")
    parser.add_argument("--steps", type=int, default=40_000, help="steps of the dynamics, 0.5 fs each")
    parser.add_argument("--minutes", type=float, default=8.0, help="processor minutes of training")
    parser.add_argument("--output", type=Path, default=Path("rollout"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--overwrite", action="store_true", help="run dynamics and training anew")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    folder = options.output
    data, settings = folder / "dynamics.npz", folder / "settings.json"
    if (settings.exists() or data.exists()) and not (options.resume or options.overwrite):
        parser.error(f"{folder} holds a run; --resume goes on with it, --overwrite begins anew; or give another --output")
    if options.overwrite:
        settings.unlink(missing_ok=True)
    made = ("potential", "structure", "horizon", "steps", "minutes", "short")
    keep_settings(folder, {name: getattr(options, name) for name in made})
    if not (options.resume and data.is_file()):
        steps = 700 if options.short else options.steps
        words = ["data", "trajectory", options.structure, "--steps", steps, "--calculator", options.potential, "-o", data]
        words += ["--friction", FRICTION, "--resume" if options.resume else "--overwrite", "--quiet"]
        command = [sys.executable, "-m", "mlff_calc.cli.main", *map(str, words)]
        subprocess.run(command, check=True)
    place = folder / options.base
    resume = options.resume and (place / "run.json").is_file()
    if not (options.resume and (place / "rollout").is_dir()):
        train(recipe(options, data), output=place, resume=resume, overwrite=not resume, show_bar=True)
    report = evaluate_rollout_file(
        place / "rollout", data, potential=options.potential, limit=4 if options.short else 50, device="cpu"
    )
    print(report.as_text())
    rollout = load_rollout(place / "rollout")
    with np.load(data) as run:
        step, first = float(run["timestep_fs"]), len(run["R"]) * 4 // 5
        atoms = Atoms(run["z"], run["R"][first])
        atoms.set_velocities(run["V"][first] / units.fs)
        ahead = np.arange(1, round(rollout.horizon / step))
        truth = run["R"][first + ahead]
    found = rollout.trajectory(atoms, ahead * step)
    draw(found, rollout.config["bonds"], folder / f"{options.base}.png", truth)
    error = np.sqrt(((found.positions[-1] - truth[-1]) ** 2).mean())
    print(f"root mean square error at {found.times[-1]:g} fs: {error:.3f} Angstrom")


if __name__ == "__main__":
    main()
