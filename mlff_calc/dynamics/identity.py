"""What a run remembers of the potential it was started with, and whether that is the one named now."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def identity(potential: str, remembered: str | None = None) -> str:
    """Names and checksums of weights or exported files, which tell a retrained potential from the one it replaced.

    Args:
        potential: names, folders or files, with commas between them.
        remembered: what an earlier run wrote of its potential; given back where these are the same weights under a checksum
            of an older format.

    Raises:
        PotentialFileError: no such potential.
    """
    from mlff_calc.caches import digest_of
    from mlff_calc.export.opening import is_exported
    from mlff_calc.networks.files import fingerprints
    from mlff_calc.potential import find_potential

    found: list[list[str]] = []
    for name in (one.strip() for one in potential.split(",")):
        if is_exported(name):
            path, sums = Path(name), [digest_of(Path(name))]
        else:
            path = find_potential(name)
            sums = fingerprints(path)
        found.append([f"{path.name} {one[:12]}" for one in sums])
    words = (remembered or "").split(", ")
    if len(words) == len(found) and all(word in known for word, known in zip(words, found, strict=True)):
        return str(remembered)
    return ", ".join(known[0] for known in found)


def identity_of(calculator: Any) -> str:
    """Class of a calculator and, of one of this package, precision and checksums of its potentials.

    Args:
        calculator: an ASE calculator.
    """
    members = [f"{one.sha256[:12]}" for one in getattr(calculator, "potentials", ())]
    precision = [calculator.parameters["precision"]] if members else []
    return " ".join([type(calculator).__name__, *precision, *members])
