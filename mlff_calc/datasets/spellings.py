"""Names under which programs of the field write labels, so that none is passed over without a word."""

from __future__ import annotations

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


def kind_of_name(name: str) -> str | None:
    """Which label a name means (`energy`, `forces`, `stress`, `virial`), as far as names of the field go; else None.

    Case does not matter, nor does a level of theory before or after it: `REF_forces`, `dft-virial`, `energies_dft`.
    """
    plain = name.lower().replace("-", "_")
    if plain in _SPELLED:
        return _SPELLED[plain]
    for level in _LEVELS:
        for rest in (plain.removeprefix(f"{level}_"), plain.removesuffix(f"_{level}")):
            if rest != plain and rest in _SPELLED:
                return _SPELLED[rest]
    return None


def spelled(names: Iterable[str], kind: str) -> list[tuple[str, str]]:
    """What names there are for a label, with the key of `data.keys` that takes each.

    Args:
        names: under which a frame holds data.
        kind: `energy`, `forces` or `stress`; a virial serves for a stress.
    """
    wanted = ("stress", "virial") if kind == "stress" else (kind,)
    return [(name, key) for name in names if (key := kind_of_name(name)) in wanted and key is not None]
