"""`mlff bench peers`: install programs, build or train their models, time all of them in turns, and collect the figures."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ase.io import read

from mlff_calc.bench.machine import describe_machine
from mlff_calc.bench.peers import linear_build, mace_build, nequip_build, ours
from mlff_calc.bench.peers.catalogue import CUTOFF, Peer
from mlff_calc.bench.peers.environments import ensure_environment, python_of
from mlff_calc.bench.peers.frames import write_motion, write_parts
from mlff_calc.bench.peers.paired import Spread, paired_ratio, run_rounds
from mlff_calc.bench.peers.session import Session
from mlff_calc.bench.peers.trained import train_peer
from mlff_calc.bench.systems import build_system
from mlff_calc.bench.train import data_folder, shipped_recipe_file, train_by_recipe
from mlff_calc.errors import BenchmarkError, MLFFError, OptionError
from mlff_calc.graph import neighbor_pairs
from mlff_calc.training.potential.recipe import PotentialRecipe
from mlff_calc.training.recipe import load_recipe

logger = logging.getLogger(__name__)

OURS = "mlff_calc"
N_FRAMES, N_FRAMES_LARGE = 400, 80
"""Numbers of moving frames for small and large systems. More frames repeat positions less often, and take more disk."""
LARGE = 1000
"""Number of atoms from which a system counts as large. A larger value gives more systems the larger number of frames."""


@dataclass
class PeerRun:
    """A comparison with other programs.

    Attributes:
        peers: Programs other than this package.
        systems: Names of structures.
        threads: Numbers of threads; all timings are made for each of them.
        workdir: Folder of environments, models, frames and logs.
        rounds: Number of turns of each program, see `paired.run_rounds`.
        turn_seconds: Length of a turn.
        train_minutes: Processor minutes for which all programs are trained first; None times models without training.
        recipe: Recipe for our training, whose frames the peers get as well; by default that of the shipped `ethanol`.
        data: Folder of data sets, `MLFF_DATA` in the recipe.
        potential: Name or folder of our potential; by default the one shipped for a system.
        compiled: Whether our potential is compiled.
        precision: Precision of our potential.
        versions: Versions of packages by environment.
        trained: Loader options of the trained models by peer.
        training: Errors of the trained models, one dict per program.
        timings: Timings, one dict per program, system and number of threads.
        failures: Failures with program, place and reason.
        elements: Atomic numbers in the training frames.
    """

    peers: list[Peer]
    systems: list[str]
    threads: list[int]
    workdir: Path
    rounds: int = 15
    turn_seconds: float = 1.0
    train_minutes: float | None = None
    recipe: Path | None = None
    data: Path | None = None
    potential: str | None = None
    compiled: bool = True
    precision: str = "float32"
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    trained: dict[str, dict[str, Any]] = field(default_factory=dict)
    training: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    elements: set[int] = field(default_factory=set)

    def run(self) -> dict[str, Any]:
        """Make the comparison. A program that fails is recorded with the reason, and the others continue.

        Returns:
            A dict with `machine`, `versions`, `train_minutes`, `training`, `timings` and `failures`, ready for JSON.
        """
        self.workdir = self.workdir.resolve()
        if self.train_minutes is None:
            self._install()
        else:
            file = self.recipe or shipped_recipe_file("ethanol")
            files = self._frames(file)
            self._install()
            self._train_all(file, files, self.train_minutes)
        for threads in self.threads:
            self._time_all(threads)
        return {
            "machine": describe_machine(),
            "versions": self.versions,
            "train_minutes": self.train_minutes,
            "training": self.training,
            "timings": self.timings,
            "failures": self.failures,
        }

    def _fail(self, program: str, place: str, error: Exception | str) -> None:
        logger.warning("%s, %s: %s", program, place, error)
        self.failures.append({"program": program, "place": place, "reason": str(error)})

    def _install(self) -> None:
        ready = []
        for peer in self.peers:
            try:
                if peer.environment.name not in self.versions:
                    self.versions[peer.environment.name] = ensure_environment(peer.environment, self.workdir)
                ready.append(peer)
            except (BenchmarkError, OSError) as error:
                self._fail(peer.name, "installation", error)
        self.peers = ready

    def _frames(self, file: Path) -> dict[str, Path]:
        """Write the files of frames for all programs, see `write_parts`, before anything is installed."""
        with data_folder(self.data):
            recipe = load_recipe(file)
            if not isinstance(recipe, PotentialRecipe):
                raise OptionError(f"{file} is no recipe of a potential, and peers train nothing else; name another one")
            files = write_parts(recipe, self.workdir / "data")
        self.elements = {int(z) for atoms in read(files["train"], ":") for z in atoms.numbers}
        return files

    def _train_all(self, file: Path, files: dict[str, Path], minutes: float) -> None:
        for peer in self.peers:
            logger.info("training %s for %g minutes on %d thread(s)", peer.name, minutes, self.threads[0])
            try:
                options = train_peer(
                    peer, files, self.elements, minutes, workdir=self.workdir,
                    versions=self.versions[peer.environment.name], threads=self.threads[0],
                )  # fmt: skip
                self.trained[peer.name] = options
                self._errors(peer.name, python_of(peer.environment, self.workdir), peer.family, options, files)
            except (BenchmarkError, OSError) as error:
                self._fail(peer.name, "training", error)
        try:
            if self.potential is None:
                logger.info("training ours for %g minutes on %d thread(s)", minutes, self.threads[0])
                folder = self.workdir / "runs" / OURS
                self.potential = str(train_by_recipe(file, minutes, folder, data=self.data, threads=self.threads[0]))
            options = {"potential": self.potential, "compiled": self.compiled, "precision": self.precision}
            self._errors(OURS, Path(sys.executable), "mlff", options, files)
        except (MLFFError, OSError) as error:
            self._fail(OURS, "training", error)

    def _errors(self, name: str, python: Path, loader: str, options: dict[str, Any], files: dict[str, Path]) -> None:
        with Session(python, threads=self.threads[0], log=self.workdir / "logs" / f"{name}.log") as session:
            session.ask("load", key="test", loader=loader, options=options)
            reply = session.ask("errors", key="test", frames=str(files["test"]))
        row = {"program": name} | {error: reply[error] for error in ("force_mae", "force_rmse", "energy_mae")}
        text = "%s: force MAE %.2f, RMSE %.2f meV/Angstrom, energy MAE %.2f meV/atom"
        logger.info(text, name, row["force_mae"], row["force_rmse"], row["energy_mae"])
        self.training.append(row)

    def _time_all(self, threads: int) -> None:
        with ExitStack() as stack:
            sessions = {}
            for name, python in [(OURS, Path(sys.executable))] + [
                (peer.name, python_of(peer.environment, self.workdir)) for peer in self.peers
            ]:
                log = self.workdir / "logs" / f"{name}.log"
                sessions[name] = stack.enter_context(Session(python, threads=threads, log=log))
            for system in self.systems:
                logger.info("timing %s on %d thread(s)", system, threads)
                self._time_system(system, threads, sessions)

    def _time_system(self, system: str, threads: int, sessions: dict[str, Session]) -> None:
        atoms = build_system(system)
        frames = write_motion(system, self.workdir / "frames", N_FRAMES if len(atoms) < LARGE else N_FRAMES_LARGE)
        loaded: dict[str, tuple[str, str, float]] = {}
        for name, session in sessions.items():
            try:
                loader, options, what, cutoff = self._model(name, system, threads)
                note = session.ask("load", key=system, loader=loader, options=options)["note"]
                loaded[name] = (what, note, cutoff)
            except (MLFFError, OSError) as error:
                self._fail(name, f"loading, {system}, {threads} thread(s)", error)
        seconds, failures = run_rounds(
            {name: sessions[name].ask for name in loaded},
            system,
            frames,
            rounds=self.rounds,
            turn_seconds=self.turn_seconds,
        )
        for name, reason in failures.items():
            self._fail(name, f"timing, {system}, {threads} thread(s)", reason)
        for name, values in seconds.items():
            what, note, cutoff = loaded[name]
            n_edges = len(neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff).centers)
            spread = Spread.of(1e3 * values)
            ratio = paired_ratio(seconds[OURS], values) if OURS in seconds and name != OURS else None
            row = {
                "threads": threads, "system": system, "program": name, "what": what, "form": note, "n_atoms": len(atoms),
                "n_edges": n_edges, "steps": int(values.size), "ms": asdict(spread),
                "us_per_edge": 1e3 * spread.median / max(n_edges, 1), "us_per_atom": 1e3 * spread.median / len(atoms),
                "clock": "processor" if threads == 1 else "wall", "ratio": asdict(ratio) if ratio else None,
            }  # fmt: skip
            self.timings.append(row)

    def _model(self, name: str, system: str, threads: int) -> tuple[str, dict[str, Any], str, float]:
        """Return the loader, its options, the label of the model, and its cutoff."""
        atoms = build_system(system)
        if name == OURS:
            options, what, cutoff = ours.loader_options(
                system, atoms, potential=self.potential, compiled=self.compiled, precision=self.precision
            )
            return "mlff", options, what, cutoff
        peer = next(peer for peer in self.peers if peer.name == name)
        known = set(atoms.numbers.tolist()) <= self.elements
        linear = peer.family in linear_build.FAMILIES
        if name in self.trained and known and threads == self.threads[0]:
            cutoff = linear_build.cutoff_of(self.trained[name]) if linear else CUTOFF
            return peer.family, self.trained[name], f"{peer.what}, trained", cutoff
        if linear:
            options = linear_build.random_model(peer, atoms, self.workdir, threads=threads)
            return peer.family, options, peer.what, linear_build.cutoff_of(options)
        if peer.family == "mace":
            return "mace", mace_build.random_model(peer, atoms.numbers.tolist()), peer.what, CUTOFF
        versions = self.versions[peer.environment.name]
        options = nequip_build.random_model(peer, atoms, self.workdir, versions, threads=threads)
        return "nequip", options, peer.what, CUTOFF
