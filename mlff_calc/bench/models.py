"""Choice of the potential that is timed on a structure: a shipped one, or random weights of the same architecture."""

from __future__ import annotations

from typing import Any

from ase import Atoms

from mlff_calc.calculators import MLFFCalculator
from mlff_calc.potential import build_potential, list_potentials, load_potential

TRAINED_FOR = {"ethanol": "ethanol", "aspirin": "ethanol"}
TRAINED_FOR_SILICON = "silicon"
ARCHITECTURE_OF = {False: "ethanol", True: "silicon"}  # shipped potentials whose architecture random weights get, by pbc
FALLBACK_BACKBONE = {"name": "equiformer", "cutoff": 5.0}  # used where these potentials are not installed
RANDOM_SEED = 0


def trained_potential(system: str) -> str | None:
    """Return the name of the shipped potential that was trained for this kind of structure, or None."""
    wanted = TRAINED_FOR_SILICON if system.startswith("si") and system[2:].isdigit() else TRAINED_FOR.get(system)
    return wanted if wanted in {entry.name for entry in list_potentials()} else None


def random_config(atoms: Atoms) -> dict[str, Any]:
    """Return the configuration of a potential with random weights, in the architecture of a shipped potential.

    Args:
        atoms: Structure that determines the elements. Periodic structures get the architecture of `silicon`, which suits
            many neighbours, and others that of `ethanol`.

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
    """Make a calculator with a named potential, or with random weights built from `config`.

    Args:
        potential: Name or folder; None uses `config`.
        config: Configuration for `build_potential`; the seed of the weights is fixed.
        precision: Precision, `float32`, `mixed` or `float64`.
        compiled: Whether to compile the potential, which happens here and so outside of any timing.
        device: Device, `auto`, `cpu`, `cuda` or `cuda:N`.
        trust: Whether to open an exported file made by somebody else.

    Raises:
        PotentialFileError, OptionError, RecipeError: Errors of the calculator and of `build_potential`.
    """
    source = potential if potential is not None else build_potential(config or {}, seed=RANDOM_SEED)
    return MLFFCalculator(source, precision=precision, compile=compiled, device=device, trust=trust)


def calculator_for(
    system: str, atoms: Atoms, *, potential: str | None = None, **options: Any
) -> tuple[MLFFCalculator, str]:
    """Make the calculator that is timed on a system, and its label for tables.

    Args:
        system: Name of the system.
        atoms: Structure of the system.
        potential: Name or folder that overrides the choice.
        options: Options `precision`, `compiled`, `device` and `trust` of `make_calculator`.

    Returns:
        The calculator, and the name of the potential or `random weights`.
    """
    name = potential or trained_potential(system)
    if name is not None:
        return make_calculator(name, **options), name
    return make_calculator(None, random_config(atoms), **options), "random weights"
