"""The sections of the recipe of a distillation."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlff_calc.training.recipe_section import Section

LEAST_LABELS = 50
"""Smallest number of labels from which a potential is made."""


class TeacherSection(Section):
    """What gives the labels."""

    name: str | None = None
    """gfn2-xtb, gfn1-xtb, emt, 7net-0, chgnet, or name or folder of a potential of this package."""
    python: str | None = None
    """module:function of a function that makes an ASE calculator, instead of a name."""
    options: dict[str, Any] = Field({})
    """Keyword arguments of the function, such as {accuracy: 0.1}."""
    environment: str | None = None
    """Python of another environment in which the teacher is installed; null for this one."""

    @model_validator(mode="after")
    def _one_teacher(self) -> TeacherSection:
        if self.name is not None and self.python is not None:
            raise ValueError("both `name` and `python` are given; keep one of them")
        if self.python is not None and ":" not in self.python:
            raise ValueError(f"python is {self.python!r}; write module:function")
        return self


class SystemsSection(Section):
    """Structures to begin with."""

    files: list[str] = Field([])
    """Files of structures, relative to the recipe, in any format that ASE reads."""
    smiles: list[str] = Field([])
    """SMILES of molecules; dots separate molecules in contact."""
    fragments: bool = False
    """Whether fragments of the SMILES by the rules of BRICS are systems too."""
    pairs: int = Field(0, ge=0, le=1000)
    """Number of pairs in contact, of the SMILES with each other and with themselves, that are systems too."""
    vacancies: int = Field(0, ge=0, le=100)
    """Number of supercells of each crystal that lack one atom and are systems too."""
    surfaces: list[tuple[int, int, int]] = Field([])
    """Miller indices, in the cells as given, of slabs of each crystal that are systems too."""
    frames: int | None = Field(None, ge=2)
    """Largest number of frames that each system gives at first; null for what the budget of labels allows."""
    conformers: int = Field(3, ge=1, le=1000)
    """Largest number of conformers of a SMILES."""
    temperatures: list[float] = Field([300.0, 600.0, 1000.0], min_length=1)
    """Temperatures of the dynamics by MMFF94 of a SMILES [K]."""
    rattle: list[float] = Field([0.02, 0.05, 0.1], min_length=1)
    """Standard deviations of random displacements [Angstrom]."""
    strain: float = Field(0.03, ge=0.0, le=0.3)
    """Largest strain of periodic cells."""
    held_out: float = Field(0.2, gt=0.0, lt=1.0)
    """Share of the systems (of a single system: of its frames) that no student ever learns."""

    @field_validator("surfaces")
    @classmethod
    def _planes(cls, value: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        if (0, 0, 0) in value:
            raise ValueError("0 0 0 are the indices of no surface; give indices such as [1, 1, 1]")
        planes = {tuple(one // math.gcd(*indices) for one in indices) for indices in value}
        if len(planes) < len(value):
            raise ValueError("some indices are of one family of planes, such as [1, 1, 1] and [2, 2, 2]; give each once")
        return value

    @field_validator("temperatures", "rattle")
    @classmethod
    def _positive(cls, value: list[float]) -> list[float]:
        if min(value) <= 0.0:
            raise ValueError("give numbers greater than 0")
        return value

    @model_validator(mode="after")
    def _something(self) -> SystemsSection:
        if not (self.files or self.smiles):
            raise ValueError("there are no structures; give `files` or `smiles`")
        if (self.pairs or self.fragments) and not self.smiles:
            raise ValueError("pairs and fragments are made of `smiles`, and there are none; give them")
        if (self.vacancies or self.surfaces) and not self.files:
            raise ValueError("vacancies and surfaces are made of crystals in `files`, and there are none; give them")
        return self


class ExploreSection(Section):
    """Dynamics of the students, by which new frames are found."""

    temperatures: list[float] = Field([300.0, 600.0, 1000.0], min_length=1)
    """Ladder of temperatures, which trajectories take in turn; those of the first of several rounds take the lowest [K]."""
    replicas: int = Field(12, ge=1, le=10_000)
    """Number of trajectories; a third as many are run for the audit."""
    steps: int = Field(400, ge=1)
    """Largest number of steps of a trajectory; fewer where the time is short."""
    every: int = Field(10, ge=1)
    """Number of steps between frames that are looked at."""
    timestep: float | None = Field(None, gt=0.0, le=20.0)
    """Time step; null for 0.5 where there is hydrogen, else 2 [fs]."""
    friction: float = Field(10.0, gt=0.0)
    """Friction of the Langevin thermostat [1/ps]."""
    max_force: float = Field(50.0, gt=0.0)
    """Force of a student above which a trajectory ends [eV/Angstrom]."""
    reactive: bool = False
    """Whether bonds of molecules may break and form; else a trajectory ends there."""

    @field_validator("temperatures")
    @classmethod
    def _positive(cls, value: list[float]) -> list[float]:
        if min(value) <= 0.0:
            raise ValueError("give temperatures greater than 0")
        return value


class StudentSection(Section):
    """What is trained: sections of a recipe of `mlff train`, and how many."""

    committee: int = Field(3, ge=1, le=20)
    """Number of students whose spread is the uncertainty; 1 takes the error heads of one (`potential.uncertainty`)."""
    potential: dict[str, Any] = Field({})
    """Section `potential` of a training recipe."""
    loss: dict[str, Any] = Field({})
    """Section `loss` of a training recipe."""
    optimizer: dict[str, Any] = Field({})
    """Section `optimizer` of a training recipe, without a budget."""
    trainer: dict[str, Any] = Field({})
    """Section `trainer` of a training recipe, without a seed."""
    steps: int | None = Field(None, ge=1)
    """Number of training steps of each student in a round; null for what the time allows."""
    final_steps: int | None = Field(None, ge=1)
    """Number of steps of the last training; null for the rest of the time."""

    @model_validator(mode="after")
    def _no_budget(self) -> StudentSection:
        given = [key for key in ("max_epochs", "max_minutes", "max_cpu_minutes") if key in self.optimizer]
        if given:
            raise ValueError(f"optimizer.{given[0]} is given; the budget is that of section `budget`, or `student.steps`")
        if "seed" in self.trainer:
            raise ValueError("trainer.seed is given; students differ by their seeds, which follow from `seed` of the recipe")
        return self


class LabelSection(Section):
    """How labels are made."""

    workers: int = Field(1, ge=1, le=256)
    """Number of processes of one thread each."""
    timeout: float = Field(60.0, gt=0.0)
    """Time for one label [s]."""
    retries: list[dict[str, Any]] | None = None
    """Options of the teacher for a structure that failed, one set for each further attempt; null for the teacher's own."""
    stress: Literal["auto"] | bool = "auto"
    """Whether stresses are asked for; auto for crystals."""


class StopSection(Section):
    """When it is good enough."""

    target: float = Field(0.03, gt=0.0)
    """Mean absolute error of forces on audit frames that is wanted [eV/Angstrom]."""
    tolerance: float | None = Field(None, gt=0.0)
    """Error of the worst force of a frame that is accepted in 90 of 100 cases; null for twice the target [eV/Angstrom]."""
    candidates: float = Field(0.01, ge=0.0, lt=1.0)
    """Share of frames above the tolerance below which nothing is left to learn."""


class BudgetSection(Section):
    """What it may cost; the first budget that is used up ends the rounds."""

    minutes: float | None = Field(None, gt=0.0)
    """Time by the clock, the last training included [min]."""
    labels: int | None = Field(None, ge=1)
    """Number of labels."""
    rounds: int = Field(4, ge=0)
    """Largest number of rounds of exploration."""
    final: float = Field(0.4, ge=0.0, lt=1.0)
    """Share of the time that is kept for the last training."""

    @model_validator(mode="after")
    def _something(self) -> BudgetSection:
        if self.minutes is None and self.labels is None:
            raise ValueError("there is no budget; give `minutes` or `labels`")
        if self.labels is not None and self.labels < LEAST_LABELS:
            raise ValueError(f"labels is {self.labels}; a potential needs at least {LEAST_LABELS} labels")
        return self
