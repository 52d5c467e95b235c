"""What a user names as a calculator, as an evaluator of many structures."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.calculators.named import names_scf, scf_calculator
from mlff_calc.datasets.molecules import number_of_electrons
from mlff_calc.errors import OptionError
from mlff_calc.export.compiled import CompiledPotential, compile_potential
from mlff_calc.potential import Potential, load_potential
from mlff_calc.potential.fixed_point import FixedPointPotential
from mlff_calc.sampling.evaluators import BatchedPotential, Evaluator, OneByOne
from mlff_calc.sampling.systems import Systems
from mlff_calc.sampling.workers import Workers

XTB = {"gfn2-xtb": "GFN2-xTB", "gfn1-xtb": "GFN1-xTB"}
"""Methods of tblite by the names that users give."""


@dataclass(frozen=True)
class Xtb:
    """A factory of tblite's calculators.

    Attributes:
        method: Name of the method in tblite.
        charge: Total charge, e.
        multiplicity: Number of unpaired electrons and one.
    """

    method: str
    charge: int = 0
    multiplicity: int = 1

    def __call__(self) -> BaseCalculator:
        """A new calculator."""
        from tblite.ase import TBLite

        return TBLite(method=self.method, charge=float(self.charge), multiplicity=self.multiplicity, verbosity=0)

    def check(self, systems: Systems) -> None:
        """Refuse molecules whose number of electrons does not fit the multiplicity: tblite computes some of them as others.

        Raises:
            OptionError: It does not fit.
        """
        for number in range(len(systems)):
            atomic = systems.numbers[systems.rows(np.array([number]))]
            electrons = number_of_electrons(atomic.tolist(), self.charge)
            if (electrons - self.multiplicity + 1) % 2:
                raise OptionError(
                    f"{Atoms(atomic).get_chemical_formula()} with a charge of {self.charge} e has {electrons} electrons, "
                    f"which do not fit a multiplicity of {self.multiplicity}; give its charge, or the multiplicity of a "
                    "radical, 2 for one unpaired electron"
                )


@dataclass(frozen=True, eq=False)
class Given:
    """A factory that gives the same calculator again and again.

    Attributes:
        calculator: The calculator.
    """

    calculator: BaseCalculator

    def __call__(self) -> BaseCalculator:
        """The calculator."""
        return self.calculator

    def __repr__(self) -> str:
        """Class and parameters, which tell it from others."""
        kind = type(self.calculator)
        parameters = dict(sorted(getattr(self.calculator, "parameters", {}).items()))
        return f"{kind.__module__}.{kind.__qualname__}({parameters})"


@dataclass(frozen=True)
class Imported:
    """A factory that is found by its name, so that other processes find it too.

    Attributes:
        name: `module:function`.
    """

    name: str

    def __call__(self) -> BaseCalculator:
        """A new calculator."""
        found: BaseCalculator = _imported(self.name)()
        return found


def _imported(name: str) -> Any:
    """What `module:function` names, also in the current folder, which a program does not search by itself.

    Raises:
        ImportError: There is no such module.
        AttributeError: It has no such function.
    """
    module, _, function = name.partition(":")
    folder = str(Path.cwd())
    if not {folder, ""} & set(sys.path):
        sys.path.append(folder)  # behind everything else, so that no file in it hides an installed module
    return getattr(importlib.import_module(module), function)


@dataclass(frozen=True)
class Scf:
    """A factory of SCF calculators.

    Attributes:
        name: `scf:NAME=VALUE,...`, see `scf_calculator`.
        charge: Total charge, e.
    """

    name: str
    charge: int = 0

    def __call__(self) -> BaseCalculator:
        """A new calculator."""
        return scf_calculator(self.name, charge=self.charge)


def evaluator_of(
    calculator: str | Path | Potential | CompiledPotential | BaseCalculator | Evaluator | Callable[[], BaseCalculator],
    *,
    charge: int = 0,
    multiplicity: int = 1,
    workers: int = 0,
    timeout: float = 600.0,
    precision: str = "float32",
    compile: bool = False,
) -> Evaluator:
    """An evaluator of whatever gives energies and forces.

    Args:
        calculator: Name of a potential that ships, path of a folder, a potential; `gfn2-xtb` or `gfn1-xtb`;
            `scf:xc=pbe,basis=def2-svp` (see `SCFCalculator`); `module:function` of a function without arguments that makes
            an ASE calculator, or such a function; an ASE calculator; an evaluator.
        charge: Total charge of the molecule, e. tblite gets it, other calculators find it in `info["charge"]` of the atoms.
        multiplicity: Number of unpaired electrons and one, for tblite, and `info["spin"]` for others.
        workers: Number of processes for calculators that are not potentials; 0 is this process, in which nothing ends a
            calculator that hangs.
        timeout: Seconds that a calculator in a worker has for one structure.
        precision: Precision of a potential.
        compile: Whether to compile a potential.

    Raises:
        OptionError: An option that does not go with the calculator, or a package that is not installed.
        PotentialFileError: No such potential.
    """
    if isinstance(calculator, Evaluator):
        return calculator
    if isinstance(calculator, MLFFCalculator):
        precision, calculator = calculator.parameters.get("precision", precision), calculator.potential
    if multiplicity < 1:
        raise OptionError(f"the multiplicity is {multiplicity}; give 1 or more")
    info = {"charge": charge, "spin": multiplicity} if charge or multiplicity > 1 else None
    if isinstance(calculator, BaseCalculator):
        given = calculator
        if workers:
            raise OptionError("a calculator object stays in this process; give a function that makes one, or workers=0")
        return OneByOne(Given(given), info)
    factory = _factory(calculator, charge, multiplicity)
    if factory is not None:
        if compile:
            raise OptionError(f"{calculator} cannot be compiled; leave compile out")
        return Workers(factory, workers, timeout, info) if workers else OneByOne(factory, info)
    if workers:
        raise OptionError("a potential evaluates all structures in one batch; leave workers out")
    if charge:
        raise OptionError(f"the molecule has a charge of {charge} e, and the potential knows no charges; use gfn2-xtb")
    if multiplicity > 1:
        raise OptionError(f"the multiplicity is {multiplicity}, and the potential knows no spins; use gfn2-xtb")
    if isinstance(calculator, CompiledPotential):
        return BatchedPotential(calculator)
    potential = calculator if isinstance(calculator, Potential) else load_potential(str(calculator))
    potential = potential.to_precision(precision).eval().requires_grad_(False)
    if compile:
        if isinstance(potential, FixedPointPotential):
            raise OptionError("a fixed-point potential is compiled as a step of one trajectory; leave compile out")
        return BatchedPotential(compile_potential(potential))
    return BatchedPotential(potential)


def workers_for(workers: int, *calculators: Any) -> list[int]:
    """Numbers of processes for each of several calculators, of which potentials need none; None may stand among them.

    Raises:
        OptionError: There are workers, and only potentials.
    """
    wanted = [one is not None and not _is_potential(one) for one in calculators]
    if workers and not any(wanted):
        raise OptionError("a potential evaluates all structures in one batch; leave workers out")
    return [workers if one else 0 for one in wanted]


def _is_potential(calculator: Any) -> bool:
    """Whether something is a potential, or the name of one."""
    if isinstance(calculator, Evaluator | BaseCalculator):
        return isinstance(calculator, BatchedPotential | MLFFCalculator)
    return _factory(calculator) is None


def _factory(calculator: Any, charge: int = 0, multiplicity: int = 1) -> Callable[[], BaseCalculator] | None:
    """A function that makes calculators; None where a potential is meant."""
    if callable(calculator) and not isinstance(calculator, Potential | CompiledPotential):
        made: Callable[[], BaseCalculator] = calculator
        return made
    name = str(calculator)
    if name.lower() in XTB:
        try:
            import tblite.ase  # noqa: F401
        except ImportError as error:
            raise OptionError(f"{name} needs tblite, which is not installed; pip install 'mlff_calc[xtb]'") from error
        return Xtb(XTB[name.lower()], charge, multiplicity)
    if names_scf(calculator):
        Scf(name, charge)()  # options that cannot be honoured are refused here, and not by workers
        return Scf(name, charge)
    if isinstance(calculator, str) and ":" in name and not Path(name).exists():
        try:
            _imported(name)
        except (ImportError, AttributeError) as error:
            raise OptionError(
                f"{name}: {error}; give module:function of a file in the current folder or of an installed module"
            ) from error
        return Imported(name)
    return None
