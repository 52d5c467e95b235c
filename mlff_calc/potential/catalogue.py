"""What ships, and where a named potential lies; imports no torch, so that listing does not wait for it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from mlff_calc.errors import PotentialFileError
from mlff_calc.potential.files import WEIGHTS, check_kind


@dataclass(frozen=True)
class PotentialEntry:
    """A potential that ships: its name, its folder and the first line of its card."""

    name: str
    path: Path
    summary: str


def shipped_folder() -> Path:
    """Folder of the potentials that ship with the package."""
    from importlib.resources import files

    try:
        folder = Path(str(files("mlff_calc.shipped")))
        if folder.is_dir():
            return folder
    except ModuleNotFoundError:
        pass
    return Path(__file__).resolve().parents[2] / "potentials"


def list_potentials() -> list[PotentialEntry]:
    """The potentials that ship, by name."""
    entries = []
    for folder in sorted(shipped_folder().iterdir()) if shipped_folder().is_dir() else []:
        if (folder / WEIGHTS).is_file():
            card = folder / "card.md"
            lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
            summary = next((line.lstrip("# ") for line in lines if line.strip()), "")
            entries.append(PotentialEntry(folder.name, folder, summary))
    return entries


def find_potential(name_or_path: str | Path, *, any_kind: bool = False) -> Path:
    """Folder of a potential given by path or by the name it ships under.

    Args:
        name_or_path: either.
        any_kind: take a folder of another kind as well, such as a propagator.

    Raises:
        PotentialFileError: neither; names what ships and the nearest name. Another kind; says what takes that.
    """
    path = Path(name_or_path)
    if path.name == WEIGHTS and path.is_file():
        path = path.parent
    if (path / WEIGHTS).is_file():
        if not any_kind:
            check_kind(path)
        return path
    shipped = {entry.name: entry.path for entry in list_potentials()}
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    if path.suffix in (".pt", ".pt2") and path.is_file():
        msg = (
            f"{path} is an exported file by its ending, and weights (a folder that holds {WEIGHTS}) are needed here; take "
            "load_exported, or name the folder it was exported from"
        )
        raise PotentialFileError(msg)
    if path.exists():
        inside = sorted(path.glob(f"*/{WEIGHTS}"))
        hint = f"; did you mean {inside[0].parent}?" if inside else ""
        msg = f"{path} is not a potential: a potential is a folder that holds {WEIGHTS}{hint}"
        raise PotentialFileError(msg)
    near = difflib.get_close_matches(str(name_or_path), shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    msg = (
        f"no potential {str(name_or_path)!r}: no such folder, and what ships is {', '.join(shipped) or 'nothing'}{hint}"
    )
    raise PotentialFileError(msg)
