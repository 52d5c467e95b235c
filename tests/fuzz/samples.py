"""One intact example of every kind of input, made once. Damage is done to copies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

STRUCTURES = ("extxyz", "xyz", "cif", "vasp", "traj", "json", "proteindatabank", "gen", "lammps-data", "cfg", "xsf", "res")
SUFFIX = {"proteindatabank": "pdb", "lammps-data": "lmp", "vasp": "poscar"}
SIZES = {"l_max": 1, "channels": 4, "n_layers": 1}


def make_all(folder: Path, *, quick: bool = False) -> None:
    """Fill a folder with `potentials`, `exported`, `runs`, `md`, `recipes`, `structures` and `arrays`.

    The quick version has only one run, and imitates the exported file.
    """
    for name in ("potentials", "exported", "runs", "md", "recipes", "structures", "arrays"):
        (folder / name).mkdir(parents=True)
    _potentials(folder / "potentials")
    _exported(folder, quick=quick)
    _structures(folder / "structures")
    _arrays(folder / "arrays")
    _recipes(folder)
    _runs(folder, quick=quick)
    _dynamics(folder)


def _potentials(folder: Path) -> None:
    from mlff_calc.graph.domain import domain_of
    from mlff_calc.potential import build_potential
    from mlff_calc.propagator import build_propagator
    from mlff_calc.rollout import build_rollout
    from mlff_calc.score import build_score_model

    for name, backbone in (("equiformer", SIZES), ("hegnn", SIZES), ("deq", {"l_max": 1, "channels": 4})):
        config = {"backbone": {"name": name, "cutoff": 4.0, **backbone}, "elements": ["H", "O"], "repulsion": {}}
        potential = build_potential(config, seed=1)
        potential.domain = domain_of([molecule("H2O")], 4.0)
        potential.save(folder / name, card="# water\n", recipe="a: 1\n")
    backbone = {"name": "hegnn", "l_max": 1, "channels": 4, "n_layers": 1, "moves": True}
    build_propagator({"backbone": backbone, "kinds": [1, 2]}, seed=1).save(folder / "propagator")
    water = {"backbone": {"name": "hegnn", "cutoff": 4.0, **SIZES}, "numbers": [8, 1, 1], "bonds": [[0, 1], [0, 2]]}
    build_score_model(water | {"target": "directional", "springs": [[0, 1, 5.0]]}, seed=1).save(folder / "score")
    sizes = {"masses": [16.0, 1.0, 1.0], "horizon": 20.0, "n_vibrations": 2, "n_table": 5, "spacing": 5.0, "width": 4}
    rollout = build_rollout(water | sizes, seed=1)
    rollout.base.reference.copy_(torch.from_numpy(molecule("H2O").positions))
    rollout.save(folder / "rollout")


def _exported(folder: Path, *, quick: bool) -> None:
    from mlff_calc.export import export_potential
    from mlff_calc.export.artifact import _add_record, _metadata
    from mlff_calc.potential import load_potential

    place = folder / "exported"
    potential = load_potential(folder / "potentials" / "equiformer")
    if not quick:
        export_potential(potential, place / "own.pt")
    record = _metadata(potential, potential, "torchscript", "torchscript", None)
    torch.jit.save(torch.jit.script(Writes(str(folder / "executed"))), str(place / "script.pt"))
    _add_record(place / "script.pt", record)
    library = _library(place, folder / "executed")
    with zipfile.ZipFile(place / "library.pt2", "w") as archive:
        archive.writestr("evil/archive_format", "pt2")
        archive.write(library, "evil/data/aotinductor/model/evil.wrapper.so")
    _add_record(place / "library.pt2", replace(record, backend="aoti", kind="aoti"))
    library.unlink()


class Writes(torch.nn.Module):
    """Pickled object that creates a file when its code runs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file(self.name, shared=True, size=4) + x


def _library(place: Path, marker: Path) -> Path:
    """Build a library that creates the marker when it is loaded; without a compiler, return plain bytes."""
    source, library = place / "evil.cpp", place / "evil.so"
    if shutil.which("g++") is None:
        library.write_bytes(b"\x7fELF" + bytes(1000))
        return library
    source.write_text(
        f'#include <cstdio>\n__attribute__((constructor)) void go() {{ std::fclose(std::fopen("{marker}", "w")); }}\n'
    )
    subprocess.run(["g++", "-shared", "-fPIC", "-o", library, source], check=True)
    source.unlink()
    return library


def frames(n: int, seed: int) -> list[Atoms]:
    """Return rattled copper with labels."""
    generator, found = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", "fcc", a=3.7).repeat((2, 1, 1))
        atoms.positions += generator.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
        found.append(atoms)
    return found


def _structures(folder: Path) -> None:
    for name in STRUCTURES:
        file = folder / f"x.{SUFFIX.get(name, name)}"
        several = name in ("extxyz", "traj", "xyz")
        ase.io.write(file, frames(3, 1) if several else frames(1, 1)[0], format=name)


def _walk(n_frames: int, n: int, seed: int) -> np.ndarray:
    along = np.stack([1.2 * np.arange(n), 0.5 * (np.arange(n) % 2), np.zeros(n)], axis=1)
    return along + np.cumsum(0.01 * np.random.default_rng(seed).standard_normal((n_frames, n, 3)), axis=0)


def _arrays(folder: Path) -> None:
    from mlff_calc.datasets.motion import NBodyOptions, make_nbody

    x = _walk(60, 4, 0)
    labels = {"E": np.zeros(60), "F": np.zeros((60, 4, 3))}
    units = {"e_unit": np.asarray("kcal/mol"), "r_unit": np.asarray("Ang")}
    parts = {f"{name}_{part}": array[:20] for part in ("train", "test") for name, array in {"R": x, **labels}.items()}
    z = np.asarray([6, 6, 8, 1])
    np.savez(folder / "short.npz", z=z, R=x, **labels, **units, cell=10 * np.eye(3))
    np.savez(folder / "rmd17.npz", nuclear_charges=z, coords=x, energies=labels["E"], forces=labels["F"])
    np.savez(folder / "parts.npz", z=z, **parts)
    trials = {f"X0{i}": _walk(20, 4, i).astype(np.float32) for i in range(3)}
    splits = {f"split_{part}_case0{i}": np.asarray([0, 5, 9]) for i, part in enumerate(("train", "val", "test"))}
    np.savez(folder / "mocap.npz", **trials, **splits, edges=np.asarray([[0, 1], [1, 2], [2, 3]], dtype=np.int16))
    options = NBodyOptions(n_bodies=3, train=2, valid=2, test=1, frames=(30, 34), seed=1)
    np.savez(folder / "nbody.npz", **make_nbody(options))


def potential_recipe(folder: Path) -> dict[str, Any]:
    """Return a recipe whose training takes a second."""
    return {
        "potential": {"backbone": {"name": "equiformer", "cutoff": 3.2, **SIZES}},
        "data": {"train": str(folder / "runs" / "cu.extxyz"), "split": {"train": 8, "valid": 4, "test": 4, "seed": 3}},
        "loss": {"energy": 1.0, "forces": 1.0},
        "optimizer": {"batch_size": 4, "max_epochs": 2, "warmup_steps": 3, "learning_rate": 5e-3},
        "trainer": {"device": "cpu", "seed": 5},
        "card": {"title": "tiny copper", "level_of_theory": "EMT"},
        "output": str(folder / "runs" / "run"),
    }


def motion_recipe(folder: Path) -> dict[str, Any]:
    """Return such a recipe for motion."""
    return {
        "propagator": {"backbone": {"name": "hegnn", "l_max": 1, "channels": 4, "n_layers": 1}},
        "data": {"file": str(folder / "arrays" / "nbody.npz"), "horizon": 4},
        "optimizer": {"batch_size": 4, "max_epochs": 2, "warmup_steps": 1},
        "trainer": {"device": "cpu"},
        "card": {"title": "three charges"},
        "output": str(folder / "runs" / "motion"),
    }


def _recipes(folder: Path) -> None:
    from mlff_calc.training.potential.example import EXAMPLE_RECIPE
    from mlff_calc.training.propagator.example import EXAMPLE_MOTION_RECIPE
    from mlff_calc.training.rollout.example import EXAMPLE_ROLLOUT_RECIPE

    (folder / "recipes" / "example.yaml").write_text(EXAMPLE_RECIPE)
    (folder / "recipes" / "rollout_example.yaml").write_text(EXAMPLE_ROLLOUT_RECIPE)
    (folder / "recipes" / "motion_example.yaml").write_text(EXAMPLE_MOTION_RECIPE)
    for name, recipe in (("potential", potential_recipe(folder)), ("motion", motion_recipe(folder))):
        (folder / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def _runs(folder: Path, *, quick: bool) -> None:
    """Make completed runs that are not marked as finished, and one that stopped after its first epoch."""
    from mlff_calc.training.module import TrainingModule
    from mlff_calc.training.run import train

    ase.io.write(folder / "runs" / "cu.extxyz", frames(16, 1))
    train(folder / "recipes" / "potential.yaml")
    if not quick:
        train(folder / "recipes" / "motion.yaml")
    for name in ("run",) if quick else ("run", "motion"):
        record = folder / "runs" / name / "run.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    if quick:
        return
    step = TrainingModule.training_step

    def stopped(self: TrainingModule, batch: object, batch_idx: int) -> torch.Tensor:
        if self.trainer.current_epoch == 1:
            raise KeyError("stop")
        return step(self, batch, batch_idx)

    TrainingModule.training_step = stopped
    try:
        train(folder / "recipes" / "potential.yaml", output=folder / "runs" / "stopped")
    except KeyError:
        pass
    finally:
        TrainingModule.training_step = step


def _dynamics(folder: Path) -> None:
    from mlff_calc import MLFFCalculator
    from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions

    options = RunOptions(steps=4, traj_interval=2, log_interval=1)
    copper = bulk("Cu", "fcc", a=3.6, cubic=True).repeat((2, 1, 1))
    for ensemble in ("nve", "langevin", "bussi", "nose-hoover", "npt-iso", "npt"):
        copper.calc = EMT()
        MDRun.start(copper, folder / "md" / ensemble, EnsembleOptions(ensemble=ensemble), options).run()
    water = molecule("H2O")
    water.calc = MLFFCalculator(folder / "potentials" / "deq", device="cpu")
    MDRun.start(water, folder / "md" / "deq", EnsembleOptions(ensemble="nve"), options).run()
    for place in (folder / "md").iterdir():
        for name in ("report.html", "energies.png"):
            (place / name).unlink(missing_ok=True)
    os.sync()
