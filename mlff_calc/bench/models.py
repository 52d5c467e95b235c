"""Which potential is timed on which structure: what ships, or random weights of the same architecture."""

from __future__ import annotations

from typing import Any

from ase import Atoms

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.potential import build_potential, list_potentials, load_potential

TRAINED_FOR = {"ethanol": "ethanol", "aspirin": "ethanol"}
TRAINED_FOR_SILICON = "silicon"
ARCHITECTURE_OF = {False: "ethanol", True: "silicon"}  # by periodicity: whose shape random weights get
FALLBACK_BACKBONE = {"name": "equiformer", "cutoff": 5.0}
RANDOM_SEED = 0


def trained_potential(system: str) -> str | None:
    """Name of the shipped potential that was trained for this kind of structure, or None."""
    wanted = TRAINED_FOR_SILICON if system.startswith("si") and system[2:].isdigit() else TRAINED_FOR.get(system)
    return wanted if wanted in {entry.name for entry in list_potentials()} else None


def random_config(atoms: Atoms) -> dict[str, Any]:
    """Configuration of a potential with random weights, in the architecture of what ships.

    Args:
        atoms: tells the elements; what is periodic gets the architecture of `silicon`, which is made for many neighbours,
            and the rest that of `ethanol`.

    Returns:
        A plain dict for `build_potential`.
    """
    shipped = {entry.name: entry.path for entry in list_potentials()}
    model = ARCHITECTURE_OF[bool(atoms.pbc.all())]
    if model in shipped:
        config = load_potential(shipped[model]).config
        kept = {key: config[key] for key in ("backbone", "heads")}
    else:
        kept = {"backbone": dict(FALLBACK_BACKBONE)}
    return {**kept, "elements": sorted({int(z) for z in atoms.numbers})}


def make_calculator(
    potential: str | None,
    config: dict[str, Any] | None = None,
    *,
    precision: str = "float32",
    compiled: bool = False,
    device: str = "cpu",
    trust: bool = False,
) -> MLFFCalculator:
    """A calculator with a named potential, or with random weights built from `config`.

    Args:
        potential: name or folder; None takes `config`.
        config: configuration for `build_potential`, with weights of a fixed seed.
        precision: `float32`, `mixed` or `float64`.
        compiled: compile the potential first, outside of any timing.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        trust: open an exported file of somebody else.

    Raises:
        PotentialFileError, OptionError, RecipeError: as the calculator and `build_potential` raise them.
    """
    source = potential if potential is not None else build_potential(config or {}, seed=RANDOM_SEED)
    return MLFFCalculator(source, precision=precision, compile=compiled, device=device, trust=trust)


def calculator_for(
    system: str, atoms: Atoms, *, potential: str | None = None, **options: Any
) -> tuple[MLFFCalculator, str]:
    """The calculator that is timed on a system, and what to call it in a table.

    Args:
        system: name of the system.
        atoms: its structure.
        potential: a name or folder that overrides the choice.
        options: `precision`, `compiled`, `device` and `trust` of `make_calculator`.

    Returns:
        The calculator, and the potential's name or `random weights`.
    """
    name = potential or trained_potential(system)
    if name is not None:
        return make_calculator(name, **options), name
    return make_calculator(None, random_config(atoms), **options), "random weights"
