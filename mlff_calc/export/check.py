"""Comparison of compiled code with eager code, on structures made only from the elements that a potential knows.

Two evaluations in float32 may differ by the rounding of either, which depends on weights and structure: for atoms that
are far too close it can be many eV. Where a difference is not small, rounding is measured as the difference between
eager results in float32 and float64.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from mlff_calc.errors import MLFFError
from mlff_calc.graph import graph_from_atoms
from mlff_calc.heads.fields import START_FIELDS
from mlff_calc.potential import Potential
from mlff_calc.potential.engine import EngineStep
from mlff_calc.potential.fixed_point_step import FixedPointStep
from mlff_calc.potential.shadow import ShadowStep, solve_fields
from mlff_calc.potential.shadow_engine import ShadowEngineStep

TOLERANCES = {"float32": 2e-4, "mixed": 2e-4, "float64": 1e-9}
"""Largest accepted difference from eager: of energies in eV per atom, of all else relative to the largest value."""

SMALL = 2e-5
"""Largest difference that is accepted without measuring rounding (float32 and mixed), in the same units."""

ROUNDINGS = 8.0
"""Accepted multiple of the measured rounding. Raising it hides larger errors of compilers."""

GRADIENT_TOLERANCES = {"float32": 5e-3, "mixed": 5e-3, "float64": 1e-8}
"""Largest accepted norm of a gradient's difference, relative to its own norm plus a hundredth of the largest norm."""


class ExportError(MLFFError, RuntimeError):
    """A compiled or exported potential could not be made, or does not agree with eager."""


def probe_graph(
    potential: Potential, n_atoms: int, seed: int, device: torch.device, spacing: float = 2.3
) -> dict[str, Tensor]:
    """Build the graph of a periodic jittered grid of `n_atoms` atoms with random elements.

    Args:
        potential: potential with elements and cutoff.
        n_atoms: number of atoms.
        seed: seed of elements and jitter.
        device: device of the tensors.
        spacing: spacing of the grid, Angstrom; a small value tests the short-range repulsion.
    """
    generator = np.random.default_rng(seed)
    side = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:n_atoms]
    positions = spacing * (grid + generator.uniform(-0.09, 0.09, size=(n_atoms, 3)))
    numbers = generator.choice(potential.elements, size=n_atoms)
    atoms = Atoms(numbers, positions=positions, cell=[spacing * (side + 0.13)] * 3, pbc=True)
    return {key: value.to(device) for key, value in graph_from_atoms(atoms, potential.cutoff).items()}


def probe_fields(step: ShadowStep, graph: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Make up fields for a step of shadow dynamics on `graph`: those of two products, and noise."""
    own = {key: value for key, value in graph.items() if key != "node_numbers"}  # ghosts of a probe have no neighbours
    fields = solve_fields(step.potential, own, 0.0, 2)[0]
    noise = torch.randn(fields.shape, generator=torch.Generator().manual_seed(seed))
    return {START_FIELDS: fields + 0.1 * noise.to(fields)}


def probe_memory(step: FixedPointStep | ShadowStep, graph: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Make up a past for a step on `graph`: random states of the size of the embedding, and few secants."""
    if isinstance(step, ShadowStep):
        return probe_fields(step, graph, seed)
    sizes, potential = step.sizes, step.potential
    own = {key: value for key, value in graph.items() if key != "node_numbers"}  # ghosts of a probe have no neighbours
    with torch.no_grad():
        embedding = potential.backbone.prepare(potential.inputs(own, own["edge_vec"]))[0]
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


def probe_rows(step: EngineStep | ShadowEngineStep, graph: dict[str, Tensor], seed: int) -> Tensor:
    """Make up the same past as rows of an engine's memory [n_atoms, slots, width]."""
    if isinstance(step, ShadowEngineStep):
        n_known = step.slots - 1
        known = [probe_fields(step.step, graph, seed + i)[START_FIELDS].flatten(1) for i in range(n_known)]
        return torch.stack([*known, torch.full_like(known[0], n_known)], dim=1)
    memory = probe_memory(step.step, graph, seed)
    secants = [memory[name].flatten(0, 1) for name in ("state_secants", "adjoint_secants")]
    rows = torch.cat([memory["past_embeddings"], memory["past_states"], memory["past_adjoints"], *secants])
    return rows.transpose(0, 1).reshape(graph["atomic_numbers"].shape[0], step.slots, step.width).contiguous()


def doubled(module: nn.Module) -> nn.Module:
    """Return a float64 copy of a potential or propagator, or of a module around one."""
    to_precision: Callable[[str], nn.Module] | None = getattr(module, "to_precision", None)
    if to_precision is not None:
        return to_precision("float64")
    other = copy.deepcopy(module)
    for name, child in module.named_children():
        setattr(other, name, doubled(child))
    return other


def in_double(module: nn.Module, graph: Mapping[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    """Return a function that computes the outputs of a module on a graph in float64."""

    def outputs() -> dict[str, Tensor]:
        cast = {name: value.double() if value.is_floating_point() else value for name, value in graph.items()}
        return doubled(module).requires_grad_(False)(cast)

    return outputs


def compare(
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    precision: str,
    what: str,
    double: Callable[[], Mapping[str, Tensor]] | None = None,
) -> None:
    """Compare outputs of compiled code with eager ones.

    Args:
        expected: eager outputs.
        found: compiled outputs, under the same names.
        precision: precision of both.
        what: name of the compiled code, for the message.
        double: function for eager outputs in float64 (`in_double`), which measure rounding. It is called only for
            differences that are not small, and never for `float64`.

    Raises:
        ExportError: a difference exceeds the tolerance; the message names output, difference and tolerance.
    """
    if precision == "float64":
        double = None
    largest = TOLERANCES[precision] if double is None else SMALL
    differences = _differences(expected, found)
    tolerances = {name: largest * _scale(name, expected) for name in differences}
    if double is not None and any(not differences[name] <= tolerances[name] for name in differences):
        roundings = _differences(expected, double())
        if "energy" in roundings:  # the rounding of a sum may be small by chance
            roundings["energy"] = max(roundings["energy"], _scale("energy", expected) * roundings["energies"])
        for name, rounding in roundings.items():
            if math.isfinite(rounding):
                tolerances[name] = max(tolerances[name], ROUNDINGS * rounding)
    for name, difference in differences.items():
        if not difference <= tolerances[name]:
            msg = (
                f"{what}: {name} differs from eager by {difference:.3g} (tolerance {tolerances[name]:.3g} in {precision}); "
                "nothing was written. Use the potential without compiling and report this with your torch version"
            )
            raise ExportError(msg)


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest difference of every output that is not empty."""
    return {
        name: float((value.detach() - found[name].detach()).abs().max())
        for name, value in expected.items()
        if value.numel()
    }


def _scale(name: str, expected: Mapping[str, Tensor]) -> float:
    """Scale of the tolerance of an output."""
    if name == "energies":  # reference energies are thousands of eV and must not widen the tolerance
        return 1.0
    if name == "energy":  # rounding of atoms adds up like a random walk
        return float(expected["energies"].shape[0]) ** 0.5
    largest = float(expected[name].detach().abs().max())
    return max(1.0, largest) if math.isfinite(largest) else 1.0  # values that are not finite are refused


def compare_gradients(
    expected: Sequence[Tensor | None], found: Sequence[Tensor | None], precision: str, what: str
) -> None:
    """Compare the gradients of one loss, computed in two ways, by the same parameters; None counts as zero.

    Raises:
        ExportError: a difference exceeds the tolerance of the precision.
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
