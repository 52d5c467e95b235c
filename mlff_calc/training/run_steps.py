"""Steps of a run that are common to all kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from mlff_calc.errors import OptionError, RecipeError
from mlff_calc.export import require_compiler
from mlff_calc.training.checkpoint_files import check_best, load_tensors
from mlff_calc.training.folder import RunFolder
from mlff_calc.training.recipe_base import TrainingRecipe

Network = TypeVar("Network", bound=nn.Module)


def check_compiler(recipe: TrainingRecipe) -> None:
    """Check that there is a compiler where the recipe asks for compilation.

    Raises:
        RecipeError: There is no compiler.
    """
    if not recipe.trainer.compile:
        return
    try:
        require_compiler()
    except OptionError as error:
        raise RecipeError(f"{recipe.origin}: trainer.compile is true, but {error} (trainer.compile: false)") from error


def output_folder(recipe: TrainingRecipe, output: Path | str | None) -> RunFolder:
    """Return the folder of the run: `output`, or that of the recipe.

    Raises:
        RecipeError: Neither names a folder.
    """
    if output is not None:
        return RunFolder(Path(output).absolute())
    if recipe.output is None:
        raise RecipeError(f"{recipe.origin}: there is no `output`; add it to the recipe, or give --output")
    return RunFolder(recipe.resolve(recipe.output))


def best_network(network: Network, folder: RunFolder) -> Network:
    """Return a copy of a network on the CPU, in evaluation mode, with the averaged weights of the best epoch.

    Raises:
        TrainingError: `best.ckpt` is missing, damaged or of another network.
    """
    source: Any = network
    best: Network = source.to_precision(source.precision).cpu()
    weights = check_best(folder.best, load_tensors(folder.best), dict(best.named_parameters()))
    with torch.no_grad():
        for name, parameter in best.named_parameters():
            parameter.copy_(weights[name])
    return best.eval()
