"""Calculators named in one word on a command line, as `scf:xc=pbe,basis=def2-svp,start=aspc` or `functional:NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlff_calc.errors import OptionError
from mlff_calc.near import suggestion

if TYPE_CHECKING:
    from mlff_calc.calculators.scf import SCFCalculator

SCF, FUNCTIONAL = "scf", "functional"


def names_scf(text: object) -> bool:
    """Whether a text names an SCF: `scf`, `scf:` with parameters, or `functional:` with a learned functional."""
    return isinstance(text, str) and (text == SCF or text.startswith((f"{SCF}:", f"{FUNCTIONAL}:")))


def scf_calculator(text: str, **more: Any) -> SCFCalculator:
    """Return the calculator that a text names.

    Args:
        text: `scf`, or `scf:NAME=VALUE,...` with parameters of `SCFCalculator`, or `functional:FUNCTIONAL,NAME=VALUE,...`
            with the name or folder of a learned functional and parameters of `EGXCCalculator`. A value may contain commas
            (`xc=lda,vwn`).
        more: Parameters that are used where the text does not set them.

    Raises:
        OptionError: A parameter is unknown or its value cannot be used.
        PotentialFileError: There is no such model or functional.
    """
    from mlff_calc.calculators.egxc import EGXCCalculator
    from mlff_calc.calculators.scf import SCFCalculator

    kind, _, rest = text.partition(":")
    if kind != FUNCTIONAL:
        return SCFCalculator(**{**more, **_given(text, rest, SCFCalculator.default_parameters)})
    name, _, rest = rest.partition(",")
    if not name or "=" in name:
        raise OptionError(f"{text}: write functional:NAME, with the name or folder of a functional before its parameters")
    given = _given(text, rest, EGXCCalculator.default_parameters)
    return EGXCCalculator(name, **{**more, **given})


def _given(text: str, rest: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Read parameters from a text, with the types of their defaults."""
    given: dict[str, str] = {}
    last = ""
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        if not equals and last:  # the rest of a value with a comma
            given[last] += f",{part}"
            continue
        last = name.strip()
        if not equals and last in known:
            raise OptionError(f"{text}: {last} has no value; write {last}=VALUE")
        if last in given:
            raise OptionError(f"{text}: {last} is given twice; keep one")
        if last not in known:
            hint = suggestion(last, known, after=" ")
            raise OptionError(f"{text}: {last!r} is not a parameter: {hint}write NAME=VALUE with one of {', '.join(known)}")
        given[last] = value.strip()
    return {name: _read(text, name, value, known[name]) for name, value in given.items()}


def _read(text: str, name: str, value: str, default: Any) -> Any:
    """Read a value as the type of the default."""
    kinds = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(default, bool):
        if value.lower() not in kinds:
            raise OptionError(f"{text}: {name} is {value!r}; give true or false")
        return kinds[value.lower()]
    if not isinstance(default, int | float):
        return value
    try:
        return int(value) if isinstance(default, int) else float(value)
    except ValueError as error:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise OptionError(f"{text}: {name} is {value!r}; give {kind}") from error
