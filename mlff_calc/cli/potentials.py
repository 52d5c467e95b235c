"""`mlff potentials`: what ships, and the card of one potential."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from mlff_calc.cli import options

if TYPE_CHECKING:
    from mlff_calc.potential import PotentialEntry


def potentials(
    name: Annotated[
        str | None, typer.Argument(help="Show the card of this potential: a name or a folder.", show_default=False)
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the potentials that ship with the package, or show the card of one.

    A card says on what data and level of theory a potential was trained, its errors, and what it is not for.
    """
    from mlff_calc.potential import list_potentials

    if name is not None:
        typer.echo(_card(name))
        return
    entries = list_potentials()
    if as_json:
        rows = [{"name": entry.name, "path": str(entry.path), "summary": _summary(entry)} for entry in entries]
        typer.echo(json.dumps(rows, indent=2))
    elif not entries:
        typer.echo("No potentials ship with this installation; `mlff train --example` starts one of your own.")
    else:
        width = max(len(entry.name) for entry in entries)
        for entry in entries:
            typer.echo(f"{entry.name:<{width}}  {_summary(entry)}")


def _summary(entry: PotentialEntry) -> str:
    """The first line of the card without its heading mark."""
    return entry.summary.lstrip("# ").strip()


def _card(name: str) -> str:
    from mlff_calc.errors import PotentialFileError
    from mlff_calc.potential.catalogue import find_potential

    folder = find_potential(name, any_kind=True)
    card = folder / "card.md"
    if not card.is_file():
        raise PotentialFileError(f"the folder {folder} holds no card.md; a potential that `mlff train` writes has one")
    return card.read_text(encoding="utf-8").rstrip()
