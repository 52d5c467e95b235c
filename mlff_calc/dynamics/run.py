"""Molecular dynamics that can be killed at any moment and resumed.

An output folder holds

| file | content |
|---|---|
| `trajectory.traj` | frames with positions, momenta, energy, forces; `info` has step and time_ps |
| `log.csv` | one row per logged step, see `LogRow` |
| `state.json` | the last saved state |
| `state.synced.json` | a state some seconds older that has been flushed to the disk and so survives a power cut |
| `report.html`, `energies.png` | report and plot, written when a run ends or stops |
| `stopped.extxyz` | after an error: the structure at which the run stopped, and the last whole frame if it differs |

A saved state contains the lengths of trajectory and log. Resuming truncates both to these lengths and repeats the steps
made since, so that no frame or row is lost or duplicated. On a CPU the repeated steps are identical bit by bit if the
results of the calculator depend on the structure alone, which it declares by an attribute `history_free`; the calculators
of this package do. In other calculators the order of sums may depend on when a neighbour list was built. Their state is
saved and restored where they have `get_state` and `set_state`. Calculators without these methods are reset at every saved
state on the grid of `checkpoint_interval`, both in a run that continues and in a run that is resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlff_calc.dynamics.domain import Outside
from mlff_calc.dynamics.ensembles import EnsembleOptions, check_structure
from mlff_calc.dynamics.files import write_failure
from mlff_calc.dynamics.folder import (
    LOG,
    OWN_FILES,
    STATE,
    STOPPED,
    SYNCED_STATE,
    TRAJECTORY,
    FolderMark,
    has_state,
    load_newest,
    look,
    refuse_changed,
    refuse_other_run,
)
from mlff_calc.dynamics.loop import Listener, StepLoop
from mlff_calc.dynamics.options import RunOptions, check_unchanged, from_dict, to_dict, with_steps
from mlff_calc.dynamics.random_state import generator_state
from mlff_calc.dynamics.signals import StopRequest
from mlff_calc.dynamics.state import RunState
from mlff_calc.dynamics.velocities import (
    bring_to_rest,
    degrees_of_freedom,
    require_velocities,
    set_maxwell_velocities,
)
from mlff_calc.errors import OptionError, SimulationError
from mlff_calc.graph.masses import refuse_named_masses
from mlff_calc.locks import folder_lock
from mlff_calc.whole_files import leftovers

__all__ = ["LOG", "STATE", "STOPPED", "SYNCED_STATE", "TRAJECTORY", "MDRun", "RunResult", "refuse_other_run"]

Ending = Callable[["RunResult | SimulationError"], None]


@dataclass(frozen=True)
class RunResult:
    """Outcome of a run.

    Attributes:
        folder: Output folder.
        step: Number of steps made in total.
        steps: Number of steps of the whole run.
        completed: Whether all steps were made.
        interrupted: Name of the signal that stopped the run, None without one.
        wall_s: Seconds spent in steps, over all parts of the run.
        outside: Steps at which the structure was outside the training data; None where it was never found outside.
    """

    folder: Path
    step: int
    steps: int
    completed: bool
    interrupted: str | None
    wall_s: float
    outside: Outside | None = None

    def outside_words(self) -> str:
        """Return a warning if the structure left the training data, otherwise an empty text."""
        return "" if self.outside is None else self.outside.words(self.step)


class MDRun:
    """One run in one folder; made by `start` or `resume`.

    Attributes:
        folder: Output folder.
        state: Current state.
        ensemble, options: Options with which the run was started.
        atoms: Moving structure.
        begun: Whether `run` has begun to write to the folder. A new run evaluates its structure before that.
    """

    def __init__(self, folder: Path, state: RunState, seen: FolderMark, *, fresh: bool) -> None:
        """Use `start` or `resume`; `seen` is the mark of the folder before it was read."""
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
            atoms: Structure with its calculator. The structure is copied and not changed.
            folder: Output folder, which is created if necessary.
            ensemble: Ensemble with its parameters.
            options: Length, output and limits of the run.
            overwrite: Whether to replace a run in the folder.
            seen: Mark of the folder from an earlier call of `refuse_other_run`; None checks the folder now.

        Returns:
            The run.

        Raises:
            OptionError: The folder already holds a run, or the structure does not fit the ensemble.
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
        """Prepare to continue a run.

        Args:
            folder: Output folder of the run.
            calculator: ASE calculator, made with the same options as the one the run was started with.
            steps: New total number of steps, counted from the start of the run; None keeps the old one.
            seen: Mark of the folder (`look`) from the moment at which the options for the calculator were read; None takes
                it now.
            **given: Options to compare with those of the run. They must be equal, except for `domain`.

        Returns:
            The run.

        Raises:
            SimulationError: The folder has no saved state, or a damaged one.
            OptionError: An option differs from that of the run.
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
            refuse_changed(folder, seen)  # reports another run that is replacing this state at the moment
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
        """Make the remaining steps, and write trajectory, log and states.

        A new run evaluates its structure before it writes anything and before it replaces an older run. SIGINT and SIGTERM
        end the run after the current step with a saved state, and the result names the signal.

        Args:
            listener: Function that is called with every row of the log.
            ending: Function that is called with the outcome of the run, or with the error that stopped it, while the
                folder is still locked. It can therefore read and write there without interference by other runs. It is not
                called if the folder was moved, deleted or replaced.

        Returns:
            The outcome of the run.

        Raises:
            SimulationError: The run was stopped: by values that are not finite, an exploding temperature, a threshold, a
                structure outside the training data with `domain="stop"`, or a full disk. The last saved state is kept, and
                `stopped.extxyz` holds the structure. If the initial structure of a new run fails, the folder is unchanged.
                This error is also raised if another process runs in the folder, if another run has written there since
                this one was prepared, or if the folder was moved or deleted during the run.
            OptionError: The ensemble, the threshold or `domain` needs a quantity that the calculator does not compute.
        """
        loop = StepLoop(self.folder, self.state, fresh=self._fresh, listener=listener)
        with loop.guard.listening():
            return self._run(loop, ending)

    def _run(self, loop: StepLoop, ending: Ending | None) -> RunResult:
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
            for left in leftovers(self.folder, OWN_FILES):  # temporary files of a process that was killed while writing
                left.unlink(missing_ok=True)
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
        """Take a new mark of the folder, so that the files this run has written do not count as changes by another run."""
        self._seen = look(self.folder)

    def _clear(self) -> None:
        """Remove the files of an earlier run, states before frames, so that remains are never mistaken for a run."""
        for name in OWN_FILES:
            (self.folder / name).unlink(missing_ok=True)
