"""Listing and finding trained networks. It imports no torch, so that listing is fast."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mlff_calc.errors import PotentialFileError
from mlff_calc.near import suggestion
from mlff_calc.networks.files import WEIGHTS, check_kind, folder_of, read_header

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkEntry:
    """A trained network: its name, its folder and the first line of its card."""

    name: str
    path: Path
    summary: str

    @property
    def kind(self) -> str:
        """Kind of the network as given in its header; `?` where the header cannot be read."""
        try:
            return str(read_header(self.path)["kind"])
        except PotentialFileError:
            return "?"


def shipped_folder() -> Path:
    """Folder of the networks that ship with the package."""
    from importlib.resources import files

    try:
        folder = Path(str(files("mlff_calc.shipped")))
        if folder.is_dir():
            return folder
    except ModuleNotFoundError:
        pass
    return Path(__file__).resolve().parents[2] / "potentials"


def list_networks(folder: str | Path | None = None) -> list[NetworkEntry]:
    """List the networks of any kind in a folder, sorted by name.

    Args:
        folder: Folder that contains their folders; the shipped networks by default.
    """
    entries = []
    for file in sorted(Path(folder or shipped_folder()).glob(f"*/{WEIGHTS}")):
        if file.parent.name.startswith("."):
            continue  # a folder being written, or left by an interrupted write
        card = file.parent / "card.md"
        lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
        summary = next((line.lstrip("# ").strip() for line in lines if line.strip()), "")
        entries.append(NetworkEntry(file.parent.name, file.parent, summary))
    return entries


@cache
def _say_which(name: str, folder: Path) -> None:
    """Say, once in a process, that a folder is taken that has the name of a network that ships."""
    logger.warning("%s: the folder %s is taken, not what ships under this name; write ./%s for silence", name, folder, name)


def is_exported(path: str | Path) -> bool:
    """Whether a path is that of an exported file, by its ending (.pt or .pt2)."""
    return Path(path).suffix in (".pt", ".pt2") and Path(path).is_file()


def find_network(name_or_path: str | Path, kind: str | None = None) -> Path:
    """Find the folder of a network by its path or by the name it ships under.

    Args:
        name_or_path: Path of the folder, or name of a shipped network.
        kind: Kind that the folder must hold; None for any kind.

    Raises:
        PotentialFileError: There is no such folder or name (the message lists the shipped ones), or it holds another
            kind.
    """
    noun, path = kind or "network", folder_of(name_or_path)
    shipped = {entry.name: entry.path for entry in list_networks()}
    if not (path / WEIGHTS).is_file():
        path = shipped.get(str(name_or_path), Path(name_or_path))
    elif name_or_path in shipped:
        _say_which(str(name_or_path), path.absolute())
    if (path / WEIGHTS).is_file():
        if kind is not None:
            check_kind(path, kind)
        return path
    if is_exported(path):
        raise PotentialFileError(
            f"{path} is an exported file by its ending, but weights (a folder that holds {WEIGHTS}) are needed here; call "
            "load_exported, or give the folder it was exported from"
        )
    if path.exists():
        inside = sorted(path.glob(f"*/{WEIGHTS}"))
        hint = f"; did you mean {inside[0].parent}?" if inside else ""
        raise PotentialFileError(f"{path} is not a {noun}: a {noun} is a folder that holds {WEIGHTS}{hint}")
    fitting = [entry.name for entry in list_networks() if kind is None or entry.kind == kind]
    hint = suggestion(name_or_path, fitting, before="; ")
    known = ", ".join(fitting) or "nothing"
    msg = f"no {noun} {str(name_or_path)!r}: there is no such folder, and what ships is {known}{hint}"
    raise PotentialFileError(msg)
