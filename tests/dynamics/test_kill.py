"""Runs are killed by SIGKILL at random moments."""

from __future__ import annotations

import random
import signal
import time

from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read

from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions


def start_or_go_on(folder):
    if (folder / "state.json").exists():
        run = MDRun.resume(folder, EMT())
    else:
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.02, seed=1)
        atoms.calc = EMT()
        options = RunOptions(steps=600, log_interval=1, traj_interval=2, checkpoint_interval=3)
        run = MDRun.start(atoms, folder, EnsembleOptions(ensemble="langevin", timestep_fs=2.0), options)
    print("going", flush=True)
    run.run()


def test_a_run_that_is_killed_repeatedly_equals_an_uninterrupted_one(tmp_path, child, same_run):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    start_or_go_on(whole)
    rng = random.Random(7)
    kills = 0
    while True:
        process = child(lambda: start_or_go_on(killed))
        if kills == 8:
            assert process.wait(120) == 0, process.stderr
            break
        while "going" not in process.stdout:
            assert process.poll() is None, process.stderr
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.4))
        process.kill()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr
        kills += 1
        trajectory = killed / "trajectory.traj"
        if trajectory.exists() and trajectory.stat().st_size:
            steps = [atoms.info["step"] for atoms in read(trajectory, ":")]  # readable immediately after the kill
            assert steps == list(range(0, 2 * len(steps), 2))
    assert kills >= 3
    same_run(whole, killed)
