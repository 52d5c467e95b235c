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

    def outside_words(self) -> str:
        """A sentence where the structure left the training data; empty where it did not."""
        return "" if self.outside is None else self.outside.words(self.step)


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
            for left in leftovers(self.folder, OWN_FILES):  # of a process that was killed while it wrote
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
        """What this run itself has written is no other run's."""
        self._seen = look(self.folder)

    def _clear(self) -> None:
        """Remove what an earlier run left, its states before its frames, so that nothing left over looks like a run."""
        for name in OWN_FILES:
            (self.folder / name).unlink(missing_ok=True)
