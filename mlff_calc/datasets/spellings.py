"""Names under which common programs write labels, so that no label is overlooked silently."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPELLINGS: dict[str, tuple[str, ...]] = {
    "energy": (
        "energy", "free_energy", "energies", "total_energy", "tot_energy", "totenergy", "toten", "potential_energy",
        "e", "etot", "e_tot", "e0", "y", "u0",
    ),
    "forces": ("forces", "force", "f", "frc", "atomic_forces", "gradient", "gradients", "grad"),
    "stress": ("stress", "stresses", "stress_tensor"),
    "virial": ("virial", "virials"),
}  # fmt: skip
_LEVELS = ("ref", "dft", "qm", "mp2", "ccsd", "ccsdt", "pbe", "scan", "r2scan", "wb97x", "xtb", "vasp", "qe", "target")
_SPELLED = {spelling: kind for kind, spellings in SPELLINGS.items() for spelling in spellings}
_WORDS = {word: kind for word, kind in _SPELLED.items() if len(word) > 2 and "_" not in word}
_OTHER_THINGS = {
    "weight", "weights", "kinetic", "fermi", "formation", "binding", "adsorption", "interaction", "zero",
    "point", "gap", "band", "hull", "correction", "dispersion", "error", "errors", "std", "uncertainty", "sigma", "variance",
    "max", "fmax", "constant", "constants", "key", "unit", "units", "norm", "mask", "name", "id", "time", "cutoff",
}  # fmt: skip
"""Words that show that a name with a word such as energy means something other than the label."""


def _words(name: str) -> list[str]:
    """Split a name into lower-case words: ``dft.Forces-raw`` gives dft, forces, raw."""
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def kind_of_name(name: str) -> str | None:
    """Return the label that a name means (`energy`, `forces`, `stress`, `virial`) by common usage; None if none.

    Case, prefixes and suffixes are ignored: `REF_forces`, `dft-virial`, `corrected_total_energy`. Names with a word
    that changes the meaning (`kinetic_energy`, `config_forces_weight`, `energy_per_atom`) mean no label.
    """
    plain = name.lower().replace("-", "_")
    if plain in _SPELLED:
        return _SPELLED[plain]
    for level in _LEVELS:
        for rest in (plain.removeprefix(f"{level}_"), plain.removesuffix(f"_{level}")):
            if rest != plain and rest in _SPELLED:
                return _SPELLED[rest]
    words = _words(name)
    kinds = {_WORDS[word] for word in words if word in _WORDS}
    other = _OTHER_THINGS & set(words) or "per_atom" in "_".join(words)
    return kinds.pop() if len(kinds) == 1 and not other else None


def is_gradient(name: str) -> bool:
    """Whether a name says that it is the gradient of the energy, which has the sign opposite to forces."""
    return bool({"gradient", "gradients", "grad"} & set(_words(name)))


def spelled(names: Iterable[str], kind: str) -> list[tuple[str, dict[str, str]]]:
    """List the names that may hold a label, with the keys of `data.keys` that take each.

    Args:
        names: Names of the data in a frame.
        kind: `energy`, `forces` or `stress`; a virial counts as a stress.
    """
    wanted = ("stress", "virial") if kind == "stress" else (kind,)
    found: list[tuple[str, dict[str, str]]] = []
    for name in names:
        key = kind_of_name(name)
        if key not in wanted or key is None:
            continue
        if key == "stress" and "vasp" in _words(name):
            key = "vasp_stress"
        found.append((name, {key: name} | ({"forces_sign": "-1"} if key == "forces" and is_gradient(name) else {})))
    return found
