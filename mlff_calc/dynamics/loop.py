"""The steps of a run: integrate, check, log, save, and stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ase.md.md import MolecularDynamics

from mlff_calc.dynamics.domain import DomainGuard
from mlff_calc.dynamics.ensembles import build_integrator, conserved_energy, get_internals, set_internals
from mlff_calc.dynamics.folder import LOG, STATE, STOPPED, SYNCED_STATE, TRAJECTORY, check_place
from mlff_calc.dynamics.guards import find_trouble
from mlff_calc.dynamics.log import LogFile, LogRow
from mlff_calc.dynamics.options import from_dict
from mlff_calc.dynamics.random_state import generator_state, restore_generator
from mlff_calc.dynamics.signals import StopRequest
from mlff_calc.dynamics.state import RunState
from mlff_calc.dynamics.stopped import LastWhole
from mlff_calc.dynamics.thermodynamics import Thermodynamics
from mlff_calc.dynamics.trajectory import TrajectoryFile
from mlff_calc.dynamics.velocities import degrees_of_freedom
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.locks import FolderLock

SYNC_S = 5.0
"""Seconds between two states that are flushed to the disk. With a larger value a power cut loses a longer part of a run."""

Listener = Callable[[LogRow], None]


class StepLoop:
    """The steps of a run in its folder. Call `open_files` before the first of them.

    Args:
        folder: Output folder.
        state: State of the run, which is updated with each step.
        fresh: Whether the run is new, so that step 0 is written as well.
        listener: Function that is called with every row of the log.

    Attributes:
        dynamics: Integrator of ASE.
        guard: Guard that compares the structure with the training data.
    """

    lock: FolderLock
    trajectory: TrajectoryFile
    log: LogFile

    def __init__(self, folder: Path, state: RunState, *, fresh: bool, listener: Listener | None) -> None:
        self.folder, self.state, self.fresh, self.listener = folder, state, fresh, listener
        self.atoms = state.atoms
        self.ensemble, self.options = from_dict(state.options)
        self.rng = restore_generator(self.state.rng)
        if self.state.n_free is None:  # an older version, which counted again at every start, saved this state
            self.state.n_free = degrees_of_freedom(self.atoms, conserves_momentum=self.ensemble.conserves_momentum)
        n_free = self.state.n_free
        self.dynamics: MolecularDynamics = build_integrator(self.atoms, self.ensemble, self.rng, n_free=n_free)
        if not fresh:
            set_internals(self.dynamics, self.ensemble.ensemble, self.state.internals)
        self.thermo = Thermodynamics(self.atoms, n_free)
        self.limit_K = self.options.temperature_limit(self.ensemble.temperature_K)
        self.row_step, self.row_wall = self.state.step, self.state.wall_s
        self.synced_at = -math.inf
        self.last_whole = LastWhole(self.atoms)
        self.guard = DomainGuard(self.atoms.calc, self.options.domain, self.state.outside)

    def try_structure(self) -> None:
        """Evaluate and check the initial structure of a new run, without writing anything."""
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
        trouble = self._find_trouble(begun=False)
        if trouble is not None:
            raise SimulationError(f"not started, at step 0 already {trouble} Nothing was written to {self.folder}.")

    def open_files(self, stack: ExitStack, lock: FolderLock) -> None:
        """Open trajectory and log, truncated to the lengths in the state; the stack closes them."""
        self.lock = lock
        self.trajectory = TrajectoryFile(self.folder / TRAJECTORY, self.state.trajectory)
        stack.callback(self.trajectory.close)
        self.log = LogFile(self.folder / LOG, self.state.log_size)
        stack.callback(self.log.close)

    def is_in_place(self) -> bool:
        """Whether the folder and its files are still in the place where they were opened."""
        return self.lock.keep() and self.trajectory.is_in_place() and self.log.is_in_place()

    def go(self, request: StopRequest) -> None:
        """Make steps until the end of the run or a signal."""
        state, options = self.state, self.options
        self.last_whole.keep(getattr(self.atoms.calc, "results", {}) if self.fresh else {}, self._when())
        if self.fresh:  # save step 0, so that the run can be resumed from its first moment
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
        self.guard.look(self.atoms)  # so that a last structure outside the training data is always reported
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
        trouble = self._find_trouble(begun=True)
        if trouble is not None:
            self._stop(trouble, None)

    def _find_trouble(self, *, begun: bool) -> str | None:
        results = getattr(self.atoms.calc, "results", {})
        temperature = self.thermo.temperature(self.thermo.kinetic())
        trouble = find_trouble(self.atoms, results, temperature, self.limit_K, self.options.threshold)
        outside = self.guard.judge(self.state.step, self._time_ps(), begun=begun)
        self.state.outside = self.guard.outside
        return trouble or outside

    def _stop(self, why: str, cause: Exception | None) -> None:
        """Save the finite structures and raise the error."""
        try:
            saved = self.last_whole.save(self.folder / STOPPED, self._when())
        except SimulationError as error:
            saved = f"The structure could not be saved ({error})"
        raise SimulationError(f"stopped at step {self.state.step} ({self._time_ps():.4f} ps): {why} {saved}") from cause

    def _when(self) -> dict[str, float]:
        return {"step": self.state.step, "time_ps": self._time_ps()}

    def _time_ps(self) -> float:
        return self.state.step * self.ensemble.step_fs / 1000.0

    def _log(self) -> None:
        """Append a row. The energy is computed first, so that a failing calculator leaves no incomplete row."""
        state, kinetic = self.state, self.thermo.kinetic()
        potential = float(self.atoms.get_potential_energy())
        total = potential + kinetic
        conserved = conserved_energy(self.dynamics, self.ensemble.ensemble, total)
        if not math.isnan(conserved):
            state.fit.add(self._time_ps(), conserved)
        steps = state.step - self.row_step
        row = LogRow(
            step=state.step,
            time_ps=self._time_ps(),
            temperature_K=self.thermo.temperature(kinetic),
            potential_eV=potential,
            kinetic_eV=kinetic,
            total_eV=total,
            conserved_eV=conserved,
            drift_meV_per_atom_ps=1000.0 * state.fit.slope() / len(self.atoms),
            pressure_GPa=self.thermo.pressure(kinetic),
            volume_A3=float(self.atoms.cell.volume) if self.atoms.pbc.all() else math.nan,
            ms_per_step=1000.0 * (state.wall_s - self.row_wall) / steps if steps else math.nan,
        )
        self.row_step, self.row_wall = state.step, state.wall_s
        self.log.append(row)
        if self.listener is not None:
            self.listener(row)

    def _frame(self) -> None:
        self.trajectory.append(self.atoms, self.atoms.calc.results, step=self.state.step, time_ps=self._time_ps())

    def _save(self, *, last: bool = False) -> None:
        """Write the state, after the files whose lengths are part of it."""
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
        """Flush files and state to the disk, where they survive a power cut. This is slow, so not every save does it."""
        self.trajectory.sync()
        self.log.sync()
        self.state.save(self.folder / SYNCED_STATE)
        self.synced_at = time.monotonic()
