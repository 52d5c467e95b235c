"""Molecular dynamics that can be killed at any moment and goes on where it was.

An output folder holds

| file | what |
|---|---|
| `trajectory.traj` | frames with positions, momenta, energy, forces; `info` has step and time_ps |
| `log.csv` | one row per logged step, see `LogRow` |
| `state.json` | the last saved state |
| `state.synced.json` | a state some seconds older that is surely on the disk, for the day of a power cut |
| `report.html`, `energies.png` | written when a run ends or stops |
| `stopped.extxyz` | after an error: the structure at which the run stopped, and the last whole frame where that is another |

A saved state holds the lengths of trajectory and log. Resuming cuts both back to them and makes the steps since then
again: nothing is lost and nothing stands twice. On a CPU these steps come out the same to the last bit, wherever the run
was cut, with a calculator that says by an attribute `history_free` that its results depend on the structure alone; those
of this package do. In other calculators the order of sums may depend on when a neighbour list was built; a state holds
their own state where they can give it (`get_state`, `set_state`), and without these they are reset at every saved state
on the grid of `checkpoint_interval`, in the run that goes on just as in the run that is resumed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.md import MolecularDynamics

from mlff_calc.dynamics.domain import DomainGuard, Outside
from mlff_calc.dynamics.ensembles import (
    EnsembleOptions,
    build_integrator,
    check_structure,
    conserved_energy,
    get_internals,
    set_internals,
)
from mlff_calc.dynamics.files import write_failure
from mlff_calc.dynamics.folder import (
    LOG,
    OWN_FILES,
    STATE,
    STOPPED,
    SYNCED_STATE,
    TRAJECTORY,
    FolderMark,
    check_place,
    has_state,
    load_newest,
    look,
    refuse_changed,
    refuse_other_run,
)
from mlff_calc.dynamics.guards import find_trouble
from mlff_calc.dynamics.log import LogFile, LogRow
from mlff_calc.dynamics.options import RunOptions, check_unchanged, from_dict, to_dict, with_steps
from mlff_calc.dynamics.random_state import generator_state, restore_generator
from mlff_calc.dynamics.signals import StopRequest
from mlff_calc.dynamics.state import RunState
from mlff_calc.dynamics.stopped import LastWhole
from mlff_calc.dynamics.trajectory import TrajectoryFile
from mlff_calc.dynamics.velocities import (
    bring_to_rest,
    degrees_of_freedom,
    require_velocities,
    set_maxwell_velocities,
)
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.graph.masses import refuse_named_masses
from mlff_calc.locks import FolderLock, folder_lock

SYNC_S = 5.0

__all__ = ["LOG", "STATE", "STOPPED", "SYNCED_STATE", "TRAJECTORY", "MDRun", "RunResult", "refuse_other_run"]

Listener = Callable[[LogRow], None]
Ending = Callable[["RunResult | SimulationError"], None]


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        folder: where everything was written.
        step: steps made in total.
        steps: steps of the whole run.
        completed: whether all steps were made.
        interrupted: name of the signal that stopped the run, None where none did.
        wall_s: seconds spent in steps, over all parts of the run.
        outside: where the structure was outside the training data, None where it was not or nobody looked.
    """

    folder: Path
    step: int
    steps: int
    completed: bool
    interrupted: str | None
    wall_s: float
    outside: Outside | None = None


class MDRun:
    """One run in one folder; made by `start` or `resume`.

    Attributes:
        folder: the output folder.
        state: what would be saved now.
        ensemble, options: what the run was started with.
        atoms: the structure as it moves.
        begun: whether `run` has touched the folder; a new run first tries its structure.
    """

    def __init__(self, folder: Path, state: RunState, seen: FolderMark, *, fresh: bool) -> None:
        """Use `start` or `resume`; `seen` is what the folder held before it was read."""
        self.folder = folder
        self.state = state
        self.ensemble, self.options = from_dict(state.options)
        self.atoms = state.atoms
        self._fresh, self._seen = fresh, seen
        self.begun = False

    @classmethod
    def start(
        cls,
        atoms: Atoms,
        folder: str | Path,
        ensemble: EnsembleOptions,
        options: RunOptions,
        *,
        overwrite: bool = False,
        seen: FolderMark | None = None,
    ) -> MDRun:
        """Prepare a new run; nothing is written before `run`.

        Args:
            atoms: the structure with its calculator; it is copied and stays as it is.
            folder: output folder, made where there is none.
            ensemble: what is held constant.
            options: how long, and what is written when.
            overwrite: replace a run that is already there.
            seen: what the folder held when the user's wish to replace it was checked (`refuse_other_run`); None looks now.

        Returns:
            The run.

        Raises:
            OptionError: the folder holds a run already, or the structure does not fit the ensemble.
        """
        folder = Path(folder)
        seen = refuse_other_run(folder, overwrite=overwrite) if seen is None else seen
        if atoms.calc is None:
            raise OptionError("the structure has no calculator. Set atoms.calc before a run.")
        check_structure(atoms, ensemble)
        refuse_named_masses(atoms)
        moving = atoms.copy()
        moving.calc = atoms.calc
        if options.velocities == "maxwell":
            set_maxwell_velocities(
                moving, ensemble.temperature_K, seed=ensemble.seed, conserves_momentum=ensemble.conserves_momentum
            )
        else:
            require_velocities(moving)
            if ensemble.conserves_momentum:
                bring_to_rest(moving, ensemble.ensemble)
        rng = np.random.default_rng([ensemble.seed, 1])
        state = RunState(
            atoms=moving,
            options=to_dict(ensemble, options),
            rng=generator_state(rng),
            n_free=degrees_of_freedom(moving, conserves_momentum=ensemble.conserves_momentum),
        )
        return cls(folder, state, seen, fresh=True)

    @classmethod
    def resume(
        cls, folder: str | Path, calculator: Any, *, steps: int | None = None, seen: FolderMark | None = None, **given: Any
    ) -> MDRun:
        """Prepare to go on with a run.

        Args:
            folder: its output folder.
            calculator: an ASE calculator, made like the one the run was started with.
            steps: new total of steps, counted from the start of the run; None keeps the old one.
            seen: what the folder held when the state was read that the calculator was made by (`look`); None looks now.
            **given: options to compare with those of the run, which may not change; `domain` may.

        Returns:
            The run.

        Raises:
            SimulationError: the folder has no state, or a damaged one.
            OptionError: an option differs from that of the run.
        """
        folder = Path(folder)
        if not has_state(folder):
            raise SimulationError(
                f"{folder} has no {STATE}, so there is no run to go on with. Start one without --resume."
            )
        seen = look(folder) if seen is None else seen
        try:
            state = load_newest(folder)
        except SimulationError:
            refuse_changed(folder, seen)  # another run is just replacing what was to be read
            raise
        check_unchanged(state.options, given)
        _, options = from_dict(state.options)
        state.options["steps"] = with_steps(options, steps, state.step).steps
        state.options["domain"] = given.get("domain", options.domain)
        state.atoms.calc = calculator
        if state.calculator is not None and hasattr(calculator, "set_state"):
            calculator.set_state(state.calculator)
        return cls(folder, state, seen, fresh=False)

    def run(self, listener: Listener | None = None, *, ending: Ending | None = None) -> RunResult:
        """Make the steps that are left, write everything, and say how it ended.

        A new run evaluates its structure before anything is written, and before an older run is replaced. SIGINT and SIGTERM
        end the run after the present step with a saved state; the result names the signal.

        Args:
            listener: called with every row of the log.
            ending: called with how the run ended, or with the error that stopped it, while the folder is still held: what
                it reads there is of this run, and what it writes there no other run can meet. It is not called where the
                folder was moved, deleted or replaced.

        Returns:
            How the run ended.

        Raises:
            SimulationError: values that are not finite, exploding temperature, a threshold passed, a structure outside the
                training data where the option `domain` stops there, a full disk. The last saved state stays, and
                `stopped.extxyz` holds the structure; where a new run fails on its structure as given, the folder stays as it
                was. The folder is another process's, another run has written there since this one was prepared, or it was
                moved or deleted during the run.
            OptionError: the ensemble, the threshold or `domain` needs what the calculator does not give.
        """
        loop = _Loop(self, listener)
        with loop.guard.listening():
            return self._run(loop, ending)

    def _run(self, loop: _Loop, ending: Ending | None) -> RunResult:
        if self._fresh:
            loop.try_structure()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_failure(self.folder, error) from error
        with folder_lock(self.folder) as lock, ExitStack() as stack:
            refuse_changed(self.folder, self._seen)
            self.begun = True
            stack.callback(self._look_again)
            if self._fresh:
                self._clear()
            loop.open_files(stack, lock)
            try:
                with StopRequest() as request:
                    self.dynamics = loop.dynamics
                    loop.go(request)
            except SimulationError as stop:
                if ending is not None and loop.is_in_place():
                    ending(stop)
                raise
            completed = self.state.step >= self.options.steps
            interrupted = None if completed else request.received
            result = RunResult(
                self.folder,
                self.state.step,
                self.options.steps,
                completed,
                interrupted,
                self.state.wall_s,
                self.state.outside,
            )
            if ending is not None:
                ending(result)
        return result

    def _look_again(self) -> None:
        """What this run itself has written is no other run's."""
        self._seen = look(self.folder)

    def _clear(self) -> None:
        """Remove what an earlier run left, its states before its frames, so that nothing left over looks like a run."""
        for name in OWN_FILES:
            (self.folder / name).unlink(missing_ok=True)


class _Loop:
    """The steps of a run; `open_files` comes before the first of them."""

    lock: FolderLock
    trajectory: TrajectoryFile
    log: LogFile

    def __init__(self, run: MDRun, listener: Listener | None) -> None:
        self.run, self.state, self.listener = run, run.state, listener
        self.atoms, self.options, self.ensemble = run.atoms, run.options, run.ensemble
        self.folder = run.folder
        self.rng = restore_generator(self.state.rng)
        if self.state.n_free is None:  # saved by a version that counted anew at every start
            self.state.n_free = degrees_of_freedom(self.atoms, conserves_momentum=self.ensemble.conserves_momentum)
        self.n_free = self.state.n_free
        self.dynamics: MolecularDynamics = build_integrator(self.atoms, self.ensemble, self.rng, n_free=self.n_free)
        if not run._fresh:
            set_internals(self.dynamics, self.ensemble.ensemble, self.state.internals)
        self.inverse_masses = 1.0 / self.atoms.get_masses()[:, None]
        self.limit_K = self.options.temperature_limit(self.ensemble.temperature_K)
        self.row_step, self.row_wall = self.state.step, self.state.wall_s
        self.synced_at = -math.inf
        self.last_whole = LastWhole(self.atoms)
        self.guard = DomainGuard(self.atoms.calc, self.options.domain, self.state.outside)

    def try_structure(self) -> None:
        """Evaluate the structure that a new run starts with, and look at what comes out; writes nothing."""
        try:
            self.atoms.get_forces()
            if self.ensemble.is_npt:
                self.atoms.get_stress()
        except NotImplementedError as error:
            raise OptionError(
                f"ensemble {self.ensemble.ensemble} needs a property that this calculator does not give: {error}. "
                "Use another ensemble or another potential."
            ) from error
        self.guard.look(self.atoms)
        trouble = self._find_trouble()
        if trouble is not None:
            raise SimulationError(f"not started, at step 0 already {trouble} Nothing was written to {self.folder}.")

    def open_files(self, stack: ExitStack, lock: FolderLock) -> None:
        """Open trajectory and log where the state says they end; the stack closes them."""
        self.lock = lock
        self.trajectory = TrajectoryFile(self.folder / TRAJECTORY, self.state.trajectory)
        stack.callback(self.trajectory.close)
        self.log = LogFile(self.folder / LOG, self.state.log_size)
        stack.callback(self.log.close)

    def is_in_place(self) -> bool:
        """Whether the folder and its files are still where they were opened."""
        return self.lock.keep() and self.trajectory.is_in_place() and self.log.is_in_place()

    def go(self, request: StopRequest) -> None:
        """Step until the end or a signal."""
        state, options = self.state, self.options
        self.last_whole.keep(getattr(self.atoms.calc, "results", {}) if self.run._fresh else {}, self._when())
        if self.run._fresh:  # step 0, so that there is something to go on with from the first moment
            self._log()
            self._frame()
            self._save()
        while state.step < options.steps and request.received is None:
            begin = time.perf_counter()
            self._step()
            state.wall_s += time.perf_counter() - begin
            if state.step % options.log_interval == 0:
                self._log()
            if state.step % options.traj_interval == 0:
                self._frame()
            if state.step % options.checkpoint_steps == 0:
                self._save()
        self.guard.look(self.atoms)  # a run never ends without a word where its last structure is outside
        self._stop_in_trouble()
        self._save(last=True)

    def _step(self) -> None:
        try:
            self.dynamics.step()
        except Exception as error:
            self._stop(f"the calculator or the integrator failed: {error}", error)
        self.state.step += 1
        self.dynamics.nsteps = self.state.step
        self._stop_in_trouble()
        self.last_whole.keep(self.atoms.calc.results, self._when())

    def _stop_in_trouble(self) -> None:
        trouble = self._find_trouble()
        if trouble is not None:
            self._stop(trouble, None)

    def _find_trouble(self) -> str | None:
        results = getattr(self.atoms.calc, "results", {})
        trouble = find_trouble(self.atoms, results, self._temperature(), self.limit_K, self.options.threshold)
        outside = self.guard.judge(self.state.step, self._time_ps())
        self.state.outside = self.guard.outside
        return trouble or outside

    def _stop(self, why: str, cause: Exception | None) -> None:
        """Save what is finite and raise."""
        try:
            saved = self.last_whole.save(self.folder / STOPPED, self._when())
        except SimulationError as error:
            saved = f"The structure could not be saved ({error})"
        raise SimulationError(f"stopped at step {self.state.step} ({self._time_ps():.4f} ps): {why} {saved}") from cause

    def _when(self) -> dict[str, float]:
        return {"step": self.state.step, "time_ps": self._time_ps()}

    def _kinetic(self) -> float:
        momenta = self.atoms.arrays["momenta"]
        return 0.5 * float(np.sum(momenta * momenta * self.inverse_masses))

    def _temperature(self) -> float:
        return 2.0 * self._kinetic() / (self.n_free * units.kB)

    def _time_ps(self) -> float:
        return self.state.step * self.ensemble.step_fs / 1000.0

    def _log(self) -> None:
        """Append a row; the energy is read before, so that a failing calculator leaves no half row."""
        state, kinetic = self.state, self._kinetic()
        potential = float(self.atoms.get_potential_energy())
        total = potential + kinetic
        conserved = conserved_energy(self.dynamics, self.ensemble.ensemble, total)
        if not math.isnan(conserved):
            state.fit.add(self._time_ps(), conserved)
        steps = state.step - self.row_step
        row = LogRow(
            step=state.step,
            time_ps=self._time_ps(),
            temperature_K=2.0 * kinetic / (self.n_free * units.kB),
            potential_eV=potential,
            kinetic_eV=kinetic,
            total_eV=total,
            conserved_eV=conserved,
            drift_meV_per_atom_ps=1000.0 * state.fit.slope() / len(self.atoms),
            pressure_GPa=self._pressure(kinetic),
            volume_A3=float(self.atoms.cell.volume) if self.atoms.pbc.all() else math.nan,
            ms_per_step=1000.0 * (state.wall_s - self.row_wall) / steps if steps else math.nan,
        )
        self.row_step, self.row_wall = state.step, state.wall_s
        self.log.append(row)
        if self.listener is not None:
            self.listener(row)

    def _pressure(self, kinetic: float) -> float:
        """Pressure with the ideal-gas part, GPa, where the calculator has computed stress anyway."""
        stress = getattr(self.atoms.calc, "results", {}).get("stress")
        if stress is None or not self.atoms.pbc.all():
            return math.nan
        stress = np.asarray(stress, dtype=float)
        trace = stress[:3].sum() if stress.shape == (6,) else np.trace(stress.reshape(3, 3))
        return float((2.0 * kinetic / self.atoms.cell.volume - trace) / 3.0 / units.GPa)

    def _frame(self) -> None:
        self.trajectory.append(self.atoms, self.atoms.calc.results, step=self.state.step, time_ps=self._time_ps())

    def _save(self, *, last: bool = False) -> None:
        """Write the state, after the files whose lengths it holds."""
        state, calculator = self.state, self.atoms.calc
        keeps_state = hasattr(calculator, "get_state")
        state.calculator = calculator.get_state() if keeps_state else None
        state.internals = get_internals(self.dynamics, self.ensemble.ensemble)
        state.rng = generator_state(self.rng)
        state.trajectory = self.trajectory.mark
        state.log_size = self.log.size()
        check_place(self.lock, self.trajectory, self.log, state)
        state.save(self.folder / STATE, sync=False)
        if last or time.monotonic() - self.synced_at > SYNC_S:
            self._sync()
        history_matters = not (keeps_state or getattr(calculator, "history_free", False))
        if history_matters and hasattr(calculator, "reset") and state.step % self.options.checkpoint_steps == 0:
            calculator.reset()

    def _sync(self) -> None:
        """Put files and state on the disk, where they survive a power cut; this takes long, hence not at every save."""
        self.trajectory.sync()
        self.log.sync()
        self.state.save(self.folder / SYNCED_STATE)
        self.synced_at = time.monotonic()
