"""Identity of a run's potential, by which a resumed run recognizes that it gets the same potential again."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def identity(potential: str, remembered: str | None = None) -> str:
    """Return names and checksums of weights or exported files, which change when a potential is retrained.

    Args:
        potential: Names, folders or files, separated by commas.
        remembered: Identity that an earlier run saved. It is returned unchanged where it denotes the same weights by a
            checksum of an older format.

    Raises:
        PotentialFileError: A potential does not exist.
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
    """Return the class of a calculator and, for those of this package, the precision and checksums of their potentials.

    A calculator that has a text `identity` itself (such as `SCFCalculator`) is asked.

    Args:
        calculator: ASE calculator.
    """
    own = getattr(calculator, "identity", None)
    if isinstance(own, str):
        return own
    members = [f"{one.sha256[:12]}" for one in getattr(calculator, "potentials", ())]
    precision = [calculator.parameters["precision"]] if members else []
    return " ".join([type(calculator).__name__, *precision, *members])
