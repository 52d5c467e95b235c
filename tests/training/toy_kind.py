"""A trainable kind from outside of the package: a line through points, `y = slope * x + offset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mlff_calc.errors import OptionError
from mlff_calc.networks.base import Network
from mlff_calc.networks.load import load_network
from mlff_calc.training.fingerprints import fingerprint_all
from mlff_calc.training.propagator.failures import NamedSamples
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.task import Outcome, Prepared, Task


class LineRecipe(TrainingRecipe):
    line: dict[str, Any]
    data: dict[str, str]


class Line(Network):
    kind = "line"
    units: ClassVar = {"y": "1"}
    use = "use `mlff eval`: it gives a line"

    def __init__(self, config: dict[str, Any], seed: int = 0) -> None:
        super().__init__(config)
        torch.manual_seed(seed)
        self.layer = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@dataclass(frozen=True)
class Points:
    xy: Tensor
    frames: list[int]

    def __len__(self) -> int:
        return len(self.xy)

    def batch(self, frames: list[int], epoch: int, generator: torch.Generator) -> Points:
        return Points(self.xy[frames], frames)

    def to(self, device: torch.device) -> Points:
        return Points(self.xy.to(device), self.frames)


def read_points(path: Path) -> Tensor:
    return torch.tensor([[float(word) for word in line.split()] for line in path.read_text().splitlines()])


@dataclass(frozen=True)
class LineReport:
    mae: float

    def as_text(self) -> str:
        return f"MAE {self.mae:.4g}"

    def as_dict(self) -> dict[str, Any]:
        return {"mae": self.mae}


def report(network: Line, points: Tensor) -> LineReport:
    with torch.no_grad():
        return LineReport(float((network(points[:, :1]) - points[:, 1:]).abs().mean()))


class LineTask(Task[LineRecipe, Points]):
    name = "line"
    recipe = LineRecipe
    example = "line: {}\n"
    items = "points"

    def read(self, recipe: LineRecipe) -> dict[str, Points]:
        xy = read_points(recipe.resolve(recipe.data["file"]))
        parts = {"train": xy[: 3 * len(xy) // 5], "valid": xy[3 * len(xy) // 5 :]}
        return {part: Points(xy, list(range(len(xy)))) for part, xy in parts.items()}

    def fingerprints(self, recipe: LineRecipe, parts: Mapping[str, Points]) -> dict[str, dict[str, Any]]:
        mark = fingerprint_all([recipe.resolve(recipe.data["file"])], "a file")
        return {part: mark | {"points": len(points)} for part, points in parts.items()}

    def prepare(self, recipe: LineRecipe, parts: Mapping[str, Points]) -> Prepared:
        from toy_module import LineModule

        line = Line({}, recipe.trainer.seed)
        names = {part: [f"point {k} of {part}" for k in points.frames] for part, points in parts.items()}
        module, train, valid = partial(LineModule, line, recipe), parts["train"], parts["valid"]
        return Prepared(line, train, valid, module, partial(NamedSamples, places=names), "points")

    def judge(self, recipe: LineRecipe, network: Line, samples: Points) -> LineReport:
        return report(network, samples.xy)

    def card(self, outcome: Outcome[LineRecipe, Points]) -> str:
        return f"# {outcome.recipe.origin.stem}: a line through {len(outcome.parts['train'])} points\n"

    def evaluate(self, model: str, data: Sequence[Path], **asked: Any) -> LineReport:
        if len(data) != 1:
            raise OptionError(f"a line takes one file of points, not {len(data)}; name one")
        return report(load_network(model, Line.kind, Line), read_points(data[0]))
