"""Everything on which a label depends: functional, basis, grid and thresholds."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from ase.data import chemical_symbols

from mlff_calc.electronic.scf.pyscf_door import pyscf_module
from mlff_calc.errors import OptionError
from mlff_calc.near import suggestion

B3LYP_NOTE = (
    "b3lyp of PySCF since 2.3 contains VWN-RPA, as in Gaussian; earlier versions, and QH9's Stable and Dynamic-300k, "
    "contain VWN5, which is b3lyp5. They differ by 37 mHa and 4e-4 Ha in the matrix of water, more than any model's error"
)
"""What must be known about B3LYP (AIRS issue 11)."""

_FUNCTIONALS = (
    "b3lyp", "b3lyp5", "pbe", "pbe0", "blyp", "bp86", "hf", "r2scan", "tpss", "wb97x", "m062x", "revpbe", "camb3lyp",
    "lda,vwn",
)  # fmt: skip
_BASES = (
    "def2-svp", "def2-tzvp", "sto-3g", "6-31g*", "cc-pvdz", "def2-svpd", "def2-tzvpp", "def2-qzvp", "3-21g", "6-31g",
    "6-31g**", "6-311g**", "6-31+g*", "cc-pvtz", "aug-cc-pvdz", "minao",
)  # fmt: skip
_POPLE = re.compile(r"[3-6][1-6]{1,3}\+{0,2}g(\*{0,2}|\([\w,]{1,12}\))")
_SAME = {"b3lypg": "b3lyp", "rhf": "hf"}
"""Names of functionals that mean the same as another one."""


@dataclass(frozen=True, eq=False)
class SCFSettings:
    """The level of a self-consistent field. Settings are equal if they give the same matrix.

    Plain values are checked when it is made; names of functionals and bases by `check`, which needs PySCF.

    Attributes:
        xc: Functional as PySCF names it, or `hf`. Beware of `b3lyp` and `b3lyp5`, see `B3LYP_NOTE`.
        basis: Name of a basis as PySCF names it.
        grid_level: Level of PySCF's grids, 0 to 9; larger grids are finer and cost more.
        conv_tol: Change of energy between cycles at convergence, Ha.
        density_fit: Whether Coulomb and exchange are density-fitted.
        max_cycle: Largest number of cycles of one attempt. It does not matter for the equality of settings.

    Raises:
        OptionError: A value is out of range or of another type.
    """

    xc: str
    basis: str
    grid_level: int = 3
    conv_tol: float = 1e-9
    density_fit: bool = False
    max_cycle: int = field(default=50)

    def __post_init__(self) -> None:
        for name in ("xc", "basis"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise OptionError(f"{name} is {value!r}; give a name, like {'b3lyp' if name == 'xc' else 'def2-svp'}")
            object.__setattr__(self, name, " ".join(value.lower().split()))
        for name, kinds, low, high in (
            ("grid_level", (int,), 0, 9), ("conv_tol", (int, float), 1e-14, 1e-4), ("max_cycle", (int,), 1, 10000),
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                raise OptionError(f"{name} is {value!r}; give a number from {low:g} to {high:g}")
        if not isinstance(self.density_fit, bool):
            raise OptionError(f"density_fit is {self.density_fit!r}; give True or False")
        object.__setattr__(self, "conv_tol", float(self.conv_tol))

    def level(self) -> tuple[str, str, int, float, bool]:
        """Return what decides whether two settings give the same matrix."""
        xc = self.xc.replace(" ", "")
        grid = 0 if xc in ("hf", "rhf") else self.grid_level
        return _SAME.get(xc, xc), plain_basis(self.basis), grid, self.conv_tol, self.density_fit

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SCFSettings) and self.level() == other.level()

    def __hash__(self) -> int:
        return hash(self.level())

    def __str__(self) -> str:
        fitted = ", density-fitted" if self.density_fit else ""
        grid = "" if self.is_hartree_fock else f", grid {self.grid_level}"
        return f"{self.xc}/{self.basis}{grid}, conv_tol {self.conv_tol:g} Ha{fitted}"

    @property
    def is_hartree_fock(self) -> bool:
        """Whether there is no functional."""
        return self.level()[0] == "hf"

    def differences(self, other: SCFSettings) -> list[str]:
        """Say in which settings another level differs, as `basis def2-svp and sto-3g`; empty where they are equal."""
        names = ("xc", "basis", "grid_level", "conv_tol", "density_fit")
        return [
            f"{name} {getattr(self, name)} and {getattr(other, name)}"
            for name, one, two in zip(names, self.level(), other.level(), strict=True)
            if one != two
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make settings from a plain dict.

        Raises:
            OptionError: A key is missing or unknown, or a value is out of range.
        """
        if not isinstance(values, Mapping):
            raise OptionError(f"settings of an SCF are {type(values).__name__}; give a mapping with xc and basis")
        known = [each.name for each in fields(cls)]
        for name in values:
            if name not in known:
                hint = suggestion(name, known, before="; ")
                raise OptionError(f"unknown setting {name!r} of an SCF; known are {', '.join(known)}{hint}")
        missing = [name for name in ("xc", "basis") if name not in values]
        if missing:
            raise OptionError(f"settings of an SCF lack {' and '.join(missing)}")
        return cls(**values)

    def check(self, numbers: Iterable[int] = ()) -> None:
        """Check with PySCF that the functional exists and that the basis covers elements.

        Args:
            numbers: Atomic numbers.

        Raises:
            OptionError: PySCF is not installed; the functional or basis is unknown or is not supported; the basis
                lacks an element, or has an effective core potential for it.
        """
        _check_functional(self.xc)
        _check_basis(self.basis, sorted({int(number) for number in numbers}))


def plain_basis(name: str) -> str:
    """Return the name of a basis as PySCF compares it, without hyphens: `def2svp`."""
    return re.sub(r"[-_ ]", "", name.lower())


def is_pople(name: str) -> bool:
    """Whether a basis is one of Pople's split-valence sets, such as 6-31g*."""
    return _POPLE.fullmatch(plain_basis(name)) is not None


def _check_functional(xc: str) -> None:
    libxc, parser = pyscf_module("pyscf.dft.libxc"), pyscf_module("pyscf.dft.dft_parser")
    if xc in ("hf", "rhf"):
        return
    try:
        dispersion = parser.parse_dft(xc)[2]
        if not re.search("[a-z]", xc) or not libxc.parse_xc(xc)[1]:
            raise ValueError
    except Exception as error:  # PySCF raises KeyError, ValueError and others
        hint = suggestion(xc, _FUNCTIONALS, before="; ") or f"; give one of PySCF, like {', '.join(_FUNCTIONALS[:7])}"
        raise OptionError(f"unknown functional {xc!r}{hint}") from error
    if dispersion:
        raise OptionError(
            f"functional {xc!r} has a dispersion correction ({dispersion}), which changes no matrix; leave it out and add "
            "it to energies and forces afterwards"
        )


def _check_basis(name: str, numbers: list[int]) -> None:
    basis = pyscf_module("pyscf.gto.basis")
    plain = plain_basis(name)
    is_known = plain in basis.ALIAS or plain in basis.USER_BASIS_ALIAS or _POPLE.fullmatch(plain)
    if not is_known or plain.endswith(("fit", "ri")):
        hint = suggestion(name, _BASES, before="; ") or f"; give a name of PySCF, like {', '.join(_BASES[:5])}"
        raise OptionError(f"unknown basis {name!r}{hint}")
    for number in numbers:
        symbol = chemical_symbols[number] if 0 < number < len(chemical_symbols) else f"Z={number}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it advises another package
            try:
                found = basis.load(name, symbol)
                core = None if _POPLE.fullmatch(plain) else basis.load_ecp(name, symbol)
            except Exception:  # its own error is a RuntimeError; parsers raise others
                found, core = None, None
        if not found:
            raise OptionError(
                f"basis {name!r} has no orbitals for {symbol}; take another basis, or leave out such structures"
            )
        if core:
            raise OptionError(
                f"basis {name!r} has an effective core potential for {symbol}, which is not supported; take an all-electron "
                "basis, or leave out such structures"
            )
