"""Training for comparisons: by a recipe, for a given processor time, in a separate process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlff_calc.bench.processes import run_logged, thread_environment
from mlff_calc.errors import BenchmarkError
from mlff_calc.networks import shipped_folder


def shipped_recipe_file(name: str) -> Path:
    """Return the path of the recipe of a shipped potential.

    Raises:
        BenchmarkError: The recipe is not installed.
    """
    file = shipped_folder() / name / "recipe.yaml"
    if not file.is_file():
        raise BenchmarkError(
            f"the recipe of the shipped potential {name!r} is not installed, so none can be trained for comparison"
        )
    return file


@contextmanager
def data_folder(folder: Path | None) -> Iterator[None]:
    """Set `MLFF_DATA` to a folder of data sets inside the block, for recipes that are read there."""
    before = os.environ.get("MLFF_DATA")
    if folder is not None:
        os.environ["MLFF_DATA"] = str(folder.resolve())
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("MLFF_DATA", None)
        else:
            os.environ["MLFF_DATA"] = before


def run_training(recipe: Path, folder: Path, *, data: Path | None, threads: int, words: list[str]) -> None:
    """Run `mlff train` in a separate process, with a log beside the folder.

    Args:
        recipe: File of the recipe.
        folder: Folder of the run.
        data: Folder of data sets, `MLFF_DATA` in the recipe; None leaves this variable unchanged.
        threads: Number of threads of PyTorch.
        words: Further words of the command line, such as `--overwrite`.

    Raises:
        BenchmarkError: The training failed. The text names the log.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlff_calc.cli.main", "train", str(recipe), "--quiet", "--output", str(folder)]
    environment = thread_environment(threads) | ({} if data is None else {"MLFF_DATA": str(data.resolve())})
    run_logged([*command, *words], folder.parent / f"{folder.name}.log", env=environment)


def train_by_recipe(recipe: Path, minutes: float, folder: Path, *, data: Path | None, threads: int) -> Path:
    """Train a potential by a recipe, with a budget in processor minutes.

    Returns:
        The folder of the potential.

    Raises:
        BenchmarkError: The training failed.
    """
    budget = {"max_minutes": "null", "max_epochs": "null", "max_cpu_minutes": minutes}
    words = ["--overwrite"]
    for key, value in budget.items():
        words += ["--set", f"optimizer.{key}={value}"]
    run_training(recipe, folder, data=data, threads=threads, words=words)
    return folder / "potential"
