"""The state of a run: all that is needed to go on as if nothing had happened."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from ase import Atoms
from ase.io.jsonio import decode, encode

from mlff_calc.bounded import MEBI, parse_json, read_text, shorten
from mlff_calc.dynamics.files import write_atomically
from mlff_calc.dynamics.trajectory import EMPTY, Mark
from mlff_calc.errors import SimulationError

FORMAT_VERSION = 1


@dataclass
class RunningFit:
    """Straight line through (time, energy) points that come one by one, kept as means and sums about them.

    Welford's update: means and centred sums change with each point, so nothing cancels in long runs.

    Attributes:
        n: number of points.
        mean_t: mean time, ps.
        mean_e: mean energy, eV.
        s_tt: sum of squared deviations of time.
        s_te: sum of products of the deviations.
    """

    n: int = 0
    mean_t: float = 0.0
    mean_e: float = 0.0
    s_tt: float = 0.0
    s_te: float = 0.0

    def add(self, t: float, e: float) -> None:
        """Add a point."""
        self.n += 1
        dt = t - self.mean_t
        self.mean_t += dt / self.n
        self.mean_e += (e - self.mean_e) / self.n
        self.s_tt += dt * (t - self.mean_t)
        self.s_te += dt * (e - self.mean_e)

    def slope(self) -> float:
        """Slope; NaN with fewer than two points."""
        return self.s_te / self.s_tt if self.n > 1 and self.s_tt > 0.0 else math.nan


@dataclass
class RunState:
    """Everything about a run between two steps.

    Attributes:
        step: steps made.
        wall_s: seconds spent in steps, over all parts of the run.
        atoms: the structure with momenta, cell, constraints.
        options: the run's options by name.
        internals: the integrator's own variables.
        rng: state of the random numbers.
        n_free: degrees of freedom that carry the temperature, counted once at the start; None in states of versions that
            did not save it.
        calculator: the calculator's own state, where it has one (`get_state`).
        fit: the running drift.
        trajectory: where the trajectory file stood.
        log_size: where the log file stood, bytes.
        run: a random name of the run, made at its start; states of versions that did not save it get one when it goes on.
    """

    atoms: Atoms
    options: dict[str, Any]
    step: int = 0
    wall_s: float = 0.0
    internals: dict[str, Any] = field(default_factory=dict)
    rng: dict[str, Any] = field(default_factory=dict)
    n_free: int | None = None
    calculator: dict[str, Any] | None = None
    fit: RunningFit = field(default_factory=RunningFit)
    trajectory: Mark = EMPTY
    log_size: int = 0
    run: str = field(default_factory=lambda: uuid4().hex)

    def save(self, path: Path, *, sync: bool = True) -> None:
        """Write the state atomically; `sync` waits for the disk. Raises SimulationError where the disk refuses."""
        content = {
            "format_version": FORMAT_VERSION,
            "step": self.step,
            "wall_s": self.wall_s,
            "atoms": _plain_atoms(self.atoms),
            "options": self.options,
            "internals": self.internals,
            "rng": self.rng,
            "n_free": self.n_free,
            "calculator": self.calculator,
            "fit": asdict(self.fit),
            "trajectory": asdict(self.trajectory),
            "log_size": self.log_size,
            "run": self.run,
        }
        write_atomically(path, encode(content).encode(), sync=sync)


def _plain_atoms(atoms: Atoms) -> dict[str, Any]:
    """The structure as a dict of arrays; what cannot be written as JSON in its `info` is left out."""
    plain = atoms.todict()
    info = {}
    for key, value in atoms.info.items():
        try:
            encode(value)
        except TypeError:
            continue
        info[key] = value
    plain["info"] = info
    return plain


def load_state(path: Path) -> RunState:
    """Read a saved state.

    Args:
        path: the file `state.json`.

    Returns:
        The state.

    Raises:
        SimulationError: the file is missing, damaged or of another version.
    """
    try:
        text = read_text(path, SimulationError, limit=4096 * MEBI)
        version = parse_json(text, finite=False)["format_version"]
    except (SimulationError, ValueError, KeyError, TypeError) as error:
        raise SimulationError(
            f"{path} is not a saved state of a run ({error}). "
            "Name the output folder of a run, or start over with --overwrite."
        ) from error
    if version != FORMAT_VERSION:
        raise SimulationError(
            f"{path} has format version {shorten(version)}, this version of mlff_calc reads {FORMAT_VERSION}. "
            "Go on with the version that wrote it, or start over with --overwrite."
        )
    try:
        content = decode(text, always_array=False)
        _check_kinds(content)
        return RunState(
            atoms=Atoms.fromdict(content["atoms"]),
            options=content["options"],
            step=content["step"],
            wall_s=content["wall_s"],
            internals=content["internals"],
            rng=content["rng"],
            n_free=content.get("n_free"),
            calculator=content["calculator"],
            fit=RunningFit(**content["fit"]),
            trajectory=Mark(**content["trajectory"]),
            log_size=content["log_size"],
            run=str(content.get("run") or uuid4().hex),
        )
    except Exception as error:  # what ASE raises while it makes objects of a damaged text is of many kinds
        reason = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be read ({type(error).__name__}: {error})"
        raise SimulationError(f"{path} {reason}: it is damaged. Start over with --overwrite.") from error


def _check_kinds(content: dict[str, Any]) -> None:
    """Refuse values of another kind than a state holds.

    Raises:
        TypeError: names the entry and what it holds.
    """
    kinds: dict[str, tuple[type, ...]] = {"options": (dict,), "internals": (dict,), "rng": (dict,), "fit": (dict,)}
    kinds |= {"step": (int,), "log_size": (int,), "wall_s": (int, float), "trajectory": (dict,)}
    for key, allowed in kinds.items():
        if not isinstance(content[key], allowed) or isinstance(content[key], bool):
            raise TypeError(f"{key} is {shorten(content[key])}")
    counts = {"step": content["step"], "log_size": content["log_size"], **content["trajectory"]}
    for key, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise TypeError(f"{key} is {shorten(count)}, and it is a count")


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a random generator, as plain numbers."""
    return dict(rng.bit_generator.state)


def restore_generator(state: dict[str, Any]) -> np.random.Generator:
    """A random generator that goes on where `generator_state` was taken (PCG64, numpy's default)."""
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    return rng
