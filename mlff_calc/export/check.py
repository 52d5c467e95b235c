"""Structures to compile on and to compare with eager on, made from nothing but the elements a potential knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlff_calc.errors import MLFFError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.potential import Potential
from mlff_calc.potential.engine import EngineStep
from mlff_calc.potential.fixed_point_step import FixedPointStep

TOLERANCES = {"float32": 2e-4, "mixed": 2e-4, "float64": 1e-9}
"""Largest difference to eager that is accepted, relative to the largest value; of energies per atom, to the largest force
times STEEP."""

STEEP = 0.05
"""Angstrom. Energies of atoms that are far too close are steep, and rounding goes with slopes; up to 20 eV/Angstrom it
changes nothing."""


GRADIENT_TOLERANCES = {"float32": 5e-3, "mixed": 5e-3, "float64": 1e-8}
"""The same for a gradient by one parameter: norm of the difference, relative to its norm and a hundredth of the largest."""


class ExportError(MLFFError, RuntimeError):
    """A compiled or exported potential could not be made, or does not agree with eager."""


def probe_graph(
    potential: Potential, n_atoms: int, seed: int, device: torch.device, spacing: float = 2.3
) -> dict[str, Tensor]:
    """Graph of a periodic jittered grid of `n_atoms` atoms, elements drawn at random.

    Args:
        potential: tells elements and cutoff.
        n_atoms: atoms of the graph.
        seed: of elements and jitter.
        device: of the tensors.
        spacing: of the grid, Angstrom; a small one brings out the short-range repulsion.
    """
    generator = np.random.default_rng(seed)
    side = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:n_atoms]
    positions = spacing * (grid + generator.uniform(-0.09, 0.09, size=(n_atoms, 3)))
    numbers = generator.choice(potential.elements, size=n_atoms)
    atoms = Atoms(numbers, positions=positions, cell=[spacing * (side + 0.13)] * 3, pbc=True)
    return {key: value.to(device) for key, value in graph_from_atoms(atoms, potential.cutoff).items()}


def probe_memory(step: FixedPointStep, graph: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A made-up past for a step on `graph`: random states of the size of the embedding, and few secants."""
    sizes, potential = step.sizes, step.potential
    with torch.no_grad():
        embedding = potential.backbone.prepare(potential.inputs(graph, graph["edge_vec"]))[0]
    generator = torch.Generator().manual_seed(seed)

    def noise(*leading: int) -> Tensor:
        return torch.randn(*leading, *embedding.shape, generator=generator).to(embedding)

    secants = torch.cat([noise(2, 1), torch.zeros_like(noise(2, 1)).expand(2, sizes.kept, -1, -1, -1)], dim=1)
    return {
        "past_embeddings": embedding + 0.1 * noise(sizes.window),
        "past_states": embedding + 0.1 * noise(sizes.window),
        "past_adjoints": 0.1 * noise(sizes.window),
        "mix": torch.zeros(sizes.window, dtype=torch.float64, device=embedding.device),
        "ridges": torch.tensor([1e-8, 1e-6], dtype=torch.float64, device=embedding.device),
        "state_secants": 0.1 * secants[:, : sizes.kept],
        "adjoint_secants": 0.1 * secants[:, : sizes.kept],
    }


def probe_rows(step: EngineStep, graph: dict[str, Tensor], seed: int) -> Tensor:
    """The same past as rows of an engine's memory [n_atoms, slots, width]."""
    memory = probe_memory(step.step, graph, seed)
    secants = [memory[name].flatten(0, 1) for name in ("state_secants", "adjoint_secants")]
    rows = torch.cat([memory["past_embeddings"], memory["past_states"], memory["past_adjoints"], *secants])
    return rows.transpose(0, 1).reshape(graph["atomic_numbers"].shape[0], step.slots, step.width).contiguous()


def compare(expected: dict[str, Tensor], found: dict[str, Tensor], precision: str, what: str) -> None:
    """Compare outputs of a compiled potential with eager ones.

    Raises:
        ExportError: a difference above the tolerance of this precision; names output, difference and tolerance.
    """
    expected, found = ({name: value.detach() for name, value in one.items()} for one in (expected, found))
    forces = expected.get("forces")
    size = 1.0 if forces is None or not forces.numel() else max(1.0, STEEP * float(forces.abs().max()))
    for name, reference in expected.items():
        if not reference.numel():
            continue
        if name == "energies":  # reference energies are thousands of eV and must not widen the tolerance
            scale = size
        elif name == "energy":
            scale = size * float(expected["energies"].shape[0])
        else:
            scale = max(1.0, float(reference.abs().max()))
        difference = float((reference - found[name]).abs().max())
        tolerance = TOLERANCES[precision] * scale
        if not difference <= tolerance:
            msg = (
                f"{what}: {name} differs from eager by {difference:.3g} (tolerance {tolerance:.3g} in {precision}); "
                "nothing was written. Use the potential without compiling and report this with your torch version"
            )
            raise ExportError(msg)


def compare_gradients(
    expected: Sequence[Tensor | None], found: Sequence[Tensor | None], precision: str, what: str
) -> None:
    """Compare gradients by the same parameters of two ways to compute one loss; None counts as zero.

    Raises:
        ExportError: a difference above the tolerance of this precision.
    """
    filled = [(one, other) for one, other in zip(expected, found, strict=True) if one is not None or other is not None]
    norms = [0.0 if one is None else float(one.norm()) for one, _ in filled]
    for (one, other), norm in zip(filled, norms, strict=True):
        if one is None or other is None:
            present = other if one is None else one
            difference = float("nan") if present is None else float(present.norm())
        else:
            difference = float((one - other).norm())
        tolerance = GRADIENT_TOLERANCES[precision] * (norm + 0.01 * max(norms))
        if not difference <= tolerance:
            msg = (
                f"{what}: a gradient differs from eager by {difference:.3g} (tolerance {tolerance:.3g} in {precision}); "
                "nothing was trained. Set trainer.compile: false, and report this with your torch version"
            )
            raise ExportError(msg)
