"""Kinds of files to damage. For each kind a damaged copy is made, and read by the calls that a user would make."""

from __future__ import annotations

import functools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import samples
import torch
import yaml
from archives import (
    damage_arrays,
    damage_header,
    damage_members,
    damage_table,
    evil_checkpoint,
    evil_pickle,
    split_weights,
)
from ase.build import molecule
from ase.calculators.emt import EMT
from mutations import damage_bytes, damage_text, damage_tree, special_file, write_json

from mlff_calc.errors import MLFFError

Draw = random.Random
YAML_TRICKS = [
    "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    ),
    "a: &a {b: *a}\n", "[" * 100_000, "? [1, 2]\n: 3\n", "a: !!python/object/apply:os.mkdir ['MARKER']\n",
    "a: 2026-99-99\n",
    "!!python/object/new:os.system ['mkdir MARKER']\n", "a: !!binary x\n", "- 1\n- 2\n", "a: \"\\ud800\"\n",
    "%YAML 9.9\n---\na: 1\n",
    "<<: [1]\n", "a: 1\na: 2\n", "a: " + "9" * 10_000 + "\n", "a: 1_000:99:99\n", "a: .inf\n", "\t\ta: 1\n", "a" * 2_000_000,
    "---\na: 1\n---\nb: 2\n", "{}: {}\n", "null\n", "a: 0x" + "f" * 10_000 + "\n", "*x\n", "&x\n",
    "a: !!set {x}\n", "a: !!timestamp x\n",
]  # fmt: skip


class Place:
    """Paths of intact samples, of the folder of this input, and of the marker that executed code would create."""

    def __init__(self, sound: Path, here: Path) -> None:
        self.sound, self.here, self.marker = sound, here, sound / "executed"

    def copy(self, name: str) -> Path:
        """Return a copy of an intact folder."""
        return shutil.copytree(self.sound / name, self.here / Path(name).name)

    def other(self, draw: Draw) -> bytes:
        """Return an intact file of a random kind."""
        every = sorted(path for path in self.sound.rglob("*") if path.is_file() and path.name != ".lock")
        return draw.choice(every).read_bytes()


def common(path: Path, place: Place, draw: Draw) -> bool:
    """Apply damage that is possible for any file; return False if nothing was done."""
    chance = draw.random()
    if chance < 0.06:
        special_file(path, draw)
    elif chance < 0.12:
        path.write_bytes(place.other(draw))
    elif chance < 0.15:
        path.write_bytes(draw.choice([evil_pickle, evil_checkpoint])(place.marker))
    return chance < 0.15


@functools.cache
def expected(folder: Path) -> float:
    """Compute the energy of water with an intact potential."""
    return energy(folder)


def energy(folder: Path, **how: Any) -> float:
    from mlff_calc import MLFFCalculator

    found = MLFFCalculator(folder, device="cpu", **how).evaluate(molecule("H2O"))["energy"]
    return float(found)


def require(condition: bool, what: str) -> None:
    if not condition:
        raise RuntimeError(f"read, and wrong: {what}")


# weights and headers ---------------------------------------------------------------------------------------------------


def weights(place: Place, draw: Draw) -> Callable[[], None]:
    name = draw.choice(["equiformer", "hegnn", "deq", "propagator", "score", "rollout"])
    folder = place.copy(f"potentials/{name}")
    file = folder / "weights.safetensors"
    if not common(file, place, draw):
        content = file.read_bytes()
        file.write_bytes(damage_table(content, draw) if draw.random() < 0.4 else damage_bytes(content, draw))
    if draw.random() < 0.1:
        shutil.copy(place.sound / "exported" / "script.pt", file)
    return lambda: _use_weights(place, folder, name, whole=True)


def headers(place: Place, draw: Draw) -> Callable[[], None]:
    name = draw.choice(["equiformer", "hegnn", "deq", "propagator", "score", "rollout"])
    folder = place.copy(f"potentials/{name}")
    file = folder / "weights.safetensors"
    file.write_bytes(damage_header(file.read_bytes(), draw, _signed))
    return lambda: _use_weights(place, folder, name, whole=False)


def _signed(content: bytes, header: dict[str, Any]) -> dict[str, Any]:
    """Return the header with a matching checksum, like that of a deliberately misleading file."""
    from safetensors.torch import load

    from mlff_calc.networks.files import checksum

    try:
        return header | {"sha256": checksum(load(content), json.loads(write_json(header)))}
    except (RecursionError, ValueError, TypeError):
        return header


def _use_weights(place: Place, folder: Path, name: str, *, whole: bool) -> None:
    from mlff_calc.export.opening import load_any
    from mlff_calc.propagator import load_propagator
    from mlff_calc.rollout import load_rollout
    from mlff_calc.score import load_score_model

    if name in ("propagator", "score"):
        (load_propagator if name == "propagator" else load_score_model)(folder)
        return
    if name == "rollout":
        rollout, water = load_rollout(folder), molecule("H2O")
        water.set_velocities(0.01 * water.positions)
        rollout.trajectory(water, [0.5 * rollout.horizon])
        return
    load_any(folder)
    found = energy(folder)
    require(np.isfinite(found), f"energy {found}")
    if whole:
        require(found == expected(place.sound / "potentials" / name), f"energy {found}")


# exported files --------------------------------------------------------------------------------------------------------


def exported(place: Place, draw: Draw) -> Callable[[], None]:
    sources = [place.sound / "exported" / name for name in ("own.pt", "own.pt", "script.pt", "library.pt2")]
    source = draw.choice([one for one in sources if one.is_file()])
    file = place.here / source.name
    shutil.copy(source, file)
    foreign = source.name != "own.pt"
    if draw.random() < 0.1:
        file.write_bytes((place.sound / "potentials" / "equiformer" / "weights.safetensors").read_bytes())
    elif not common(file, place, draw):
        content = file.read_bytes()
        if draw.random() < 0.5:
            file.write_bytes(damage_members(content, draw))
        elif not foreign or draw.random() < 0.8:
            file.write_bytes(damage_bytes(content, draw))
    trust = not foreign and draw.random() < 0.5

    def use() -> None:
        from mlff_calc.export import read_metadata

        found = energy(file, trust=trust)
        require(not foreign, "a foreign file ran")
        require(found == expected(place.sound / "exported" / "own.pt"), f"energy {found}")
        read_metadata(file)

    return use


# checkpoints -----------------------------------------------------------------------------------------------------------


def checkpoints(place: Place, draw: Draw) -> Callable[[], None]:
    name = draw.choice([name for name in ("run", "run", "motion", "stopped") if (place.sound / "runs" / name).is_dir()])
    folder = place.copy(f"runs/{name}")
    others = ["checkpoints/best.ckpt", "run.json", "recipe.yaml", "metrics.csv"]
    file = folder / draw.choice(["checkpoints/last.ckpt"] * 4 + others)
    if not common(file, place, draw):
        _damage_file_of_run(file, draw)

    def use() -> None:
        from mlff_calc.training.run import train

        recipe = place.sound / "recipes" / ("motion.yaml" if name == "motion" else "potential.yaml")
        if name == "motion":
            train(recipe, output=folder, resume=True)
        else:
            train(recipe, output=folder, resume=True)
            require(np.isfinite(_copper(folder / "potential")), "energies that are not finite")

    return use


def _copper(folder: Path) -> float:
    from mlff_calc import MLFFCalculator

    return float(MLFFCalculator(folder, device="cpu").evaluate(samples.frames(1, 9)[0])["energy"])


def _damage_file_of_run(file: Path, draw: Draw) -> None:
    if file.suffix == ".json":
        text = file.read_text()
        tree = write_json(damage_tree(json.loads(text), draw)).encode()
        file.write_bytes(tree if draw.random() < 0.6 else damage_text(text, draw))
    elif file.suffix != ".ckpt":
        file.write_bytes(damage_text(file.read_text(), draw))
    elif draw.random() < 0.4:
        file.write_bytes(damage_bytes(file.read_bytes(), draw))
    else:  # readable by torch, with other content, and half of the time a matching checksum
        content = torch.load(file, weights_only=True)
        tree = damage_tree(content, draw)
        if isinstance(tree, dict) and draw.random() < 0.5:
            from mlff_calc.training.checkpoint_files import save_tensors

            save_tensors(tree, file)
        else:
            torch.save(tree, file)


# states of molecular dynamics ------------------------------------------------------------------------------------------


def states(place: Place, draw: Draw) -> Callable[[], None]:
    name = draw.choice(["nve", "langevin", "bussi", "nose-hoover", "npt-iso", "npt", "deq", "deq"])
    folder = place.copy(f"md/{name}")
    (folder / "state.synced.json").unlink()
    file = folder / draw.choice(["state.json"] * 6 + ["trajectory.traj", "log.csv"])
    if not common(file, place, draw):
        if file.name == "state.json" and draw.random() < 0.8:
            from mlff_calc.dynamics.state import _sealed

            tree = json.loads(file.read_text())
            del tree["sha256"]
            text = write_json(damage_tree(tree, draw))
            file.write_text(_sealed(text) if draw.random() < 0.6 and text.endswith("}") else text)
        else:
            file.write_bytes(damage_bytes(file.read_bytes(), draw))

    def use() -> None:
        from mlff_calc import MLFFCalculator
        from mlff_calc.dynamics import MDRun

        calculator = MLFFCalculator(place.sound / "potentials" / "deq", device="cpu") if name == "deq" else EMT()
        run = MDRun.resume(folder, calculator)
        run.state.options["steps"] = min(run.options.steps, run.state.step + 2)
        result = MDRun.resume(folder, calculator, steps=run.state.step + 2).run()
        require(result.completed, "not completed")
        require(bool(np.isfinite(run.atoms.positions).all()), "positions that are not finite")

    return use


# recipes ---------------------------------------------------------------------------------------------------------------


def recipes(place: Place, draw: Draw) -> Callable[[], None]:
    name = draw.choice(["potential", "potential", "motion", "example", "motion_example", "rollout_example"])
    file = place.here / f"{name}.yaml"
    shutil.copy(place.sound / "recipes" / file.name, file)
    if not common(file, place, draw):
        text = file.read_text()
        chance = draw.random()
        if chance < 0.25:
            trick = draw.choice(YAML_TRICKS).replace("MARKER", str(place.marker))
            file.write_bytes((text + trick if draw.random() < 0.3 else trick).encode(errors="surrogatepass"))
        elif chance < 0.65:
            tree = damage_tree(yaml.safe_load(text), draw)
            file.write_text(write_json(tree))  # JSON is valid YAML
        else:
            file.write_bytes(damage_text(text, draw))

    def use() -> None:
        from mlff_calc.training.frames.labels import check_labels
        from mlff_calc.training.frames.read import read_frames
        from mlff_calc.training.propagator.parts import read_parts
        from mlff_calc.training.recipe import load_recipe
        from mlff_calc.training.rollout.data import read_windows

        if "rollout" in name:
            read_windows(load_recipe(file))
        elif "motion" in name:
            read_parts(load_recipe(file))
        else:
            recipe = load_recipe(file)
            check_labels(recipe, [part.count() for part in read_frames(recipe).values()])

    return use


# structures ------------------------------------------------------------------------------------------------------------


def structures(place: Place, draw: Draw) -> Callable[[], None]:
    source = draw.choice(sorted((place.sound / "structures").iterdir()))
    file = place.here / source.name
    shutil.copy(source, file)
    if not common(file, place, draw):
        content = source.read_bytes()
        if source.suffix == ".traj":
            file.write_bytes(damage_bytes(content, draw))
        elif source.suffix == ".json":
            file.write_text(write_json(damage_tree(json.loads(content), draw)))
        else:
            file.write_bytes(damage_text(content.decode(), draw))
    how = draw.randrange(3)

    def use() -> None:
        from mlff_calc.datasets import read_structures
        from mlff_calc.dynamics.structures import read_structure
        from mlff_calc.graph import graph_from_atoms

        if how == 0:
            found = [sample.atoms for sample in read_structures(file)]
        else:
            found = [read_structure(file, masses=how == 1)]
        for atoms in found[:5]:
            if len(atoms) < 1000:
                graph_from_atoms(atoms, 4.0)

    return use


# arrays ----------------------------------------------------------------------------------------------------------------


def arrays(place: Place, draw: Draw) -> Callable[[], None]:
    source = draw.choice(sorted((place.sound / "arrays").iterdir()))
    file = place.here / source.name
    shutil.copy(source, file)
    if not common(file, place, draw):
        if draw.random() < 0.25:
            file.write_bytes(damage_bytes(source.read_bytes(), draw))
        else:
            with np.load(source) as sound:
                file.write_bytes(damage_arrays(dict(sound), draw, place.marker))
    as_motion = source.name in ("mocap.npz", "nbody.npz") or draw.random() < 0.3
    part = draw.choice(["train", "test", None])

    def use() -> None:
        from mlff_calc.datasets import Units, read_structures
        from mlff_calc.datasets.motion import read_motion

        if as_motion:
            for sample in read_motion(file, part=part, horizon=4):
                require(bool(np.isfinite(sample.positions).all()), "positions that are not finite")
            return
        units = Units("eV", "Angstrom") if part == "test" and source.name == "short.npz" else None
        for sample in read_structures(file, part=part if source.name == "parts.npz" else None, units=units):
            numbers = sample.atoms.numbers
            require(bool(np.isfinite(sample.atoms.positions).all()), "positions that are not finite")
            require(len(numbers) > 0 and numbers.min() > 0 and numbers.max() < 119, f"elements {numbers}")

    return use


KINDS: dict[str, Callable[[Place, Draw], Callable[[], None]]] = {
    "weights": weights, "headers": headers, "checkpoints": checkpoints, "states": states, "recipes": recipes,
    "structures": structures, "arrays": arrays, "exported": exported,
}  # fmt: skip

__all__ = ["KINDS", "MLFFError", "Place", "split_weights"]
