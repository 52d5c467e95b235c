"""`mlff potentials`: list trained networks, or show the card of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options


def potentials(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Name or folder of a network whose card to show, or a folder of several to list.", show_default=False
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the networks that ship with the package or are in a folder, or show the card of one.

    A card states the training data and level of theory of a network, its errors, and its limits.
    """
    from mlff_calc.networks import find_network, kind_of, list_networks

    entries = list_networks(name) if name is None or (Path(name).is_dir() and kind_of(name) is None) else []
    if name is not None and not entries:
        folder = find_network(name)
        card = _card(folder)
        if as_json:
            one = {"name": folder.name, "kind": kind_of(folder), "path": str(folder), "card": card}
            typer.echo(json.dumps(one, indent=2))
        else:
            typer.echo(f"{card}\n\nFolder: {folder}")
        return
    rows = [
        {"name": entry.name, "kind": entry.kind, "path": str(entry.path), "summary": entry.summary} for entry in entries
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif not rows:
        typer.echo("No potentials ship with this installation; `mlff train --example` starts one of your own.")
    else:
        widths = {key: max(len(row[key]) for row in rows) for key in ("name", "kind")}
        for row in rows:
            typer.echo(f"{row['name']:<{widths['name']}}  {row['kind']:<{widths['kind']}}  {row['summary']}".rstrip())


def _card(folder: Path) -> str:
    from mlff_calc.errors import PotentialFileError

    card = folder / "card.md"
    if not card.is_file():
        raise PotentialFileError(f"the folder {folder} holds no card.md; networks written by `mlff train` have one")
    return card.read_text(encoding="utf-8").rstrip()
