"""Teachers: what gives the labels, by name or as a function, with what its student's card has to say of it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms

from mlff_calc.errors import MLFFError, OptionError
from mlff_calc.near import suggestion
from mlff_calc.potential.load import find_potential, list_potentials

CALM: tuple[dict[str, Any], ...] = ({"max_iterations": 1000, "mixer_damping": 0.1},)
"""Options of tblite for a structure that did not converge: slower steps to the same energy, and more of them."""
_SOFT = "It is known to be too soft: curvatures, and so frequencies and elastic constants, are under-predicted."
_MPTRJ = "Trained on MPtrj (Materials Project, CC BY 4.0), which is to be cited."
_PLAIN: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "gfn2-xtb": ("tblite.ase:TBLite", {"method": "GFN2-xTB", "verbosity": 0}, "LGPL-3.0-or-later (tblite)",
                 "GFN2-xTB: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019)."),
    "gfn1-xtb": ("tblite.ase:TBLite", {"method": "GFN1-xTB", "verbosity": 0}, "LGPL-3.0-or-later (tblite)",
                 "GFN1-xTB: Grimme, Bannwarth, Shushkov, J. Chem. Theory Comput. 13, 1989 (2017)."),
    "emt": ("ase.calculators.emt:EMT", {}, "LGPL-2.1-or-later (ASE)", "Effective medium theory, for demonstrations."),
    "7net-0": ("sevenn.calculator:SevenNetCalculator", {"model": "7net-0", "device": "cpu"},
               "MIT in recent versions of sevenn, GPL-3 in older ones", f"{_MPTRJ} {_SOFT}"),
    "chgnet": ("chgnet.model.dynamics:CHGNetCalculator", {"use_device": "cpu"}, "modified BSD (chgnet)",
               f"{_MPTRJ} {_SOFT}"),
}  # fmt: skip
_KEPT = ("7net-0", "chgnet")
_PACKAGES = {"tblite": "tblite (pip install 'mlff_calc[xtb]')", "sevenn": "sevenn", "chgnet": "chgnet"}
_NO_WEIGHTS = ("mattersim", "orb", "mace", "matgl", "m3gnet", "upet", "torchani", "ani", "aimnet", "grace",
               "tensorpotential", "alignn", "fennol")  # fmt: skip


@dataclass(frozen=True)
class Teacher:
    """What gives the labels.

    Attributes:
        name: Name in files and messages.
        factory: `module:function` that makes an ASE calculator, or a function of the structure that does.
        arguments: Keyword arguments of the function.
        python: Interpreter of the processes; that of this process by default.
        kept: Whether one calculator serves all structures of a process, as loading it takes long.
        retries: Arguments in place of others for a structure that failed.
        licence: Licence of the teacher, in words.
        about: Sentences for the card.
        identity: Further plain values on which labels depend.
    """

    name: str
    factory: str | Callable[[Atoms], Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    python: str = sys.executable
    kept: bool = False
    retries: tuple[Mapping[str, Any], ...] = ()
    licence: str = "not known; see the teacher"
    about: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Digest of function and options, on which labels depend."""
        factory = self.factory if isinstance(self.factory, str) else _named(self.factory)
        whole = [factory, dict(self.arguments), dict(self.identity)]
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def told(self) -> str:
        """Function and options, to be read by people."""
        factory = self.factory if isinstance(self.factory, str) else _named(self.factory)
        return f"{factory}({', '.join(f'{name}={value!r}' for name, value in sorted(self.arguments.items()))})"

    def charged(self, charge: int) -> dict[str, Any]:
        """Arguments for a structure of a total charge (e), where the function takes it; others find it in `info`."""
        takes = charge and isinstance(self.factory, str) and self.factory.startswith("tblite")
        return {"charge": float(charge)} if takes else {}

    def setup(self) -> dict[str, Any]:
        """First line for a process, see `serve.label`."""
        own = not isinstance(self.factory, str)
        return {"factory": self.factory, "arguments": dict(self.arguments), "path": [str(Path.cwd())], "kept": self.kept,
                "takes_atoms": own}  # fmt: skip


def teacher_of(
    name: str | Callable[[Atoms], Any],
    options: Mapping[str, Any] | None = None,
    environment: str | None = None,
) -> Teacher:
    """Find a teacher.

    Args:
        name: One of `gfn2-xtb`, `gfn1-xtb`, `emt`, `7net-0`, `chgnet`; name or folder of a potential of this package;
            `module:function` of a function that makes an ASE calculator; or a function of a structure that does.
        options: Keyword arguments of the function, over those that the name stands for.
        environment: Interpreter of another environment, in which the teacher is installed.

    Raises:
        OptionError: There is no such teacher or interpreter, or its package brings no weights.
    """
    python = _interpreter(environment)
    given = dict(options or {})
    if not isinstance(name, str):
        if given or environment:
            raise OptionError("a teacher that is a function has its options itself and stays in this environment")
        return Teacher(_named(name), name)
    if name in _PLAIN:
        factory, fixed, licence, about = _PLAIN[name]
        retries = CALM if factory.startswith("tblite") else ()
        return Teacher(name, factory, {**fixed, **given}, python, name in _KEPT, retries, licence, about)
    if ":" in name and not Path(name).exists():
        module, _, function = name.partition(":")
        if not (module and function):
            raise OptionError(f"teacher {name!r}: write module:function, such as my_teacher:calculator")
        return Teacher(name, name, given, python)
    wanted = name.lower()
    if any(wanted == one or wanted.startswith((f"{one}-", f"{one}_")) for one in _NO_WEIGHTS):
        raise OptionError(
            f"the package of teacher {name!r} brings no weights, and fetches them at first use; fetch them "
            "yourself, and give "
            "a function that makes the calculator from the file, as module:function"
        )
    return _own(name, given, python)


def missing_package(teacher: Teacher, error: str) -> str:
    """What helps where the processes of a teacher do not start."""
    package = str(teacher.factory).partition(":")[0].partition(".")[0]
    wanted = _PACKAGES.get(package)
    if wanted is not None:
        return f"install {wanted}, or name the Python that has it as teacher.environment"
    if isinstance(teacher.factory, str) and "No module named" in error:
        return "give module:function of a file in the current folder or of an installed module"
    return "correct the function, or its options under teacher.options"


def _own(name: str, options: dict[str, Any], python: str) -> Teacher:
    """A potential of this package as a teacher."""
    from mlff_calc.networks.files import read_header

    try:
        folder = find_potential(name).resolve()
    except MLFFError as error:
        names = [*_PLAIN, *(entry.name for entry in list_potentials())]
        hint = suggestion(name, names, after=" ")
        raise OptionError(
            f"there is no teacher {name!r}: {hint}choose one of {', '.join(names)}, the folder of a potential, or "
            "module:function of a function that makes an ASE calculator"
        ) from error
    header = read_header(folder)
    arguments = {"potential": str(folder), "domain": "off", "device": "cpu", **options}
    return Teacher(
        Path(name).name, "mlff_calc.calculators:MLFFCalculator", arguments, python, kept=True, licence="that of its card",
        about="A potential of mlff_calc, whose card says what it is for.", identity={"weights": header["sha256"]},
    )  # fmt: skip


def _interpreter(environment: str | None) -> str:
    """Path of an interpreter; raises an OptionError where there is none."""
    if environment is None:
        return sys.executable
    path = Path(environment).expanduser()
    path = path / "bin" / "python" if path.is_dir() else path
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise OptionError(
            f"teacher.environment: {environment} is no interpreter; give the path of a python, as venv/bin/python"
        )
    return str(path.absolute())


def _named(function: Any) -> str:
    """Module and name of a function or object."""
    qualified = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}:{qualified}"
