"""The state of a run: all data needed to resume it."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io.jsonio import decode, encode

from mlff_calc.bounded import MEBI, parse_json, read_text, shorten
from mlff_calc.dynamics.domain import Outside
from mlff_calc.dynamics.files import write_atomically
from mlff_calc.dynamics.random_state import restore_generator
from mlff_calc.dynamics.running_fit import RunningFit
from mlff_calc.dynamics.trajectory import EMPTY, Mark
from mlff_calc.errors import SimulationError

FORMAT_VERSION = 1  # version of the format of states, raised when older code cannot read new states
MOST = 1 << 60
"""Upper bound of the counts in a valid state. Larger values are taken as damage."""


@dataclass
class RunState:
    """State of a run between two steps.

    Attributes:
        step: Number of steps made.
        wall_s: Seconds spent in steps, over all parts of the run.
        atoms: Structure with momenta, cell and constraints.
        options: Options of the run by name.
        internals: Variables of the integrator.
        rng: State of the random numbers.
        n_free: Number of degrees of freedom that carry kinetic energy, counted once at the start; None in states of
            versions that did not save it.
        calculator: State of the calculator, where it has one (`get_state`).
        fit: Linear fit of the conserved energy, for the drift.
        trajectory: Length of the trajectory.
        log_size: Length of the log, bytes.
        outside: Steps at which the structure was outside the training data; None where it was never found outside.
        run: Random name of the run, made at its start. A run of a version that did not save it gets one when it is resumed.
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
    outside: Outside | None = None
    run: str = field(default_factory=lambda: uuid4().hex)

    def save(self, path: Path, *, sync: bool = True) -> None:
        """Write the state atomically.

        Args:
            path: File to write.
            sync: Whether to wait until the state is on the disk.

        Raises:
            SimulationError: The disk refuses.
        """
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
            "outside": None if self.outside is None else asdict(self.outside),
            "run": self.run,
        }
        write_atomically(path, _sealed(encode(content)).encode(), sync=sync)


def _plain_atoms(atoms: Atoms) -> dict[str, Any]:
    """Return the structure as a dict of arrays, without entries of `info` that cannot be written as JSON."""
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


_SEAL = re.compile(r', "sha256": "([0-9a-f]{64})"\}$')


def _sealed(text: str) -> str:
    """Add the SHA-256 of a JSON object to its text as the last entry, so that one write stores both."""
    return f'{text[:-1]}, "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"}}'


def _check_seal(text: str) -> None:
    """Raise a ValueError where the text does not match the SHA-256 at its end; states of older versions have none."""
    seal = _SEAL.search(text[-90:])
    if seal is None:
        return
    body = text[: len(text) - len(seal[0])] + "}"
    if hashlib.sha256(body.encode()).hexdigest() != seal[1]:
        raise ValueError("it does not match its checksum, it was changed after it was written")


def load_state(path: Path) -> RunState:
    """Read a saved state.

    Args:
        path: File `state.json`.

    Returns:
        The state.

    Raises:
        SimulationError: The file is missing, damaged or of another version.
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
        _check_seal(text)
        content = decode(text, always_array=False)
        _check_keys(content, sealed=_SEAL.search(text[-90:]) is not None)
        _check_kinds(content)
        return RunState(
            atoms=_finite_atoms(Atoms.fromdict(content["atoms"])),
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
            outside=None if content.get("outside") is None else Outside(**content["outside"]),
            run=str(content.get("run") or uuid4().hex),
        )
    except Exception as error:  # ASE raises errors of many types when it decodes a damaged text
        said = shorten(f"{type(error).__name__}: {error}", 300)
        reason = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be read ({said})"
        raise SimulationError(f"{path} {reason}: it is damaged. Start over with --overwrite.") from error


def _check_keys(content: dict[str, Any], *, sealed: bool) -> None:
    """Raise a ValueError for unknown entries and for a malformed checksum; either may be a damaged valid entry."""
    known = {one.name for one in fields(RunState)} | {"format_version"}
    odd = sorted(content.keys() - known - ({"sha256"} if sealed or content.get("sha256") is None else set()))
    if odd:
        raise ValueError(f"it has the entry {shorten(odd[0])}")


def _check_kinds(content: dict[str, Any]) -> None:
    """Refuse values of the wrong type.

    Raises:
        TypeError: Names the entry and its value.
    """
    kinds: dict[str, tuple[type, ...]] = {"options": (dict,), "internals": (dict,), "rng": (dict,), "fit": (dict,)}
    kinds |= {"step": (int,), "log_size": (int,), "wall_s": (int, float), "trajectory": (dict,)}
    for key, allowed in kinds.items():
        if not isinstance(content[key], allowed) or isinstance(content[key], bool):
            raise TypeError(f"{key} is {shorten(content[key])}")
    counts = {"step": content["step"], "log_size": content["log_size"], "fit.n": content["fit"]["n"]}
    counts |= content["trajectory"]
    for key, count in counts.items():
        if type(count) is not int or not 0 <= count < MOST:
            raise TypeError(f"{key} is {shorten(count)}, and it is a count")
    for key, value in {"wall_s": content["wall_s"], **content["fit"]}.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise TypeError(f"{key} is {shorten(value)}, and it is a finite number")
    n_free, calculator = content.get("n_free"), content["calculator"]
    if n_free is not None and (type(n_free) is not int or not 0 < n_free < MOST):
        raise TypeError(f"n_free is {shorten(n_free)}, and it is a count")
    if not isinstance(calculator, dict | None):
        raise TypeError(f"calculator is {shorten(calculator)}")
    outside = content.get("outside")
    if outside is not None and [type(outside[key]) for key in ("n", "first_step", "first", "last_step", "last")] != [
        int, int, str, int, str,
    ]:  # fmt: skip
        raise TypeError(f"outside is {shorten(outside)}")
    if content["rng"]:
        restore_generator(content["rng"])


def _finite_atoms(atoms: Atoms) -> Atoms:
    """Return the structure, or raise a ValueError where it contains values that no run saves."""
    for name, array in (("positions", atoms.positions), ("cell", atoms.cell.array), ("momenta", atoms.get_momenta())):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} are not finite")
    if len(atoms) == 0 or not ((atoms.numbers >= 0) & (atoms.numbers < len(chemical_symbols))).all():
        raise ValueError(f"{len(atoms)} atoms, or numbers of no element")
    masses = atoms.get_masses()
    if not (np.isfinite(masses) & (masses > 0.0)).all():
        raise ValueError("masses that are not positive")
    return atoms
