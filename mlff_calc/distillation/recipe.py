"""The recipe of a distillation: one YAML file, checked as a whole before anything runs or is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from mlff_calc.errors import RecipeError
from mlff_calc.training.recipe import parse_recipe
from mlff_calc.training.recipe_base import TrainingRecipe, read_recipe_file
from mlff_calc.training.recipe_errors import describe_validation_error
from mlff_calc.training.recipe_section import Section

LEAST_LABELS = 50
"""Smallest number of labels from which a potential is made."""
BACKBONE: dict[str, Any] = {"name": "hegnn", "cutoff": 5.0, "l_max": 2, "channels": 32, "n_layers": 2}
"""Backbone of students by default."""
OPTIMIZER: dict[str, Any] = {"learning_rate": 0.004, "warmup_steps": 20, "batch_size": 8, "ema_decay": 0.99}
"""Optimizer of students by default."""


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
    """SMILES of molecules."""
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


class DistillationRecipe(Section):
    """Recipe of a distillation."""

    teacher: TeacherSection = TeacherSection()
    """What gives the labels."""
    systems: SystemsSection
    """Structures to begin with."""
    explore: ExploreSection = ExploreSection()
    """Dynamics of the students, by which new frames are found."""
    student: StudentSection = StudentSection()
    """What is trained."""
    label: LabelSection = LabelSection()
    """How labels are made."""
    stop: StopSection = StopSection()
    """When it is good enough."""
    budget: BudgetSection
    """What it may cost."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of everything random."""
    output: str | None = None
    """Folder of the run, relative to the recipe; `mlff distill --output` replaces it."""

    _origin: Path = PrivateAttr(default=Path("recipe"))
    _raw: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def origin(self) -> Path:
        """File that the recipe was read from."""
        return self._origin

    @property
    def tolerance(self) -> float:
        """Accepted error of the worst force of a frame, eV/Angstrom."""
        return 2.0 * self.stop.target if self.stop.tolerance is None else self.stop.tolerance

    @property
    def batch_size(self) -> int:
        """Number of frames in a batch of a training."""
        return int(self.student.optimizer.get("batch_size", OPTIMIZER["batch_size"]))

    def resolve(self, path: str) -> Path:
        """Absolute path of a file named in the recipe."""
        return (self._origin.parent / Path(path).expanduser()).resolve()

    def fixed(self) -> dict[str, Any]:
        """What may not change when a run is resumed, by name; the teacher is compared by itself."""
        whole = self.model_dump(mode="json", exclude={"output", "budget", "teacher"})
        for name in ("workers", "timeout"):
            del whole["label"][name]
        whole["systems"]["files"] = [str(self.resolve(file)) for file in self.systems.files]
        return whole

    def training(
        self, origin: Path | str, data: dict[str, Any], budget: dict[str, Any], seed: int, **more: Any
    ) -> TrainingRecipe:
        """The recipe of one training.

        Args:
            origin: File that it stands for, whose folder its paths are relative to.
            data: Section `data`.
            budget: Budget of the optimizer.
            seed: Seed of the training.
            more: Further sections, and `uncertainty` and `stress` (whether there is one to learn).

        Raises:
            RecipeError: The sections of the student do not make a recipe.
        """
        potential = {"backbone": BACKBONE, **self.student.potential}
        if isinstance(potential["backbone"], dict) and "name" not in potential["backbone"]:
            potential["backbone"] = BACKBONE | potential["backbone"]
        if more.pop("uncertainty", False) and potential.get("uncertainty") is None:
            potential["uncertainty"] = {}
        loss = dict(self.student.loss)
        if more.pop("stress", False) and "stress" not in loss:
            loss = {"energy": 8.0, "forces": 1.0, "stress": 10.0, "form": "mse"} | loss
        return parse_recipe(
            {
                "potential": potential, "data": data, **({"loss": loss} if loss else {}),
                "optimizer": {**OPTIMIZER, **self.student.optimizer, **budget},
                "trainer": {"device": "cpu", **self.student.trainer, "seed": seed}, **more,
            },
            origin,
        )  # fmt: skip


def parse_distillation(data: dict[str, Any], origin: Path | str) -> DistillationRecipe:
    """Check a recipe given as a dict.

    Raises:
        RecipeError: There are unknown keys, wrong types or values out of range; the text names file, key and cure.
    """
    try:
        recipe = DistillationRecipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(describe_validation_error(error, DistillationRecipe, data, str(origin))) from None
    recipe._origin, recipe._raw = Path(origin).absolute(), data
    recipe.training(f"{origin}: student", {"train": "train.extxyz", "valid": "valid.extxyz"}, {"max_epochs": 1}, 0)
    return recipe


def load_distillation(path: Path | str, overrides: list[str] | tuple[str, ...] = ()) -> DistillationRecipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        overrides: `section.key=value` strings that replace values of the file.

    Raises:
        RecipeError: The file is missing, not YAML, or not a valid recipe.
    """
    return parse_distillation(read_recipe_file(path, overrides), path)
