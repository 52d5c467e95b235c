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
from mlff_calc.graph.keys import Graph, Key, register_key
from mlff_calc.networks.base import Network
from mlff_calc.networks.load import load_network
from mlff_calc.training.card import card_text
from mlff_calc.training.data import Batch
from mlff_calc.training.failures import NamedSamples
from mlff_calc.training.fingerprints import fingerprint_all
from mlff_calc.training.objective import Objective, Stage
from mlff_calc.training.recipe_base import TrainingRecipe
from mlff_calc.training.task import Outcome, Prepared, Task

X = register_key(Key("abscissa", "system", (1,), None, "", "where a point is")).name
Y = register_key(Key("ordinate", "system", (1,), None, "1", "how high it is")).name


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

    def forward(self, graph: Graph) -> dict[str, Tensor]:
        return {Y: self.layer(graph[X])}


@dataclass(frozen=True)
class Points:
    xy: Tensor

    def __len__(self) -> int:
        return len(self.xy)

    def batch(self, frames: Sequence[int], epoch: int, generator: torch.Generator) -> Batch:
        x, y = self.xy[list(frames)].T[..., None]
        return Batch({X: x}, {Y: y}, torch.ones(len(frames)), list(frames))


class LineObjective(Objective):
    def __init__(self, noise: float) -> None:
        self.noise = noise

    def prepare(self, stage: Stage, batch: Batch, generator: torch.Generator) -> Graph:
        noise = torch.randn(batch.graph[X].shape, generator=generator)
        return {X: batch.graph[X] + self.noise * noise if stage == "train" else batch.graph[X]}

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        return (outputs[Y] - batch.labels[Y]).square().mean()


def read_points(path: Path) -> Tensor:
    return torch.tensor([[float(word) for word in line.split()] for line in path.read_text().splitlines()])


@dataclass(frozen=True)
class LineReport:
    mae: float

    def as_text(self) -> str:
        return f"MAE {self.mae:.4g}"

    def as_dict(self) -> dict[str, Any]:
        return {"mae": self.mae}

    def rows(self) -> list[tuple[str, ...]]:
        return [("", "MAE"), ("y", f"{self.mae:.4g}")]


def report(network: Line, points: Tensor) -> LineReport:
    with torch.no_grad():
        return LineReport(float((network({X: points[:, :1]})[Y] - points[:, 1:]).abs().mean()))


class LineTask(Task[LineRecipe, Points]):
    name = "line"
    recipe = LineRecipe
    example = "line: {}\n"
    items = "points"

    def read(self, recipe: LineRecipe) -> dict[str, Points]:
        xy = read_points(recipe.resolve(recipe.data["file"]))
        parts = {"train": xy[: 3 * len(xy) // 5], "valid": xy[3 * len(xy) // 5 :]}
        return {part: Points(xy) for part, xy in parts.items()}

    def fingerprints(self, recipe: LineRecipe, parts: Mapping[str, Points]) -> dict[str, dict[str, Any]]:
        mark = fingerprint_all([recipe.resolve(recipe.data["file"])], "a file")
        return {part: mark | {"points": len(points)} for part, points in parts.items()}

    def prepare(self, recipe: LineRecipe, parts: Mapping[str, Points]) -> Prepared:
        line = Line({}, recipe.trainer.seed)
        names = {part: [f"point {k} of {part}" for k in range(len(points))] for part, points in parts.items()}
        bad = partial(NamedSamples, places=names)
        objective = LineObjective(recipe.line.get("noise", 0.0))
        return Prepared(line, objective, parts["train"], parts["valid"], bad, "points")

    def judge(self, recipe: LineRecipe, network: Line, samples: Points) -> LineReport:
        return report(network, samples.xy)

    def card(self, outcome: Outcome[LineRecipe, Points]) -> str:
        return card_text(
            outcome,
            self.items,
            what=f"a line through {len(outcome.parts['train'])} points",
            data=["Points in the plane."],
            limits="Curves.",
        )

    def evaluate(self, model: str, data: Sequence[Path], **asked: Any) -> LineReport:
        if len(data) != 1:
            raise OptionError(f"a line takes one file of points, not {len(data)}; name one")
        return report(load_network(model, Line.kind, Line), read_points(data[0]))
