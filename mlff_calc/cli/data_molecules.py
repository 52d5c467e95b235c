"""`mlff data molecules`: structures of molecules from SMILES, with labels by GFN2-xTB on request."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlff_calc.cli import labelling, options
from mlff_calc.cli.bars import Bars

if TYPE_CHECKING:
    from mlff_calc.datasets.labelling import LabelSummary

_USUAL = "H C N O F P S Cl Br"


class Label(StrEnum):
    """Levels of labels."""

    none = "none"
    gfn2 = "gfn2"


def molecules(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write (.extxyz).", show_default=False)],
    smiles: Annotated[
        Path | None,
        typer.Argument(help="SMILES: a list (.smi, .txt) or a table (.csv, .tsv).", show_default=False),
    ] = None,
    bundled: Annotated[
        int | None,
        typer.Option("--bundled", help="Number of molecules that are drawn without a file.", min=1, show_default=False),
    ] = None,
    column: Annotated[str, typer.Option("--column", help="Column of the SMILES in a table.")] = "smiles",
    elements: Annotated[str, typer.Option("--elements", help="Elements that are allowed.")] = _USUAL,
    max_atoms: Annotated[int, typer.Option("--max-atoms", help="Largest number of atoms, hydrogens counted.", min=1)] = 20,
    conformers: Annotated[int, typer.Option("--conformers", help="Largest number of minima of a molecule.", min=1)] = 1,
    distortions: Annotated[int, typer.Option("--distortions", help="Distortions of each minimum.", min=0)] = 0,
    temperature: Annotated[
        str, typer.Option("--temperature", help="Temperatures of the distortions in turn, K, such as 300,600.")
    ] = "300",
    strained_bonds: Annotated[
        int, typer.Option("--strained-bonds", help="Structures of each minimum with a bond too short or too long.", min=0)
    ] = 0,
    relax: Annotated[bool, typer.Option("--relax", help="Take minima of GFN2-xTB (with --label gfn2).")] = False,
    way: Annotated[int, typer.Option("--way", help="Structures of the way to each such minimum.", min=0)] = 0,
    pairs: Annotated[int, typer.Option("--pairs", help="Pairs of small molecules in contact, which are added.", min=0)] = 0,
    fragments: Annotated[
        bool, typer.Option("--fragments", help="Add the fragments of the molecules by BRICS's rules.")
    ] = False,
    label: Annotated[Label, typer.Option("--label", help="Energies and forces, by GFN2-xTB (extra xtb).")] = Label.none,
    seed: options.Seed = 0,
    workers: labelling.Workers = 1,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Make structures of molecules from SMILES, for pretraining and as inputs of labelling (extra conformers).

    Positions are minima of MMFF94 from ETKDGv3, and distortions of them as at a temperature. Charged molecules, radicals,
    isotopes, salts, other elements, and what is larger are left out and counted, with reasons in FILE.failures.json. Each
    molecule is on the disk as soon as it is done: after Ctrl-C or a kill, the same command with --resume goes on, and
    gives the same file.
    """
    from mlff_calc.datasets.labelling import check_label_target, label_items
    from mlff_calc.datasets.molecule_structures import MoleculeStructures
    from mlff_calc.datasets.smiles import bundled_smiles, read_smiles, with_fragments, with_pairs

    if (smiles is None) == (bundled is None) and not (pairs and smiles is None):
        raise typer.BadParameter("give a file of SMILES, or --bundled N, and not both")
    allowed = tuple(_symbols(elements))
    kind = MoleculeStructures(
        allowed, max_atoms, conformers, distortions, _temperatures(temperature), strained_bonds, relax=relax, way=way,
        several=pairs > 0, label=str(label), seed=seed,
    )  # fmt: skip
    kind.head_of([])  # packages that are missing are found before anything is read
    check_label_target(output, kind, resume=resume, overwrite=overwrite)
    if bundled is not None:
        items = bundled_smiles(bundled, allowed, max_atoms, seed)
    else:
        items = read_smiles(smiles, column) if smiles is not None else []
    if fragments:
        items = with_fragments(items)
    items = with_pairs(items, pairs, allowed, seed)
    with Bars(quiet=quiet) as bars:

        def show(done: int, failed: int, total: int) -> None:
            bars.show("molecules", done, total, f"({failed} left out)" if failed else "")

        summary = label_items(items, kind, output, workers, resume=resume, overwrite=overwrite, on_done=show)
    if not quiet:
        typer.echo(_told(summary, len(items)))


def _temperatures(text: str) -> tuple[float, ...]:
    """Temperatures of an option, separated by spaces or commas, K."""
    try:
        return tuple(float(one) for one in text.replace(",", " ").split())
    except ValueError as error:
        raise typer.BadParameter(f"--temperature is {text!r}; give temperatures in K such as 300,600,1000") from error


def _symbols(text: str) -> list[str]:
    """Chemical symbols of an option, separated by spaces or commas."""
    from ase.data import chemical_symbols

    found = list(dict.fromkeys(text.replace(",", " ").split()))
    wrong = [one for one in found if one not in chemical_symbols[1:]]
    if wrong or not found:
        raise typer.BadParameter(f"--elements is {text!r}; give symbols such as 'H C N O'")
    return found


def _told(summary: LabelSummary, n_smiles: int) -> str:
    from mlff_calc.datasets.energy_files import failures_of
    from mlff_calc.datasets.molecule_structures import LEFT_OUT

    lines = [f"{summary.labelled} structures of {summary.n_items} molecules are in {summary.path}."]
    if summary.failures:
        counts = Counter(reason.partition(":")[0] for _, reason in summary.failures)
        words = [f"{count} {LEFT_OUT.get(reason, 'other reasons')}" for reason, count in counts.most_common()]
        lines.append(
            f"{len(summary.failures)} of {n_smiles} SMILES are left out wholly or in part ({'; '.join(words)}); reasons are "
            f"in {failures_of(summary.path)}."
        )
    return "\n".join(lines)
