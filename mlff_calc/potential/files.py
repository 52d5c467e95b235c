"""Folders of the `potentials/` format: weights.safetensors with a JSON header, recipe.yaml, card.md.

Nothing is unpickled. The header holds the format version, the configuration the network is built from, units,
provenance
and a checksum of the weights. Older versions are upgraded step by step (`UPGRADES`), newer ones are refused. What
looks at
no weights (listing, finding) imports no torch.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from mlff_calc.errors import PotentialFileError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from mlff_calc.potential.model import Potential

FORMAT_VERSION = 1
WEIGHTS = "weights.safetensors"
UNITS = {"energy": "eV", "length": "Angstrom", "forces": "eV/Angstrom", "stress": "eV/Angstrom^3"}
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""One function per version step: header of version n to header of version n + 1."""


@dataclass(frozen=True)
class PotentialEntry:
    """A potential that ships: its name, its folder and the first line of its card."""

    name: str
    path: Path
    summary: str


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_potential(
    potential: Potential,
    folder: str | Path,
    *,
    card: str | None = None,
    recipe: str | None = None,
    provenance: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a potential to `folder`; the folder appears whole or not at all.

    Raises:
        PotentialFileError: the folder exists and `overwrite` is False.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and not overwrite:
        msg = f"{folder} exists already; choose another folder, or pass overwrite=True"
        raise PotentialFileError(msg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in potential.state_dict().items()}
    header = {
        "format_version": FORMAT_VERSION,
        "config": potential.config,
        "units": UNITS,
        "provenance": provenance or {},
        "sha256": _checksum(tensors),
    }
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file(tensors, temporary / WEIGHTS, metadata={"mlff_calc": json.dumps(header)})
        (temporary / "card.md").write_text(card or f"{folder.name}: no card was written.\n", encoding="utf-8")
        if recipe is not None:
            (temporary / "recipe.yaml").write_text(recipe, encoding="utf-8")
        temporary.chmod(0o755)
        for item in temporary.iterdir():
            item.chmod(0o644)  # safetensors makes private files, and a shipped potential is for everybody
        if folder.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            os.replace(folder, aside)
            temporary.rename(folder)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


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


def find_potential(name_or_path: str | Path) -> Path:
    """Folder of a potential given by path or by the name it ships under.

    Raises:
        PotentialFileError: neither; names what ships and the nearest name.
    """
    path = Path(name_or_path)
    if path.name == WEIGHTS and path.is_file():
        path = path.parent
    if (path / WEIGHTS).is_file():
        return path
    shipped = {entry.name: entry.path for entry in list_potentials()}
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    if path.exists():
        msg = f"{path} is not a potential: a potential is a folder that holds {WEIGHTS}"
        raise PotentialFileError(msg)
    near = difflib.get_close_matches(str(name_or_path), shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    msg = (
        f"no potential {str(name_or_path)!r}: no such folder, and what ships is {', '.join(shipped) or 'nothing'}{hint}"
    )
    raise PotentialFileError(msg)


def read_header(folder: Path) -> dict[str, Any]:
    """Header of a potential's weights, upgraded to this version's format.

    Raises:
        PotentialFileError: truncated, foreign, or newer.
    """
    file = folder / WEIGHTS
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        msg = f"{file} cannot be read, it is truncated or no safetensors file ({error}); copy or train it again"
        raise PotentialFileError(msg) from error
    if "mlff_calc" not in metadata:
        msg = f"{file} holds tensors but no mlff_calc header; it was not written by Potential.save"
        raise PotentialFileError(msg)
    try:
        header = json.loads(metadata["mlff_calc"])
        version = int(header["format_version"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{file}: its mlff_calc header is damaged ({error}); copy or train the potential again"
        raise PotentialFileError(msg) from error
    if version > FORMAT_VERSION:
        msg = f"{file} has format version {version}, this package reads up to {FORMAT_VERSION}; upgrade mlff_calc"
        raise PotentialFileError(msg)
    for key in ("config", "sha256"):
        if key not in header:
            msg = f"{file}: its mlff_calc header lacks {key!r}; copy or train the potential again"
            raise PotentialFileError(msg)
    while version < FORMAT_VERSION:
        header = UPGRADES[version](header)
        version += 1
    return header


def load_potential(name_or_path: str | Path) -> Potential:
    """Load a potential by the name it ships under or by the path of its folder, in float32 and evaluation mode.

    Raises:
        PotentialFileError: not a potential, truncated, changed after it was written, or newer than this package.
    """
    from mlff_calc.potential.model import build_potential

    folder = find_potential(name_or_path)
    header = read_header(folder)
    with safe_open(folder / WEIGHTS, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if _checksum(tensors) != header["sha256"]:
        msg = f"{folder / WEIGHTS} does not match its checksum; it was changed after it was written: copy or train it again"
        raise PotentialFileError(msg)
    try:
        potential = build_potential(header["config"], seed=0)
        potential.load_state_dict(tensors)
    except (RecipeError, RuntimeError) as error:
        msg = f"{folder / WEIGHTS} does not fit the network its header describes: {error}"
        raise PotentialFileError(msg) from error
    return potential.eval()
