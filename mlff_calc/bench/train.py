"""Training for comparisons: rMD17 ethanol by the recipe of the shipped potential, for a number of minutes."""

from __future__ import annotations

import sys
from pathlib import Path

from mlff_calc.bench.processes import run_logged, thread_environment
from mlff_calc.errors import BenchmarkError
from mlff_calc.networks import shipped_folder


def find_rmd17(name: str, data: Path | None) -> Path:
    """The file rmd17/NAME.npz in a folder of data sets.

    Raises:
        BenchmarkError: it is not there.
    """
    path = (data or Path("../shared/data")) / "rmd17" / f"{name}.npz"
    if not path.is_file():
        msg = f"training needs {path}, which is missing; name the folder of data sets with --data or MLFF_DATA"
        raise BenchmarkError(msg)
    return path


def shipped_recipe_file(name: str) -> Path:
    """Recipe of a shipped potential.

    Raises:
        BenchmarkError: It is not installed.
    """
    file = shipped_folder() / name / "recipe.yaml"
    if not file.is_file():
        raise BenchmarkError(
            f"the recipe of the shipped potential {name!r} is not installed, so none can be trained for comparison"
        )
    return file


def train_ethanol(
    minutes: float,
    source: Path,
    folder: Path,
    *,
    threads: int,
    settings: dict[str, object] | None = None,
    recipe: str = "ethanol",
) -> Path:
    """Train on rMD17 ethanol by the recipe of a shipped potential, in a process of its own.

    Args:
        minutes: budget, compilation not counted.
        source: rmd17/ethanol.npz, whose grandparent holds the data sets.
        folder: of the run.
        threads: of PyTorch.
        settings: values of the recipe to change, by dotted key.
        recipe: name of the shipped potential.

    Returns:
        The folder of the potential.

    Raises:
        BenchmarkError: there is no such recipe, or training failed.
    """
    file = shipped_recipe_file(recipe)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlff_calc.cli.main", "train", str(file), "--quiet", "--overwrite"]
    command += ["--output", str(folder)]
    changes = {"optimizer.max_minutes": minutes, "optimizer.max_epochs": "null", **(settings or {})}
    for key, value in changes.items():
        command += ["--set", f"{key}={value}"]
    environment = {**thread_environment(threads), "MLFF_DATA": str(source.resolve().parents[1])}
    run_logged(command, folder.parent / f"{folder.name}.log", env=environment)
    return folder / "potential"
