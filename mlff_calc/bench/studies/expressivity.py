"""Study of the degrees that can distinguish a symmetric structure from a rotated copy, by theory, training and noise.

The prediction of theory follows from the symmetry group of each structure (`symmetric_graphs`), the measurement from
training (`degree_probe`). A cell of the table is a structure and a row of degrees. If one of the degrees has an invariant,
its accuracy must be 100 % for every seed, otherwise 50 %. In degrees without an invariant the summed features must vanish.
If no degree has an invariant, the logits of structure and copy must agree.

Noise breaks the symmetry, so the rule no longer applies. Two properties of noisy structures are measured: whether a network
learns to distinguish one random sample from its copy, and whether training on new samples at every step generalizes to
samples that it has not seen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

from mlff_calc.backbones.hegnn import HIGHEST_L_MAX
from mlff_calc.bench.studies.degree_probe import (
    TIE,
    Batch,
    DegreeRow,
    Judgement,
    SeededProbes,
    pairs_of,
    random_rotations,
)
from mlff_calc.bench.studies.symmetric_graphs import STRUCTURES, SymmetricGraph, open_degrees, symmetric_graph
from mlff_calc.errors import OptionError

logger = logging.getLogger(__name__)

POOLED_ZERO = 1e-5
"""Length below which summed features count as zero. A larger value hides larger deviations from theory."""
DEGREES = tuple(range(1, HIGHEST_L_MAX + 1))
NOISES = (0.01, 0.05, 0.10, 0.50)  # standard deviations, in units of the mean distance of the points from their centre
NOISY_STRUCTURE = "tetrahedron"
NOISY_ROWS = (DegreeRow(0), DegreeRow(1), DegreeRow(3), DegreeRow(3, only=False))
PICTURES = (".png", ".svg", ".pdf")
TRAINING_PAIRS, TEST_PAIRS = 4, 64  # pairs per step and in the test; more pairs are slower and give steadier accuracies


@dataclass(frozen=True)
class Protocol:
    """Parameters of the training of probes.

    Attributes:
        n_seeds: Number of networks per cell, each with a different rotation.
        steps: Largest number of steps of Adam.
        rate: Learning rate.
        channels: Number of channels of the scalars.

    Raises:
        OptionError: A number is not positive.
    """

    n_seeds: int = 10
    steps: int = 200
    rate: float = 3e-3
    channels: int = 32

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                msg = f"{name} is {value}; give a number above 0"
                raise OptionError(msg)


@dataclass(frozen=True)
class Cell:
    """One structure and one row of degrees.

    Attributes:
        structure, row: Names of the structure and of the row.
        expected: Accuracy predicted by theory, 0.5 or 1.
        zeros: Degrees of the row whose sums must vanish.
        found: Measured results.
        seconds: Duration of the measurement.
    """

    structure: str
    row: str
    expected: float
    zeros: list[int]
    found: Judgement
    seconds: float

    @property
    def deviations(self) -> list[str]:
        """Deviations from theory, one sentence each."""
        found = []
        wrong = [100.0 * accuracy for accuracy in self.found.accuracies if accuracy != self.expected]
        place = f"{self.structure}, {self.row}"
        if wrong:
            seeds = f"{len(wrong)} of {len(self.found.accuracies)} seeds"
            found.append(
                f"{place}: {seeds} have an accuracy other than {100.0 * self.expected:g} %, such as {wrong[0]:g} %"
            )
        if self.expected < 1.0 and self.found.gaps[1] > TIE:
            found.append(f"{place}: logits of structure and copy differ by {self.found.gaps[1]:.1e}, more than {TIE:g}")
        for degree in self.zeros:
            length = self.found.pooled[degree - 1][1]
            if length > POOLED_ZERO:
                found.append(f"{place}: the sum of degree {degree} is {length:.1e}, and must be below {POOLED_ZERO:g}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return all fields and the deviations, ready for JSON."""
        return {**asdict(self), "deviations": self.deviations}


def rows_of(degrees: Sequence[int]) -> list[DegreeRow]:
    """Return the rows for some degrees: EGNN, each degree alone, and for each degree above 1 all degrees up to it.

    Raises:
        OptionError: There are no degrees, a degree is given twice, or one is out of range.
    """
    if not degrees or len(set(degrees)) < len(degrees) or not set(degrees) <= set(DEGREES):
        given = ", ".join(map(str, degrees)) or "none"
        msg = f"degrees to measure: {given}; give each once, from 1 to {HIGHEST_L_MAX}, such as 1,2,3"
        raise OptionError(msg)
    chosen = sorted(degrees)
    alone = [DegreeRow(degree) for degree in chosen]
    return [DegreeRow(0), *alone, *[DegreeRow(degree, only=False) for degree in chosen if degree > 1]]


def graphs_of(names: Sequence[str] = STRUCTURES) -> list[SymmetricGraph]:
    """Return structures by their names.

    Raises:
        OptionError: There are no names, or a name is unknown.
    """
    if not names:
        msg = f"no structures; name some of {', '.join(STRUCTURES)}"
        raise OptionError(msg)
    return [symmetric_graph(name) for name in dict.fromkeys(names)]


def measure_table(graphs: Sequence[SymmetricGraph], rows: Sequence[DegreeRow], protocol: Protocol) -> list[Cell]:
    """Train and evaluate every cell. Training ends early once all seeds distinguish the structures clearly."""
    rotations = random_rotations(list(range(protocol.n_seeds)))
    cells = []
    for graph in graphs:
        started, batch = time.perf_counter(), pairs_of(graph, rotations)
        allowed = open_degrees(graph, [degree for row in rows for degree in row.degrees])
        for row in rows:
            begun = time.perf_counter()
            found = _train(graph, row, protocol, repeat(batch), batch, until_decided=True)
            zeros = [degree for degree in row.degrees if degree not in allowed]
            expected = 0.5 if len(zeros) == len(row.degrees) else 1.0
            cells.append(Cell(graph.name, str(row), expected, zeros, found, time.perf_counter() - begun))
        logger.info("%s: %d rows, %.0f s", graph.name, len(rows), time.perf_counter() - started)
    return cells


def measure_noise(
    protocol: Protocol, noises: Sequence[float] = NOISES, rows: Sequence[DegreeRow] = NOISY_ROWS
) -> list[dict[str, Any]]:
    """Measure accuracies on noisy tetrahedra.

    Args:
        protocol: Parameters of the training.
        noises: Standard deviations per coordinate, in units of the mean distance of the points from their centre.
        rows: Rows of degrees.

    Returns:
        One dict per row and noise: `row`, `noise`, `single` (accuracies of the seeds on the noisy structure and copy that
        they were trained on), `unseen` (accuracies on new samples, after training on other samples).
    """
    graph = symmetric_graph(NOISY_STRUCTURE)
    rotations = random_rotations(list(range(protocol.n_seeds)))
    found = []
    for noise in noises:
        started = time.perf_counter()
        drawn = torch.Generator().manual_seed(0)
        one = pairs_of(graph, rotations, noise=noise, generator=drawn)
        test = pairs_of(graph, rotations, noise=noise, n_pairs=TEST_PAIRS, generator=drawn)
        for row in rows:
            single = _train(graph, row, protocol, repeat(one), one, until_decided=True)
            unseen = _train(graph, row, protocol, _fresh(graph, rotations, noise), test, until_decided=False)
            found.append({"row": str(row), "noise": noise, "single": single.accuracies, "unseen": unseen.accuracies})
        logger.info("%s, noise %g: %.0f s", graph.name, noise, time.perf_counter() - started)
    return found


def _fresh(graph: SymmetricGraph, rotations: torch.Tensor, noise: float) -> Iterator[Batch]:
    """Yield batches with new samples of a noisy structure at every step."""
    generator = torch.Generator().manual_seed(1)
    while True:
        yield pairs_of(graph, rotations, noise=noise, n_pairs=TRAINING_PAIRS, generator=generator)


def _train(
    graph: SymmetricGraph,
    row: DegreeRow,
    protocol: Protocol,
    batches: Iterator[Batch],
    test: Batch,
    *,
    until_decided: bool,
) -> Judgement:
    """Train the probes of a row, and evaluate them on `test`."""
    mean_neighbors = graph.edge_index.shape[1] / len(graph.positions)
    probes = SeededProbes(row, protocol.channels, mean_neighbors, list(range(protocol.n_seeds)))
    steps = probes.train(batches, protocol.steps, protocol.rate, until_decided=until_decided)
    return probes.judge(test, steps)


def check_picture(path: Path) -> None:
    """Refuse the name of a picture with an unknown suffix, before anything is trained.

    Raises:
        OptionError: The suffix belongs to no format.
    """
    if path.suffix not in PICTURES:
        msg = f"picture {str(path)!r} ends in none of {', '.join(PICTURES)}; name it so, as in table.png"
        raise OptionError(msg)


def draw_table(cells: Sequence[Cell], path: Path) -> None:
    """Draw the table with rows of degrees and columns of structures; dark cells have a high accuracy."""
    from matplotlib.figure import Figure

    structures, rows = (list(dict.fromkeys(names)) for names in ([c.structure for c in cells], [c.row for c in cells]))
    means = torch.zeros(len(rows), len(structures))
    for cell in cells:
        accuracies = cell.found.accuracies
        means[rows.index(cell.row), structures.index(cell.structure)] = 100.0 * sum(accuracies) / len(accuracies)
    figure = Figure(figsize=(2.0 + 0.75 * len(structures), 1.6 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(means.numpy(), cmap="Blues", vmin=0.0, vmax=130.0, aspect="auto")
    for i, row in enumerate(means.tolist()):
        for j, mean in enumerate(row):
            axes.text(
                j, i, f"{mean:.0f}", ha="center", va="center", color="white" if mean > 75.0 else "black", fontsize=8
            )
    axes.set_xticks(range(len(structures)), structures, rotation=40, ha="right")
    axes.set_yticks(range(len(rows)), [row.replace("<=", "≤") for row in rows])
    axes.set_title("Structure or rotated copy? Accuracy, %", fontsize=10)
    axes.tick_params(length=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
