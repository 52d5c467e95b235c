"""Time of the LAMMPS pair style beside that of the same file in Python, by numbers of atoms and ranks.

Silicon supercells run at 300 K, each in a separate process. For LAMMPS the reported time is that of the pair style per step,
from the table in its log. For Python it is the time of a calculator in the model on one thread, measured just before.
"""

from __future__ import annotations

import logging
import re
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlff_calc.bench.scaling import in_child
from mlff_calc.bench.systems import SILICON_LATTICE_CONSTANT, silicon
from mlff_calc.errors import BenchmarkError, OptionError
from mlff_calc.export import load_exported, read_metadata
from mlff_calc.lammps.build import build_plugin
from mlff_calc.lammps.carried import carry
from mlff_calc.lammps.mpi import run_lammps

logger = logging.getLogger(__name__)

SILICON = 14


def measure_lammps(
    file: Path, sizes: Sequence[int], ranks: Sequence[int], *, steps: int = 5, paired: bool = True, trust: bool = False
) -> list[dict[str, Any]]:
    """Time silicon supercells in LAMMPS and, with `paired`, in Python.

    Args:
        file: File of `mlff export --to lammps` that knows silicon.
        sizes: Numbers of atoms, each 8 n^3.
        ranks: Numbers of ranks, with one thread each.
        steps: Number of timed steps.
        paired: Whether to time the file in Python as well. Files with a fixed point are not, since Python would solve them
            from scratch.
        trust: Whether to run the code of a file that this user did not export on this machine.

    Returns:
        One dict per size and number of ranks: `n_atoms`, `n_ranks`, `pair_ms` and `loop_ms` per step, `us_per_atom` (pair
        style), `python_ms` (model, None if not measured), `ratio` (pair style to Python, on one rank), `memory_mib` (peak
        of the largest rank), `kib_per_atom` (all ranks together, including their base).

    Raises:
        OptionError: A size is not 8 n^3, or the file does not know silicon.
        BenchmarkError: LAMMPS failed.
        PotentialFileError: The file does not exist, or was made by somebody else and is not trusted.
    """
    metadata = read_metadata(file)
    if metadata.kind != "lammps" or SILICON not in metadata.elements:
        raise OptionError(
            f"{file} is no export to LAMMPS that knows Si; write one with: mlff export silicon --to lammps"
        )
    for size in sizes:
        silicon(size)
    sha256 = load_exported(file, trust=trust).sha256
    build_plugin()
    rows = []
    for size in sizes:
        python = None
        if paired and metadata.fixed_point is None:
            logger.info("%d atoms in Python", size)
            python = in_child(
                task="step", system=f"si{size}", steps=steps, threads=1, potential=str(file), compiled=False,
                precision=metadata.precision, trust=trust,
            )["model_ms"]  # fmt: skip
        for n_ranks in ranks:
            logger.info("%d atoms in LAMMPS on %d ranks", size, n_ranks)
            row = in_child(task="lammps", system=f"si{size}", file=str(file), sha256=sha256, n_ranks=n_ranks, steps=steps)
            row |= {"python_ms": python, "ratio": row["pair_ms"] / python if python and n_ranks == 1 else None}
            rows.append(row)
    return rows


def lammps_step(system: str, file: str, sha256: str, n_ranks: int, steps: int) -> dict[str, Any]:
    """Run LAMMPS once, and return the fields of `measure_lammps`. The peak memory is that of the children of this process.

    Raises:
        BenchmarkError: LAMMPS failed, or its log has no table of times.
        PotentialFileError: The file has another SHA-256.
    """
    n_atoms = int(system.removeprefix("si"))
    repeats = round((n_atoms / 8) ** (1 / 3))
    text = "\n".join([
        "units metal", "atom_style atomic", "boundary p p p",
        f"lattice diamond {SILICON_LATTICE_CONSTANT}",
        f"region box block 0 {repeats} 0 {repeats} 0 {repeats}",
        "create_box 1 box", "create_atoms 1 box", "mass 1 28.0855",
        "displace_atoms all random 0.05 0.05 0.05 87287",
        "velocity all create 300 4928459 loop geom",
        "pair_style mlff", f"pair_coeff * * potential{Path(file).suffix} Si",
        "neighbor 0.5 bin", "fix 1 all nve", "timestep 0.001", "thermo 1000000",
        "run 3",  # untimed steps, in which LAMMPS allocates buffers and the backend prepares its code
        f"run {steps}", "",
    ])  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mlff-bench-") as folder:
        plugins = str(build_plugin().parent)
        carry(file, sha256, Path(folder))
        done = run_lammps(text, folder=Path(folder), n_ranks=n_ranks, plugins=plugins)
        log = Path(folder) / "log.lammps"
        said = log.read_text(encoding="utf-8") if log.is_file() else ""
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise BenchmarkError(f"LAMMPS stopped with {n_atoms} atoms on {n_ranks} ranks: {' '.join(lines[:2])}")
    last = said.rpartition("Loop time of ")[2]
    loop = re.match(r"\S+", last)
    pair = re.search(r"^Pair\s*\|\s*\S+\s*\|\s*(\S+)\s*\|", last, re.MULTILINE)
    if loop is None or pair is None:
        raise BenchmarkError(f"the log of LAMMPS has no table of times ({n_atoms} atoms on {n_ranks} ranks)")
    pair_ms = 1000.0 * float(pair[1]) / steps
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    return {
        "n_atoms": n_atoms,
        "n_ranks": n_ranks,
        "pair_ms": pair_ms,
        "loop_ms": 1000.0 * float(loop[0]) / steps,
        "us_per_atom": 1000.0 * pair_ms / n_atoms,
        "memory_mib": memory,
        "kib_per_atom": 2**10 * n_ranks * memory / n_atoms,
    }
