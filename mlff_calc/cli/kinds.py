"""The kind of a trained network that a command was given, and options that it does not take."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from mlff_calc.training.task import Task


def task_of_model(model: str) -> Task[Any, Any]:
    """Return the task of a trained network's kind; what is exported is a potential.

    Args:
        model: Name of a shipped network, a folder, or an exported file.

    Raises:
        PotentialFileError: There is no such network.
        OptionError: No installed package provides its kind.
    """
    from mlff_calc.errors import OptionError
    from mlff_calc.networks import find_network, is_exported, read_header
    from mlff_calc.training.kind_names import DEFAULT, kinds
    from mlff_calc.training.kinds import task_of

    kind = DEFAULT if is_exported(model) else str(read_header(find_network(model))["kind"])
    if kind not in kinds():
        raise OptionError(
            f"{model} holds a {kind}, a kind that no installed package provides (known are {', '.join(kinds())}); "
            "install the package that it was trained with"
        )
    return task_of(kind)


def asked_of(
    kind: str, given: Mapping[str, Any], known: Collection[str], spellings: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the options that were given, and refuse those that a kind does not take.

    Args:
        kind: Name of the kind.
        given: All options by name; None or an empty value for those that were not given.
        known: Names of those that the kind takes.
        spellings: Options whose spelling is not that of the name.

    Raises:
        BadParameter: An option does not apply.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    for name in sorted(asked.keys() - set(known)):
        option = (spellings or {}).get(name, f"--{name.replace('_', '-')}")
        raise typer.BadParameter(f"{option} does not apply to a {kind}; leave it out")
    return asked
