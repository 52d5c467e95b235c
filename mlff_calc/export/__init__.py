"""Potentials as compiled code and as files for other programs."""

from mlff_calc.export.artifact import export_potential
from mlff_calc.export.cache import compiled_cache_dir
from mlff_calc.export.check import ExportError
from mlff_calc.export.compiled import CompiledPotential, compile_potential, require_compiler
from mlff_calc.export.exported import ExportedPotential, load_exported
from mlff_calc.export.metadata import read_metadata
from mlff_calc.export.stepping import ShadowStepping, Stepping
from mlff_calc.export.training import compile_for_training

__all__ = [
    "CompiledPotential",
    "ExportError",
    "ExportedPotential",
    "ShadowStepping",
    "Stepping",
    "compile_for_training",
    "compile_potential",
    "compiled_cache_dir",
    "export_potential",
    "load_exported",
    "read_metadata",
    "require_compiler",
]
