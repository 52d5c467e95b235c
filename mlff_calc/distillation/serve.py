"""The teacher's side: reads structures, one line of JSON each, and answers with energy, forces and stress, one line each.

This file is also a program of its own, which any Python of 3.9 or later with ASE and NumPy runs, so that a teacher may live
in another environment: it imports neither this package nor torch. The first line tells which function makes the
calculator. What a teacher prints goes to standard error, and a process whose parent has gone ends itself.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # the folder of this file, whose names must not hide those of other packages

import importlib
import json
import os
import signal
import threading
import time
from typing import Any

WANTED = ("energy", "forces", "stress")
"""What a request may ask for."""
LOOK = 2.0
"""Seconds between two looks whether the parent is still there. Raising it leaves an orphan for longer."""
_KEPT = threading.local()  # calculators of a thread, since two threads in one would mix their results


def factory_of(setup: dict[str, Any]) -> Any:
    """Return the function that makes calculators.

    Args:
        setup: `factory` (`module:function`, or a function), `path` (folders to search for modules, last), `imports`.

    Raises:
        ImportError: There is no such module.
        AttributeError: There is no such function in it.
    """
    for folder in setup.get("path", ()):
        if folder not in sys.path:
            sys.path.append(folder)
    found = setup["factory"]
    if isinstance(found, str):
        module, _, name = found.partition(":")
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    return found


def version_of(setup: dict[str, Any]) -> str:
    """Return name and version of the package that a teacher comes from; that of ASE where it says none."""
    from importlib.metadata import PackageNotFoundError, version

    name = setup["factory"].partition(":")[0].partition(".")[0] if isinstance(setup["factory"], str) else "ase"
    for package in (name, name.replace("_", "-"), "ase"):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return name


def label(setup: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Label a structure; never raises.

    Args:
        setup: `factory`, `arguments` of it, `path`, and whether one calculator is `kept` for all structures.
        request: `numbers`, `positions`, `cell`, `pbc`, `info`, `want`, and further `arguments`.

    Returns:
        Energy (eV), forces (eV/Angstrom), stress (eV/Angstrom^3, ASE's six numbers), seconds; or `error`, in words.
    """
    began = time.perf_counter()
    try:
        from ase import Atoms

        atoms = Atoms(request["numbers"], request["positions"], cell=request["cell"], pbc=request["pbc"])
        atoms.info.update(request.get("info", {}))
        arguments = {**setup.get("arguments", {}), **request.get("arguments", {})}
        atoms.calc = _calculator(setup, arguments, atoms)
        found: dict[str, Any] = {}
        for name in request["want"]:
            found[name] = _plain(atoms.get_stress() if name == "stress" else atoms.calc.get_property(name, atoms))
        converged = getattr(atoms.calc, "converged", None)
        if type(converged).__name__ in ("bool", "bool_") and not converged:  # of Python and of NumPy
            found = {"error": "the calculator says that it did not converge"}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # teachers raise what they like, also SystemExit
        found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000]}
    found["seconds"] = time.perf_counter() - began
    return found


def _calculator(setup: dict[str, Any], arguments: dict[str, Any], atoms: Any) -> Any:
    """Make a calculator, or return the one that is kept."""
    if not setup.get("kept"):
        make = factory_of(setup)
        return make(atoms) if setup.get("takes_atoms") else make(**arguments)
    key = json.dumps([setup["factory"], arguments], sort_keys=True)
    kept = _KEPT.__dict__
    if key not in kept:
        kept[key] = factory_of(setup)(**arguments)
    return kept[key]


def _plain(value: Any) -> Any:
    """Lists and numbers in the place of arrays."""
    import numpy as np

    if value is None:
        raise ValueError("the calculator gave nothing")
    return np.asarray(value, dtype=np.float64).tolist()


def main() -> None:
    """Answer lines until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what the teacher prints, from C too
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # programs that the teacher starts read nothing of the requests
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    setup = json.loads(requests.readline())
    try:
        factory_of(setup)
        import ase  # noqa: F401
        import numpy  # noqa: F401

        if setup.get("kept"):  # it may load for longer than a label takes
            _calculator(setup, setup.get("arguments", {}), None)
    except BaseException as error:
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return
    torch = "torch" in sys.modules
    answers.write(json.dumps({"version": version_of(setup), "python": sys.version.split()[0], "torch": torch}) + "\n")
    for line in requests:
        request = json.loads(line)
        answers.write(json.dumps({"number": request["number"], **label(setup, request)}) + "\n")


def _end_with(parent: int) -> None:
    """End this process, and what it has started, when its parent has gone, even while a label hangs."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
