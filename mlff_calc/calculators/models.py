"""Models that a calculator calls with a graph: on a device, in a precision, compiled or not, with or without a memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mlff_calc.calculators.reuse import ColdModel, Reuse, ReusingModel, reuse_of
from mlff_calc.calculators.stats import CalculatorStats
from mlff_calc.device import resolve_device
from mlff_calc.errors import OptionError
from mlff_calc.export.exported import ExportedPotential
from mlff_calc.fixed_point.memory import RunCache
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.fixed_point_step import FixedPointStep


def device_of(potentials: Sequence[Any], name: str) -> torch.device:
    """Where potentials run: `auto` is the device that the first exported file was made for, where there is one.

    Args:
        potentials: potentials or exported files.
        name: see `resolve_device`.

    Raises:
        OptionError: see `resolve_device`.
    """
    exported = _exported(potentials)
    return resolve_device(exported[0].metadata.device if name == "auto" and exported else name)


def load_model(
    potential: Any, parameters: Mapping[str, Any], device: torch.device, cache: RunCache, stats: CalculatorStats
) -> Any:
    """What is called with a graph: a copy in the precision asked for, on `device`; the user's object is left alone.

    Args:
        potential: potential or exported file.
        parameters: those of a calculator: `precision`, `compile` and `reuse` are read.
        device: where it runs.
        cache: memories of its fixed points.
        stats: what its solves are counted in.

    Raises:
        OptionError: an exported file is to be compiled, or an option of the reuse cannot be honoured.
    """
    precision, mode = parameters["precision"], reuse_mode(potential, parameters)
    if isinstance(potential, ExportedPotential):
        if parameters["compile"]:
            raise OptionError(f"{potential.path} is exported already; leave compile off")
        return potential.to_precision(precision).to(device)
    eager = potential.to_precision(precision).to(device).eval().requires_grad_(False)
    step: Any = eager
    if parameters["compile"]:
        from mlff_calc.export import compile_potential

        step = compile_potential(potential, device=device, precision=precision, step=None if mode is None else mode.sizes)
    elif mode is not None:
        step = FixedPointStep(eager, mode.sizes)
    if mode is None:
        return ColdModel(eager, stats) if isinstance(potential, FixedPointPotential) else step
    return ReusingModel(eager, mode, step, cache, stats)


def reuse_mode(potential: Any, parameters: Mapping[str, Any]) -> Reuse | None:
    """How fixed points of a potential are reused; None where there are none, or they are not.

    Args:
        potential: potential or exported file.
        parameters: those of a calculator: `reuse` and `precision` are read.
    """
    fixed_point = isinstance(potential, FixedPointPotential) and not potential.direct_forces
    return reuse_of(parameters["reuse"], fixed_point=fixed_point, precision=parameters["precision"])


def runs_code(potentials: Sequence[Any], parameters: Mapping[str, Any]) -> bool:
    """Whether models are compiled or exported code, which is more than tensors and Python."""
    return bool(parameters["compile"]) or bool(_exported(potentials))


def compiled_files(potentials: Sequence[Any]) -> list[Path]:
    """Paths of exported files that hold compiled code."""
    return [one.path for one in _exported(potentials) if str(one.path).endswith(".pt2")]


def _exported(potentials: Sequence[Any]) -> list[ExportedPotential]:
    return [one for one in potentials if isinstance(one, ExportedPotential)]
