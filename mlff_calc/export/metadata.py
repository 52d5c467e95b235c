"""The record of an exported file, common to all backends."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from mlff_calc.bounded import parse_json
from mlff_calc.errors import OptionError, PotentialFileError
from mlff_calc.export.archive import check_backend, check_members, digests_of, read_content, record_of
from mlff_calc.export.trace import DIRECT_OUTPUTS, GRADIENT_OUTPUTS, INPUTS
from mlff_calc.fixed_point.warm_start import WarmStart
from mlff_calc.graph.domain import is_domain
from mlff_calc.heads.uncertainty import ENERGY_STD, FORCES_STD

FORMAT, FORMAT_VERSION = "mlff_calc", 4
"""Name and version of the format. Version 2 added checksums of the members, version 3 the policy of warm starts; since
version 4 `n_layers` counts all times that neighbours are read, also those before the first layer."""
RECORD = "mlff.json"
BACKENDS = {".pt": "torchscript", ".pt2": "aoti"}
"""Backends by the suffix of the file."""
KINDS = ("torchscript", "lammps", "aoti")
ENGINE_INPUTS = ("atomic_numbers", "node_numbers", "system_index", "edge_index", "edge_vec", "cell", "owned")
ENGINE_OUTPUTS = ("energies", "forces", "atomic_virial")
MOST_WIDTH, MOST_COUNT, LONGEST_CUTOFF = 10**6, 10**4, 100.0
"""Largest widths and counts, and largest cutoff (Angstrom), in the metadata. Larger values count as damage."""


@dataclass(frozen=True)
class Metadata:
    """Content of `extra/mlff.json`; docs/lammps.md describes the fields."""

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
    members: dict[str, str] | None = None
    """SHA-256 of every other member; None in format version 1, which had none."""
    domain: dict[str, Any] | None = None
    """Distances of the training data, see `graph.domain`; None where not measured, as in older files."""


def read_metadata(path: str | Path) -> Metadata:
    """Read the record of an exported file, without opening anything in it as code.

    Raises:
        PotentialFileError: the file does not exist, is not an export, is truncated, or of a newer format.
    """
    path = Path(path)
    return metadata_of(path, read_content(path))


def metadata_of(path: Path, content: bytes) -> Metadata:
    """Read and check the record in an exported file's content.

    Raises:
        PotentialFileError: see `read_metadata`.
    """
    try:
        said = parse_json(record_of(path, content))
        if not isinstance(said, dict):
            raise TypeError(f"it holds {type(said).__name__}")
        return _checked(path, said)
    except PotentialFileError:
        raise
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        msg = f"{path}: its record is damaged ({type(error).__name__}: {error}); export it again"
        raise PotentialFileError(msg) from error


def check_content(path: Path, content: bytes, metadata: Metadata) -> None:
    """Compare the members of a file with its record; for format version 1 only the backend.

    Raises:
        PotentialFileError: the members differ from the record.
    """
    if metadata.members is None:
        check_backend(path, digests_of(path, content), metadata.backend)
    else:
        check_members(path, content, metadata.members, metadata.backend)


def _checked(path: Path, said: dict[str, Any]) -> Metadata:
    """Check the fields of a record of this format and version.

    Raises:
        PotentialFileError: the format is another, the version newer, or a value one that exports do not have.
    """
    if said.get("format") != FORMAT:
        raise PotentialFileError(f"{path} is of the format {str(said.get('format'))[:40]!r}, not of {FORMAT}")
    version = said.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise PotentialFileError(
            f"{path} has format version {version}, but this mlff_calc knows versions up to {FORMAT_VERSION}: "
            "install the mlff_calc that wrote it, or export it again"
        )
    absent = {"members"} if version == 1 else {"domain"} - said.keys()
    names = [one.name for one in fields(Metadata) if one.name not in absent]
    found = Metadata(**{name: said[name] for name in names})
    wrong = next((name for name, is_right in _rules(found) if not is_right), None)
    if wrong is not None:
        shown = repr(getattr(found, wrong))[:60]
        raise PotentialFileError(f"{path}: its {wrong} is {shown}, which exports do not have: export it again")
    return found


def _rules(said: Metadata) -> list[tuple[str, bool]]:
    """List the fields, and whether each has a valid value."""
    inputs, outputs = _signature(said)
    named = isinstance(said.elements, list) and all(_whole(z, 1, 118) for z in said.elements)
    return [
        ("format_version", _whole(said.format_version, 1, FORMAT_VERSION)),
        ("kind", said.kind in KINDS),
        ("backend", said.backend in BACKENDS.values()),
        ("cutoff", _number(said.cutoff, LONGEST_CUTOFF) and said.cutoff > 0.0),
        ("n_layers", _whole(said.n_layers, 0, MOST_COUNT)),
        ("elements", named and 0 < len(said.elements) == len(set(said.elements))),
        ("symbols", named and said.symbols == [chemical_symbols[z] for z in said.elements]),
        ("precision", said.precision in ("float32", "mixed", "float64")),
        ("dtype", said.dtype == ("float64" if said.precision == "float64" else "float32")),
        ("units", said.units == {"energy": "eV", "length": "Angstrom"}),
        ("fixed_point", said.fixed_point is None or _is_fixed_point(said.fixed_point, said.format_version)),
        ("inputs", said.inputs == inputs),
        ("outputs", said.outputs in outputs),
        ("exchange_width", _whole(said.exchange_width, 0, MOST_WIDTH)),
        ("torch", isinstance(said.torch, str)),
        ("mlff_calc", isinstance(said.mlff_calc, str)),
        ("device", said.device in ("cpu", "cuda")),
        ("members", said.format_version == 1 or _is_members(said.members)),
        ("domain", said.domain is None or is_domain(said.domain)),
    ]


_COUNTS = ("n_forward", "n_adjoint", "slots", "width", "max_repeats")
_NUMBERS = ("tolerance", "cold_tolerance", "fit_ridge", "ridge")


def _is_fixed_point(said: Any, version: int) -> bool:
    policy = {field.name for field in fields(WarmStart)} if version > 2 else set()
    return (
        isinstance(said, dict)
        and said.keys() - {"shadow"} == {*_COUNTS, *_NUMBERS, *policy}
        and said.get("shadow", True) is True
        and _is_warm_start(said)
        and all(_whole(said[name], 0, MOST_WIDTH if name == "width" else MOST_COUNT) for name in _COUNTS)
        and all(_number(said[name], 1e6) and said[name] >= 0.0 for name in _NUMBERS)
    )


def _is_warm_start(said: dict[str, Any]) -> bool:
    try:
        WarmStart.of_record(said)
    except OptionError:
        return False
    return True


def _is_members(said: Any) -> bool:
    return isinstance(said, dict) and all(isinstance(value, str) and len(value) == 64 for value in said.values())


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _number(value: Any, most: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= most


def _signature(said: Metadata) -> tuple[list[str], list[list[str]]]:
    """Return the inputs of a file of this kind, and its possible outputs."""
    fixed_point = said.fixed_point is not None
    inputs, more = (["memory", "control"], ["memory", "residuals"]) if fixed_point else ([], [])
    if said.kind == "lammps":
        return [*ENGINE_INPUTS, *inputs], [[*ENGINE_OUTPUTS, *spread, *more] for spread in ([], [FORCES_STD])]
    spreads = [[], [ENERGY_STD, FORCES_STD]]
    given = [[*outputs, *spread] for outputs in (GRADIENT_OUTPUTS, DIRECT_OUTPUTS) for spread in spreads]
    return [*INPUTS, *inputs], [[*outputs, *more] for outputs in given]
