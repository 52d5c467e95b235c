"""Replica exchange of a molecule by a potential, and the distribution of its torsions at one temperature by MBAR.

    python md_runs/replica_exchange.py                              # ethanol from 300 to 700 K, a few minutes on one core
    python md_runs/replica_exchange.py --potential my/potential --structure start.xyz
    python md_runs/replica_exchange.py --short                      # few steps, as a test

All replicas run as one batch. Prints the shares of accepted swaps and a histogram of every torsion, and writes the samples
with energies, temperatures and weights into replica_exchange.extxyz (needs pymbar: pip install 'mlff_calc[conformers]').
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase.build import molecule
from rich.progress import Progress

from mlff_calc.graph.bonds import bonds_of
from mlff_calc.sampling import evaluator_of, exchange, geometric_ladder, reweigh
from mlff_calc.sampling.compare import turning_chains
from mlff_calc.sampling.metrics import torsions

LOWEST, HIGHEST, N_TEMPERATURES = 300.0, 700.0, 6  # K
STEPS_BETWEEN = 100
TIMESTEP = 0.5  # fs
FRICTION = 5.0  # 1/ps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="ethanol")
    parser.add_argument("--structure", type=Path, help="any file of ASE; ethanol without it")
    parser.add_argument("--temperature", type=float, default=LOWEST, help="temperature of the distributions, K")
    parser.add_argument("--attempts", type=int, default=1000, help="number of samples of each temperature")
    parser.add_argument("--output", type=Path, default=Path("replica_exchange.extxyz"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    atoms = molecule("CH3CH2OH") if options.structure is None else ase.io.read(options.structure)
    attempts, steps = (12, 5) if options.short else (options.attempts, STEPS_BETWEEN)
    with Progress() as bars:
        bar = bars.add_task("replica exchange", total=attempts)
        found = exchange(
            atoms, evaluator_of(options.potential, compile=not options.short),
            temperatures=geometric_ladder(LOWEST, HIGHEST, N_TEMPERATURES), n_attempts=attempts, steps_between=steps,
            timestep=TIMESTEP, friction=FRICTION, seed=options.seed, on_attempt=lambda _: bars.advance(bar),
        )  # fmt: skip
    weighed = reweigh(found, options.temperature)
    places = found.positions[weighed.used[:, 0], weighed.used[:, 1]]
    print("accepted swaps between neighbours: " + " ".join(f"{rate:.2f}" for rate in np.diag(found.acceptance, 1)))
    print(f"effective number of samples at {options.temperature:g} K: {weighed.effective:.0f}")
    bonds = bonds_of(atoms.numbers, places)
    edges = np.linspace(-180.0, 180.0, 13)
    for chain in turning_chains(atoms.numbers, bonds):
        angles = np.degrees(torsions(places, chain[None])[:, 0])
        shares, _ = np.histogram(angles, edges, weights=weighed.weights)
        print(f"torsion {'-'.join(map(str, chain))}, share in steps of 30 degrees from -180: "
              + " ".join(f"{share:.3f}" for share in shares))  # fmt: skip
    frames = []
    for place, weight, (level, number) in zip(places, weighed.weights, weighed.used, strict=True):
        frame = atoms.copy()
        frame.positions = place
        frame.info = {
            "energy": found.energies[level, number], "temperature": found.temperatures[level], "weight": weight,
        }  # fmt: skip
        frames.append(frame)
    ase.io.write(options.output, frames)
    print(f"written: {options.output}")


if __name__ == "__main__":
    main()
