"""`mlff compare`: two sets of structures of one molecule beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options


def compare(
    reference: Annotated[Path, typer.Argument(help="Reference structures: any file of ASE, or .sdf with conformers.")],
    other: Annotated[Path, typer.Argument(help="Structures of the same molecule, from `mlff sample` for example.")],
    temperature: Annotated[
        float | None,
        typer.Option(help="Temperature of the samples, K: shows the share with valid energies.", show_default=False),
    ] = None,
    threshold: Annotated[float, typer.Option(help="RMSD below which a conformer counts as found, Angstrom.")] = 0.5,
    use_weights: Annotated[bool, typer.Option("--weights/--no-weights", help="Use the weights of the structures.")] = True,
    as_json: options.Json = False,
) -> None:
    """Compare samples by distances, torsions and energies (.extxyz and the like), or conformers by RMSD (two .sdf files).

    Two .sdf files must hold one molecule with one order of atoms; its stereoisomers count as conformers.

    Beside each distance stands the one that equal distributions have with as many samples.
    Nothing smaller can be told apart.
    """
    import ase.io
    from ase import units

    from mlff_calc.errors import OptionError
    from mlff_calc.sampling.compare import compare_conformers, compare_samples

    for name, value in (("temperature", temperature), ("threshold", threshold)):
        if value is not None and not value > 0.0:
            raise OptionError(f"{name} is {value:g}; give a positive number")
    for path in (reference, other):
        if not path.is_file():
            raise OptionError(f"there is no file {path}; check the spelling")
    suffixes = {reference.suffix, other.suffix}
    if ".sdf" in suffixes and len(suffixes) > 1:
        raise OptionError(
            f"{reference} and {other}: conformers in .sdf are compared with conformers in .sdf; give two such files, or none"
        )
    if suffixes == {".sdf"}:
        found = compare_conformers(reference, other, threshold)
    else:
        sets = []
        for path in (reference, other):
            try:
                sets.append(ase.io.read(path, ":"))
            except Exception as error:
                raise OptionError(f"{path} cannot be read as structures: {error}") from error
        kT = None if temperature is None else units.kB * temperature
        found = compare_samples(*sets, kT=kT, weighted=use_weights)
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else found.as_text())
