"""Whole-graph compilation of potentials: AOTInductor for use, Inductor for training."""

from mlff_calc.export.cache import compiled_cache_dir
from mlff_calc.export.compiled import CompiledPotential, compile_potential, require_compiler
from mlff_calc.export.training import compile_for_training

__all__ = ["CompiledPotential", "compile_for_training", "compile_potential", "compiled_cache_dir", "require_compiler"]
