"""Benchmarks: time of a calculator's step, scaling, memory, and paired runs with other programs."""

from mlff_calc.bench.models import calculator_for, make_calculator, random_config
from mlff_calc.bench.motion import moving_frames
from mlff_calc.bench.step import StepTiming, time_system
from mlff_calc.bench.systems import DEFAULT_SYSTEMS, SYSTEMS, build_system, parse_systems

__all__ = [
    "DEFAULT_SYSTEMS",
    "SYSTEMS",
    "StepTiming",
    "build_system",
    "calculator_for",
    "make_calculator",
    "moving_frames",
    "parse_systems",
    "random_config",
    "time_system",
]
