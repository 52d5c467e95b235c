"""What an exported file says of itself, whatever its backend."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlff_calc.errors import PotentialFileError

FORMAT, FORMAT_VERSION = "mlff_calc", 1
RECORD = "mlff.json"
BACKENDS = {".pt": "torchscript", ".pt2": "aoti"}
"""By the ending of the file."""


@dataclass(frozen=True)
class Metadata:
    """What `extra/mlff.json` says; see docs/lammps.md for the fields."""

    format: str
    format_version: int
    kind: str
    backend: str
    cutoff: float
    n_layers: int
    elements: list[int]
    symbols: list[str]
    precision: str
    dtype: str
    units: dict[str, str]
    inputs: list[str]
    outputs: list[str]
    exchange_width: int
    torch: str
    mlff_calc: str
    device: str
    fixed_point: dict[str, Any] | None


def read_metadata(path: str | Path) -> Metadata:
    """What an exported file says of itself; reads no more than that.

    Raises:
        PotentialFileError: no such file, no file of this package, a truncated one, or one of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise PotentialFileError(f"no exported potential {path}: no such file; write one with `mlff export`")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{RECORD}")]
            text = archive.read(names[0]) if names else b""
    except (zipfile.BadZipFile, zlib.error, OSError) as error:
        raise PotentialFileError(
            f"{path} cannot be read ({error}); it is damaged or cut short: export it again"
        ) from error
    if not text:
        raise PotentialFileError(f"{path} was not written by `mlff export`: it has no record extra/{RECORD}")
    try:
        return _checked(path, json.loads(text))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        msg = f"{path}: what it says of itself is damaged ({type(error).__name__}: {error}); export it again"
        raise PotentialFileError(msg) from error


def _checked(path: Path, fields: dict[str, Any]) -> Metadata:
    """The fields of a file of this format and version.

    Raises:
        PotentialFileError: another format, or a newer version.
    """
    if fields.get("format") != FORMAT:
        raise PotentialFileError(f"{path} is of the format {fields.get('format')!r}, not of {FORMAT}")
    if fields.get("format_version", 0) > FORMAT_VERSION:
        raise PotentialFileError(
            f"{path} has format version {fields['format_version']}, and this mlff_calc knows up to {FORMAT_VERSION}: "
            "install the mlff_calc that wrote it, or export it again"
        )
    known = Metadata.__dataclass_fields__
    return Metadata(**{name: fields[name] for name in known})
