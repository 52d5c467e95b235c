"""A potential for your own molecule from a slow calculator, and dynamics with it that end where it is not to be trusted.

    python md_runs/distill.py                                        # ethanol from GFN2-xTB, 15 minutes
    python md_runs/distill.py "CC(=O)O" --minutes 30                 # any SMILES, or a file of structures
    python md_runs/distill.py surface.extxyz --teacher my_dft:calculator --minutes 600
    python md_runs/distill.py --short                                # a handful of labels, to see that it works

The potential stands in OUTPUT/potential, its report in OUTPUT/report.html. If the run is stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io

from mlff_calc import SimulationError, run_md
from mlff_calc.distillation import Distillation

SHORT = {
    "student": {
        "committee": 1, "steps": 20, "final_steps": 60,
        "potential": {"backbone": {"name": "hegnn", "cutoff": 4.0, "l_max": 1, "channels": 8, "n_layers": 1}},
    },
    "explore": {"replicas": 3, "steps": 20},
    "budget": {"labels": 50, "rounds": 1},
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structure", nargs="?", default="CCO", help="SMILES or file")
    parser.add_argument("--teacher", default="gfn2-xtb", help="gfn2-xtb, emt, chgnet, a potential, or module:function")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--temperature", type=float, default=300.0, help="of the dynamics at the end, K")
    parser.add_argument("--output", type=Path, default=Path("distilled"))
    parser.add_argument("--short", action="store_true", help="a handful of labels")
    options = parser.parse_args()

    kind = "files" if Path(options.structure).exists() else "smiles"
    named = "python" if ":" in options.teacher else "name"
    recipe = {"teacher": {named: options.teacher}, "systems": {kind: [str(options.structure)]}}
    recipe |= SHORT if options.short else {"budget": {"minutes": options.minutes}}
    begun = (options.output / "state.json").exists()
    result = Distillation(recipe, options.output, resume=begun, on_line=print).run()
    print(result.summary())

    start = ase.io.read(options.output / "labels" / "round-000.extxyz", 0)
    try:
        run = run_md(
            start, result.potential, ensemble="langevin", temperature=options.temperature, timestep=0.5,
            time="20fs" if options.short else "2ps", threshold=result.threshold, domain="off", output=options.output / "md",
            overwrite=True,
        )  # fmt: skip
    except SimulationError as stop:
        print(f"the dynamics were stopped: {stop}")
        return
    print(f"{run.step} steps at {options.temperature:g} K; no spread was above {result.threshold:.3f} eV/Angstrom")


if __name__ == "__main__":
    main()
