"""Runs are killed by SIGKILL at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

from ase.io import read

SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from mlff_calc.dynamics import EnsembleOptions, MDRun, RunOptions
    folder = Path(sys.argv[1])
    if (folder / "state.json").exists():
        run = MDRun.resume(folder, EMT())
    else:
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.02, seed=1)
        atoms.calc = EMT()
        run = MDRun.start(
            atoms,
            folder,
            EnsembleOptions(ensemble="langevin", timestep_fs=2.0),
            RunOptions(steps=600, log_interval=1, traj_interval=2, checkpoint_interval=3),
        )
    print("going", flush=True)
    run.run()
    """
)


def test_a_run_that_is_killed_repeatedly_equals_an_uninterrupted_one(tmp_path, same_run):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT]
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    rng = random.Random(7)
    kills = 0
    while True:
        process = subprocess.Popen([*command, str(killed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.readline()
        if kills == 8:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors.decode()
            break
        time.sleep(rng.uniform(0.0, 0.4))
        os.kill(process.pid, signal.SIGKILL)
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()
        kills += 1
        trajectory = killed / "trajectory.traj"
        if trajectory.exists() and trajectory.stat().st_size:
            steps = [atoms.info["step"] for atoms in read(trajectory, ":")]  # readable immediately after the kill
            assert steps == list(range(0, 2 * len(steps), 2))
    assert kills >= 3
    same_run(whole, killed)
