"""Models that a calculator calls with a graph, prepared for its device, precision, compilation and reuse of fixed points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mlff_calc.calculators.reuse import ColdModel, Reuse, ReusingModel, reuse_of, wants_shadow
from mlff_calc.calculators.shadow import Shadow, ShadowModel
from mlff_calc.calculators.stats import CalculatorStats
from mlff_calc.device import resolve_device
from mlff_calc.errors import OptionError
from mlff_calc.export.exported import ExportedPotential
from mlff_calc.fixed_point.memory import RunCache
from mlff_calc.potential import Potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.potential.fixed_point_step import FixedPointStep
from mlff_calc.potential.shadow import ShadowStep


def device_of(potentials: Sequence[Any], name: str) -> torch.device:
    """Return the device of potentials; `auto` is the device for which the first exported file was made, if there is one.

    Args:
        potentials: Potentials or exported files.
        name: Name of the device, see `resolve_device`.

    Raises:
        OptionError: The device does not exist, see `resolve_device`.
    """
    exported = _exported(potentials)
    return resolve_device(exported[0].metadata.device if name == "auto" and exported else name)


def load_model(
    potential: Any, parameters: Mapping[str, Any], device: torch.device, cache: RunCache, stats: CalculatorStats
) -> Any:
    """Return the model that a calculator calls with a graph: a copy of the potential, with the parameters applied.

    Args:
        potential: Potential or exported file, which is not changed.
        parameters: Parameters of a calculator, of which `precision`, `compile` and `reuse` are used.
        device: Device of the model.
        cache: Memories of fixed points.
        stats: Counts to which solves are added.

    Raises:
        OptionError: An exported file is to be compiled, or an option of the reuse cannot be honoured.
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
    elif isinstance(mode, Shadow):
        step = ShadowStep(eager, mode.sizes)
    elif mode is not None:
        step = FixedPointStep(eager, mode.sizes)
    if mode is None:
        return ColdModel(eager, stats) if isinstance(potential, FixedPointPotential) else step
    if isinstance(mode, Shadow):
        return ShadowModel(eager, mode, step, cache, stats)
    return ReusingModel(eager, mode, step, cache, stats)


def reuse_mode(potential: Any, parameters: Mapping[str, Any]) -> Reuse | Shadow | None:
    """Return the mode in which fixed points or fields of a potential are reused; None without them or without reuse.

    Args:
        potential: Potential or exported file.
        parameters: Parameters of a calculator, of which `reuse` and `precision` are used.
    """
    fixed_point = isinstance(potential, FixedPointPotential)
    if isinstance(potential, ExportedPotential) and wants_shadow(parameters["reuse"]):
        raise OptionError(
            f"reuse='shadow' with the exported file {potential.path}: Python solves exported files anew in every step; give "
            "the potential itself, or leave reuse out"
        )
    fields = isinstance(potential, Potential) and potential.fields is not None
    return reuse_of(parameters["reuse"], fixed_point=fixed_point, fields=fields, precision=parameters["precision"])


def runs_code(potentials: Sequence[Any], parameters: Mapping[str, Any]) -> bool:
    """Whether models run compiled or exported code, and not only Python and tensor operations."""
    return bool(parameters["compile"]) or bool(_exported(potentials))


def compiled_files(potentials: Sequence[Any]) -> list[Path]:
    """Return the paths of exported files that contain compiled code."""
    return [one.path for one in _exported(potentials) if str(one.path).endswith(".pt2")]


def _exported(potentials: Sequence[Any]) -> list[ExportedPotential]:
    return [one for one in potentials if isinstance(one, ExportedPotential)]
