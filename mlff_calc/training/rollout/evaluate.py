"""Errors of a rollout on windows of a trajectory, beside predictions without a network, and coverage of its error bars."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlff_calc.datasets.motion.windows import Windows, read_run, split_run
from mlff_calc.datasets.splits import PARTS
from mlff_calc.device import resolve_device
from mlff_calc.errors import DatasetError, EvaluationError, IntegrationError, OptionError
from mlff_calc.networks import trained_reading
from mlff_calc.rollout import Rollout, load_rollout
from mlff_calc.rollout.model import PATH, PATH_SIGMA, PATH_VELOCITIES
from mlff_calc.rollout.molecule import bond_lengths
from mlff_calc.training.rollout.baselines import Later, OwnDynamics, States, forces_of, guesses
from mlff_calc.training.rollout.data import WindowBatches, molecule_of

MODEL = "rollout"
BATCH_SIZE = 100
QUARTERS = 4
LEVELS = ((0.68, 0.99446), (0.95, 1.95996))
"""Shares of intervals, and their half widths in standard deviations."""


@dataclass(frozen=True)
class Errors:
    """Errors of one row.

    Attributes:
        mse: Mean square of positions over windows, times, atoms and components, Angstrom^2.
        quarters: The same by quarter of the horizon; NaN where no time lies in one.
        bonds: Mean absolute error of bond lengths, Angstrom.
        velocities: Root mean square of velocities, Angstrom/ps.
    """

    mse: float
    quarters: list[float]
    bonds: float
    velocities: float


@dataclass(frozen=True)
class RolloutReport:
    """Result of `evaluate_rollout`.

    Attributes:
        windows: Number of windows.
        horizon: Longest time, fs.
        errors: Errors by row; `rollout` first.
        coverage: Share of positions within intervals of 68 and 95 %, by level.
        parameters: Number of trained parameters.
        ms_per_trajectory: Processor time of a window, in milliseconds.
        own: Cost of dynamics with a potential: name, milliseconds per window and step, size of batches; empty without one.
    """

    windows: int
    horizon: float
    errors: dict[str, Errors]
    coverage: dict[str, float]
    parameters: int
    ms_per_trajectory: float
    own: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """The table of the card."""
        head = ("", "MSE [A^2]", *(f"quarter {k + 1}" for k in range(QUARTERS)), "bonds [A]", "velocities [A/ps]")
        lines = [
            (name, *(f"{value:.4g}" for value in (one.mse, *one.quarters, one.bonds, one.velocities)))
            for name, one in self.errors.items()
        ]
        return [head, *lines]

    def as_text(self) -> str:
        """A table of plain text."""
        shares = ", ".join(f"{100.0 * share:.1f} % in the interval of {level}" for level, share in self.coverage.items())
        lines = [
            f"{self.windows} windows to {self.horizon:g} fs; {self.parameters} parameters; "
            f"{self.ms_per_trajectory:.2f} ms per trajectory; {shares}"
        ]
        lines += [f"{one[0]:<28}" + "".join(f"{cell:>12}" for cell in one[1:-1]) + f"{one[-1]:>19}" for one in self.rows()]
        if self.own:
            lines.append(
                f"MD with {self.own['potential']}: {self.own['ms_per_trajectory']:.1f} ms per trajectory "
                f"({self.own['ms_per_step']:.3f} ms per step), in batches of {self.own['batch']}"
            )
        return "\n".join(lines)


class _Sums:
    """Sums of one row."""

    def __init__(self, bonds: Tensor) -> None:
        self.bonds = bonds
        self.squares, self.counts = torch.zeros(QUARTERS, dtype=torch.float64), torch.zeros(QUARTERS, dtype=torch.float64)
        self.stretch, self.n_bonds, self.speeds = 0.0, 0, 0.0

    def add(self, found: Later, truth: Later, quarter: Tensor) -> None:
        square = (found.x - truth.x).square().mean(dim=(2, 3)).flatten()
        self.squares.index_add_(0, quarter.flatten(), square)
        self.counts.index_add_(0, quarter.flatten(), torch.ones_like(square))
        self.speeds += float((found.v - truth.v).square().mean(dim=(2, 3)).sum())
        wrong = (bond_lengths(found.x, self.bonds) - bond_lengths(truth.x, self.bonds)).abs()
        self.stretch, self.n_bonds = self.stretch + float(wrong.sum()), self.n_bonds + wrong.numel()

    def errors(self) -> Errors:
        quarters, count = (self.squares / self.counts).tolist(), float(self.counts.sum())
        speeds = 1000.0 * (self.speeds / count) ** 0.5
        return Errors(float(self.squares.sum()) / count, quarters, self.stretch / max(self.n_bonds, 1), speeds)


def errors_of(found: Later, truth: Later, share: Tensor, bonds: Tensor) -> Errors:
    """Errors of predictions by any means.

    Args:
        found: Predicted states of n samples.
        truth: True states.
        share: Times in units of the horizon [n, n_times].
        bonds: Pairs of bonded atoms [n_bonds, 2].
    """
    sums = _Sums(bonds)
    sums.add(found, truth, _quarter(share))
    return sums.errors()


def _quarter(share: Tensor) -> Tensor:
    return (share * QUARTERS - 1e-9).long().clamp(0, QUARTERS - 1)


def evaluate_rollout(
    rollout: Rollout, windows: Windows, *, batch_size: int = BATCH_SIZE, potential: str | None = None
) -> RolloutReport:
    """Compare a rollout with windows, beside predictions that need no network.

    Args:
        rollout: Rollout on any device; it is put in evaluation mode.
        windows: At least one window of its molecule, within its horizon.
        batch_size: Number of windows evaluated at once.
        potential: Name or folder of a potential whose dynamics are compared too; None for none.

    Raises:
        DatasetError: The windows are of another molecule or reach beyond the horizon.
        OptionError: A potential is given, and the rollout knows heavy atoms only.
        EvaluationError: A prediction is not finite.
        IntegrationError: The equation of a window cannot be solved.
    """
    check_windows(rollout, windows)
    if potential is not None and rollout.config["heavy_atoms"]:
        raise OptionError(
            f"the dynamics of {potential} need all atoms, and this rollout knows the heavy ones; leave --calculator out"
        )
    device = rollout.edges_in.device
    source, bonds = WindowBatches(windows, rollout.topology), torch.tensor(rollout.topology.bonds)
    own = None if potential is None else OwnDynamics(
        forces_of(potential, rollout.config["numbers"]), windows.horizon
    )
    sums: dict[str, _Sums] = {}
    inside, count, seconds = np.zeros(len(LEVELS)), 0, 0.0
    rollout.eval()
    for begin in range(0, len(source), batch_size):
        batch = source.batch(range(begin, min(begin + batch_size, len(source))))
        n = len(batch.frames)
        began = time.process_time()
        with torch.no_grad(), named_solves(windows, begin):
            outputs = {name: value.cpu() for name, value in rollout(batch.to(device).graph).items()}
        seconds += time.process_time() - began
        found, truth = (
            Later(*(each[name].unflatten(0, (n, -1)).transpose(1, 2) for name in (PATH, PATH_VELOCITIES)))
            for each in (outputs, batch.labels)
        )
        sigma = outputs[PATH_SIGMA].unflatten(0, (n, -1)).transpose(1, 2)
        _refuse_not_finite(found.x, windows, begin)
        x, v = (batch.graph[name].view(n, -1, 3) for name in ("positions", "velocities"))
        states = States(x, v, batch.graph["times"])
        rows: dict[str, Later] = {MODEL: found} | guesses(rollout, states)
        if own is not None:
            rows |= {f"MD with {Path(str(potential)).name}": own(states, rollout.masses)}
        quarter = _quarter(states.times / windows.horizon)
        for name, path in rows.items():
            sums.setdefault(name, _Sums(bonds)).add(path, truth, quarter)
        ratio = ((found.x - truth.x) / sigma.unsqueeze(-1)).abs()
        inside += np.array([float((ratio <= width).sum()) for _, width in LEVELS])
        count += ratio.numel()
    cost = {}
    if own is not None:
        cost = {
            "potential": str(potential), "ms_per_trajectory": 1000.0 * own.seconds / len(source),
            "ms_per_step": 1000.0 * own.seconds / max(own.steps, 1), "batch": min(batch_size, len(source)),
        }  # fmt: skip
    return RolloutReport(
        len(source), windows.horizon, {name: one.errors() for name, one in sums.items()},
        {f"{level:.0%}": float(share) for (level, _), share in zip(LEVELS, inside / count, strict=True)},
        sum(parameter.numel() for parameter in rollout.parameters()), 1000.0 * seconds / len(source), cost,
    )  # fmt: skip


def check_windows(rollout: Rollout, windows: Windows) -> None:
    """Refuse windows that a rollout was not made for.

    Raises:
        DatasetError: They are of another molecule or order of atoms, or reach beyond the horizon.
    """
    numbers, known = windows.run.numbers.tolist(), rollout.config["numbers"]
    if numbers != known:
        what = "another order of atoms" if sorted(numbers) == sorted(known) else "another molecule"
        raise DatasetError(f"{windows.run.path} holds {what} ({numbers}) than the rollout ({known}); give its own molecule")
    if windows.horizon > rollout.horizon * (1.0 + 1e-9):
        raise DatasetError(
            f"windows of {windows.horizon:g} fs reach beyond the {rollout.horizon:g} fs of the rollout; give shorter ones"
        )


def calibrate(rollout: Rollout, windows: Windows, batch_size: int = BATCH_SIZE) -> None:
    """Set the temperature of the error bars, so that the mean square of errors over standard deviations is 1.

    Raises:
        IntegrationError: The equation of a window cannot be solved.
    """
    source, total, count = WindowBatches(windows, rollout.topology), 0.0, 0
    device = rollout.edges_in.device
    rollout.temperature.fill_(1.0)
    with torch.no_grad():
        for begin in range(0, len(source), batch_size):
            batch = source.batch(range(begin, min(begin + batch_size, len(source)))).to(device)
            with named_solves(windows, begin):
                outputs = rollout.eval()(batch.graph)
            ratio = (outputs[PATH] - batch.labels[PATH]) / outputs[PATH_SIGMA].unsqueeze(-1)
            total, count = total + float(ratio.square().sum()), count + ratio.numel()
    rollout.temperature.fill_((total / count) ** 0.5)


@contextmanager
def named_solves(windows: Windows, begin: int) -> Iterator[None]:
    """Name the window in an error of the solver, for a batch of windows from `begin` on."""
    try:
        yield
    except IntegrationError as error:
        number = begin + error.sample
        raise error.within(number, place=windows.place(number)) from error


def _refuse_not_finite(found: Tensor, windows: Windows, begin: int) -> None:
    bad = (~torch.isfinite(found)).flatten(1).any(dim=1).nonzero().flatten()
    if len(bad):
        raise EvaluationError(
            f"{windows.place(begin + int(bad[0]))}: the rollout gives positions that are not finite; look at this frame, or "
            "try --precision float64"
        )


def evaluate_rollout_file(
    folder: str | Path,
    data: str | Path,
    *,
    part: str = "test",
    limit: int | None = None,
    potential: str | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    precision: str = "float32",
) -> RolloutReport:
    """Evaluate a rollout, given by its folder, on a trajectory, cut as in its training.

    Args:
        folder: Folder of the rollout, or name of a shipped one.
        data: Trajectory in the layout of MD17.
        part: `train`, `valid`, `test`, or `all` for the whole trajectory.
        limit: Largest number of windows; None for that of the training, or 400.
        potential: Name or folder of a potential whose dynamics are compared too.
        batch_size: Number of windows evaluated at once.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        precision: `float32` or `float64`.

    Raises:
        PotentialFileError: The folder holds no rollout.
        DatasetError: The file cannot be read, or is of another molecule.
    """
    rollout = load_rollout(folder).to_precision(precision).to(resolve_device(device))
    return evaluate_rollout(
        rollout, trained_windows(folder, rollout, data, part, limit), batch_size=batch_size, potential=potential
    )


def trained_windows(
    folder: str | Path, rollout: Rollout, data: str | Path, part: str = "test", limit: int | None = None
) -> Windows:
    """Windows of a trajectory, cut as in the training of a rollout.

    Args:
        folder: Folder of the rollout, or name of a shipped one.
        rollout: The same, loaded.
        data: Trajectory in the layout of MD17.
        part: `train`, `valid`, `test`, or `all` for the whole trajectory.
        limit: Largest number of windows; None for that of the training, or 400.

    Raises:
        DatasetError: The file cannot be read, is of another molecule, or has no such part.
    """
    reading = trained_reading(_folder(folder))
    run = read_run(Path(data), otherwise=reading.get("timestep"))
    known = sorted(rollout.config["numbers"])
    kept = [z for z in run.numbers.tolist() if z > 1 or not rollout.config["heavy_atoms"]]
    if sorted(kept) != known:
        raise DatasetError(f"{data} holds another molecule ({kept}) than the rollout ({known}); give its own molecule")
    molecule, run = molecule_of(run, heavy_atoms=bool(rollout.config["heavy_atoms"]))
    if molecule.numbers == rollout.config["numbers"] and molecule.bonds != rollout.config["bonds"]:
        raise DatasetError(f"{data} has other bonds than the training data: it holds an isomer, or another order of atoms")
    shares = tuple(reading.get("shares", (0.6, 0.15, 0.25)))
    if part != "all" and shares[PARTS.index(part)] == 0.0:
        raise DatasetError(f"the rollout was trained with no share of the frames for {part}; ask for another part, or all")
    limits = {part: limit or reading.get("limit", {}).get(part) or 400}
    return split_run(
        run, rollout.horizon, limits, n_times=reading.get("n_times", 8), irregular=reading.get("irregular", True),
        shares=shares, seed=reading.get("seed", 0),
    )[part]  # fmt: skip


def _folder(name_or_path: str | Path) -> Path:
    from mlff_calc.networks import find_network

    return find_network(name_or_path, Rollout.kind)
