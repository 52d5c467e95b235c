"""Lists of SMILES: from files, and the molecules that need no file."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlff_calc.bounded import read_text
from mlff_calc.datasets.molecules import quiet, rdkit_chem
from mlff_calc.datasets.pairs import drawn_pairs, small_molecules
from mlff_calc.datasets.readers import existing_file
from mlff_calc.datasets.small_molecules import fits, grown
from mlff_calc.datasets.tables import LARGEST, TABLES, table_rows
from mlff_calc.errors import DatasetError, OptionError

LISTS = (".smi", ".txt")
MOST_BUNDLED = 100_000
"""Largest number of molecules without a file; more would take minutes to draw."""
_NCI = Path("NCI") / "first_5K.smi"


@dataclass(frozen=True)
class NamedSmiles:
    """A SMILES of a list.

    Attributes:
        text: The SMILES as written.
        name: Name of the molecule, or its place in the file.
        first: Number, in the list, of an earlier SMILES of the same molecule; None where it is the first one.
    """

    text: str
    name: str
    first: int | None = None

    @cached_property
    def digest(self) -> bytes:
        """Digest of all of it."""
        return hashlib.sha256(repr((self.text, self.name, self.first)).encode()).digest()


def read_smiles(path: str | Path, column: str = "smiles") -> list[NamedSmiles]:
    """Read the SMILES of a file.

    Args:
        path: A list (.smi, .txt: a SMILES and perhaps a name in each line, `#` begins a comment) or a table (.csv, .tsv).
        column: Column of the SMILES in a table.

    Raises:
        OptionError: RDKit is not installed, or the file has another ending.
        DatasetError: There is no such file, it cannot be read, or it holds no SMILES.
    """
    file = existing_file(path)
    if file.suffix.lower() in TABLES:
        found = [
            ((row[column] or "").strip(), f"row {number}")
            for number, row in enumerate(table_rows(file, {column: "--column"}))
        ]
    elif file.suffix.lower() in LISTS:
        lines = read_text(file, DatasetError, LARGEST).removeprefix("\N{BYTE ORDER MARK}").splitlines()
        words = [line.split(maxsplit=1) for line in lines if line.strip() and not line.lstrip().startswith("#")]
        words = words[1:] if words and words[0][0].lower() == "smiles" else words
        found = [(word[0], word[1].strip() if len(word) > 1 else "") for word in words]
    else:
        ends = ", ".join((*LISTS, *TABLES))
        raise OptionError(f"{file}: SMILES are read from files that end in {ends}; rename it, or convert it")
    if not found:
        raise DatasetError(f"{file} holds no SMILES")
    return _marked(found)


def _marked(found: Iterable[tuple[str, str]]) -> list[NamedSmiles]:
    """Number SMILES, and mark those that repeat an earlier molecule."""
    seen: dict[str, int] = {}
    marked = []
    for number, (text, name) in enumerate(found):
        first = seen.setdefault(canonical(text) or f"?{number}", number)
        marked.append(NamedSmiles(text, name, None if first == number else first))
    return marked


def canonical(smiles: str) -> str:
    """Canonical SMILES; empty where RDKit reads no molecule."""
    chem = rdkit_chem()
    with quiet():
        mol = chem.MolFromSmiles(smiles)
        return "" if mol is None else str(chem.MolToSmiles(mol))


def with_fragments(items: Sequence[NamedSmiles]) -> list[NamedSmiles]:
    """Molecules with their fragments behind them, whose cut bonds are filled with hydrogen; each once.

    Source of the rules (BRICS): Degen, Wegscheid-Gerlach, Zaliani and Rarey, ChemMedChem 3, 1503 (2008).
    """
    chem = rdkit_chem()
    from rdkit.Chem import BRICS

    found = [(one.text, one.name) for one in items]
    seen = {canonical(text) for text, _ in found}
    for text, name in list(found):
        with quiet():
            mol = chem.MolFromSmiles(text)
            if mol is None or len(chem.GetMolFrags(mol)) > 1:
                continue
            for cut in sorted(BRICS.BRICSDecompose(mol)):
                single = re.sub(r"\(=\[7\*\]\)|=\[7\*\]|\[7\*\]=", "", cut)  # cut double bonds: two hydrogens, by valence
                whole = canonical(re.sub(r"\[\d*\*\]", "[H]", single))
                if whole and whole not in seen:
                    seen.add(whole)
                    found.append((whole, f"fragment of {name}" if name else "fragment"))
    return _marked(found)


def with_pairs(items: Sequence[NamedSmiles], n: int, elements: Collection[str], seed: int = 0) -> list[NamedSmiles]:
    """Molecules with `n` pairs of small molecules behind them; see `drawn_pairs`."""
    if not n:
        return list(items)
    pairs = [(text, "pair") for text in drawn_pairs(n, small_molecules(elements), seed)]
    return _marked([*((one.text, one.name) for one in items), *pairs])


def bundled_smiles(n: int, elements: Collection[str], max_atoms: int, seed: int = 0) -> list[NamedSmiles]:
    """Draw molecules without a file: those of a list of the National Cancer Institute that RDKit ships, then grown ones.

    Grown ones are scaffolds with common groups (see `small_molecules.py`). All are different, neutral, of one piece, and
    without radicals and isotopes. The order is that of a draw, so that a smaller n gives the first of a larger one.

    Args:
        n: Number of molecules.
        elements: Chemical symbols that may occur.
        max_atoms: Largest number of atoms, hydrogens counted.
        seed: Seed of the draw.

    Raises:
        OptionError: RDKit is not installed, n is out of range, or there are not as many molecules.
    """
    chem = rdkit_chem()
    if not 1 <= n <= MOST_BUNDLED:
        raise OptionError(f"{n} molecules without a file; give 1 to {MOST_BUNDLED}")
    allowed, found = set(elements), dict[str, str]()
    listed = [(text, f"NCI {number}") for number, text in enumerate(_listed())]
    random.Random(seed).shuffle(listed)
    with quiet():
        for text, name in listed:
            mol = chem.MolFromSmiles(text)
            if mol is not None and _is_usual(mol) and fits(mol, allowed, max_atoms):
                found.setdefault(str(chem.MolToSmiles(mol)), name)
            if len(found) == n:
                break
        for number, text in enumerate(grown(seed, max_atoms, allowed)):
            if len(found) >= n:
                break
            found.setdefault(text, f"grown {number}")
    if len(found) < n:
        raise OptionError(
            f"only {len(found)} molecules of at most {max_atoms} atoms of {' '.join(sorted(allowed))} can be drawn, and {n} "
            "are asked for; allow more atoms or elements, or give a file"
        )
    return [NamedSmiles(text, name) for text, name in list(found.items())[:n]]


def _is_usual(mol: object) -> bool:
    chem = rdkit_chem()
    odd = any(atom.GetNumRadicalElectrons() or atom.GetIsotope() for atom in mol.GetAtoms())  # type: ignore[attr-defined]
    return not odd and chem.GetFormalCharge(mol) == 0 and len(chem.GetMolFrags(mol)) == 1


def _listed() -> list[str]:
    """SMILES of the list that RDKit ships; empty where this RDKit was built without it."""
    from rdkit import RDConfig

    try:
        text = (Path(RDConfig.RDDataDir) / _NCI).read_text(encoding="utf-8")
    except OSError:
        return []
    return [line.split()[0] for line in text.splitlines() if line.strip()]
