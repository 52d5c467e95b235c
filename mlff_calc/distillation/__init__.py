"""A fast potential from any ASE calculator: labels, students, exploration and selection, until the errors are small.

Names are imported on first use: teachers' processes and executors' workers import `serve` alone, and no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlff_calc.distillation.loop import Distillation
    from mlff_calc.distillation.recipe import DistillationRecipe, load_distillation
    from mlff_calc.distillation.result import Distilled
    from mlff_calc.distillation.teachers import Teacher, teacher_of

__all__ = ["Distillation", "DistillationRecipe", "Distilled", "Teacher", "load_distillation", "teacher_of"]
_HOMES = {
    "Distillation": "loop",
    "DistillationRecipe": "recipe",
    "Distilled": "result",
    "Teacher": "teachers",
    "load_distillation": "recipe",
    "teacher_of": "teachers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
