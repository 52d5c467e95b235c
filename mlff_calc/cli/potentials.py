"""`mlff potentials`: what ships, and the card of one potential."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mlff_calc.cli import options


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

    entries = list_potentials()
    if name is not None:
        typer.echo(_card(name))
    elif as_json:
        rows = [{"name": entry.name, "path": str(entry.path), "summary": _summary(entry)} for entry in entries]
        typer.echo(json.dumps(rows, indent=2))
    elif not entries:
        typer.echo("No potentials ship with this installation; `mlff train --example` starts one of your own.")
    else:
        width = max(len(entry.name) for entry in entries)
        for entry in entries:
            typer.echo(f"{entry.name:<{width}}  {_summary(entry)}")


def _summary(entry: object) -> str:
    """The first line of the card without its heading mark, whatever the field is called."""
    return str(getattr(entry, "summary", "")).lstrip("# ").strip()


def _card(name: str) -> str:
    from difflib import get_close_matches
    from pathlib import Path

    from mlff_calc.errors import PotentialFileError
    from mlff_calc.potential import list_potentials

    folders = {entry.name: Path(entry.path) for entry in list_potentials()}
    folder = folders.get(name, Path(name))
    card = folder / "card.md"
    if card.is_file():
        return card.read_text(encoding="utf-8").rstrip()
    close = get_close_matches(name, folders, n=1)
    cure = f"Did you mean {close[0]!r}?" if close else f"Known names: {', '.join(sorted(folders)) or 'none'}."
    what = f"the folder {folder} holds no card.md" if folder.is_dir() else f"no potential or folder named {name!r}"
    raise PotentialFileError(f"{what}. {cure}")
