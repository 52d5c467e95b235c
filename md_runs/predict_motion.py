"""Prediction of the motion of charged particles by three networks, trained on the same N-body data, and two simple guesses.

    python md_runs/predict_motion.py                  # 5 bodies, 3000 trajectories; about 10 minutes on one core
    python md_runs/predict_motion.py --bodies 20      # larger systems and fewer epochs; about as long
    python md_runs/predict_motion.py --seed 1         # other weights and another order of samples
    python md_runs/predict_motion.py --short          # small networks and few steps, as a test
    python md_runs/predict_motion.py --resume         # after Ctrl-C or a kill

Writes the data and the runs into predict_motion/, and prints a table. Set OMP_NUM_THREADS=1 for small systems.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mlff_calc.datasets.motion import NBodyOptions, make_nbody, read_motion, save_archive
from mlff_calc.propagator import load_propagator
from mlff_calc.training import train
from mlff_calc.training.propagator import evaluate_propagator
from mlff_calc.training.recipe import parse_recipe

MOVING = {"moves": True, "n_layers": 4, "n_basis": 16, "cutoff": 15.0}
NETWORKS = {
    "EGNN": ({"name": "hegnn", "l_max": 0, "channels": 64} | MOVING, 1e-3),
    "HEGNN": ({"name": "hegnn", "l_max": 3, "channels": 64} | MOVING, 1e-3),
    "CG-EGNN": ({"name": "cg_egnn", "hops": 1, "channels": 28} | MOVING, 2e-3),
}
"""Backbone and learning rate by name of the network."""
WEIGHT_DECAY = 0.5
"""Weight decay, which prevents overfitting to 3000 samples. A larger value restricts the weights more."""


def recipe(network, data, options):
    backbone, rate = NETWORKS[network]
    short = options.short
    batch, epochs = (50, 60) if options.bodies <= 5 else (25, 10)
    small = {"channels": 8, "n_layers": 2} if short else {}
    optimizer = {
        "learning_rate": rate,
        "weight_decay": WEIGHT_DECAY,
        "gradient_clip": 1.0,
        "batch_size": 10 if short else batch,
    }
    return parse_recipe(
        {
            "propagator": {"backbone": backbone | small},
            "data": {"file": str(data.absolute())},
            "optimizer": optimizer | {"max_epochs": 2 if short else epochs},
            "trainer": {"device": "cpu", "validate_every": 1 if short else min(5, epochs // 5), "seed": options.seed},
        },
        origin=f"{network} in md_runs/predict_motion.py",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=5, help="number of bodies in each trajectory")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and of the order of samples")
    parser.add_argument("--output", type=Path, default=Path("predict_motion"), help="folder for data, runs and table")
    parser.add_argument("--resume", action="store_true", help="continue the runs in the output folder")
    parser.add_argument("--short", action="store_true", help="small networks, 30 trajectories, 2 epochs")
    options = parser.parse_args()

    data = options.output / "nbody.npz"
    if not (options.resume and data.is_file()):
        sizes = {"train": 30, "valid": 10, "test": 10} if options.short else {}
        save_archive(data, make_nbody(NBodyOptions(n_bodies=options.bodies, frames=(30, 40), **sizes)))

    console = Console()
    table = Table("network", "parameters", "MSE", title=f"{options.bodies} charged bodies, 1000 steps ahead")
    for network in NETWORKS:
        folder = options.output / network
        if not (options.resume and (folder / "propagator").is_dir()):  # finished trainings are only evaluated
            train(
                recipe(network, data, options),
                output=folder,
                resume=options.resume and folder.exists(),
                overwrite=not options.resume,
                show_bar=True,
            )
        found = evaluate_propagator(load_propagator(folder / "propagator"), read_motion(data, part="test"))
        error = found.errors["propagator"]["positions"].mse
        table.add_row(network, str(found.parameters), f"{error:.5f}")
    for guess in ("constant_velocity", "last_position"):
        table.add_row(guess.replace("_", " "), "", f"{found.errors[guess]['positions'].mse:.5f}")
    console.print(table)


if __name__ == "__main__":
    main()
