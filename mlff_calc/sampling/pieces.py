"""Pieces of a search on disk, so that one that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_calc.datasets.molecules import Molecule, rdkit_chem
from mlff_calc.sampling.systems import FloatArray
from mlff_calc.whole_files import write_whole

if TYPE_CHECKING:
    from mlff_calc.sampling.settings import Search


class PieceStore:
    """Stored results of pieces of work, identified by their inputs.

    Args:
        folder: Folder of the files; None keeps nothing.
        facts: Inputs that all pieces of a search have in common.
    """

    def __init__(self, folder: Path | None, facts: dict[str, Any]) -> None:
        self.folder = folder
        self._facts = json.dumps(facts, sort_keys=True, default=str).encode()

    @classmethod
    def open(cls, folder: Path | None, molecule: Molecule, settings: Search, calculator: str) -> PieceStore:
        """The store of a search; pieces of another molecule, calculator or setting are not found in it."""
        how = {name: value for name, value in asdict(settings).items() if name not in _JUDGEMENT}
        if settings.search == "exchange":
            how["temperature"] = settings.temperature  # of the lowest replica
        block = rdkit_chem().MolToCXSmiles(molecule.mol)
        return cls(folder, {"molecule": block, "calculator": calculator, "search": how})

    def piece(self, kind: str, given: FloatArray, make: Callable[[FloatArray], dict[str, Any]]) -> dict[str, Any]:
        """What `make` gives for an array, from disk where this kind of work has been done for it before."""
        if self.folder is None:
            return make(given)
        digest = hashlib.sha256(self._facts + kind.encode() + np.ascontiguousarray(given).tobytes()).hexdigest()
        file = self.folder / f"{digest[:32]}.npz"
        if file.is_file():
            try:
                with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                    return {name: stored[name] for name in stored.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # damaged: made again
                pass
        found: dict[str, Any] = {name: np.asarray(value) for name, value in make(given).items()}
        buffer = io.BytesIO()
        np.savez(buffer, **found)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, buffer.getvalue(), sync=False)
        return found


_JUDGEMENT = ("window", "rmsd", "temperature", "weights", "check", "minutes")
"""Settings that change what is made of relaxed structures, not the structures."""
