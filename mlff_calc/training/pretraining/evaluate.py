"""What a pretrained network finds: noise with its own, constant and exchanged codes, and what its features are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from mlff_calc.datasets import Sample
from mlff_calc.errors import DatasetError, EvaluationError
from mlff_calc.pretraining import PretrainingNetwork, Steepness
from mlff_calc.pretraining.keys import CODE, DENOISED, RECONSTRUCTED
from mlff_calc.pretraining.noise import copies
from mlff_calc.training.data import generator_of
from mlff_calc.training.potential.data import graph_frames
from mlff_calc.training.pretraining.data import NoiseFrames
from mlff_calc.training.pretraining.features import Encoded, encoded, probes_of, steepness_of
from mlff_calc.training.pretraining.objective import of_role
from mlff_calc.training.sums import ErrorSums

BATCH_SIZE = 64
OWN, CONSTANT, SHUFFLED, LEARNED = "own code", "constant code", "exchanged codes", "learned constant"


@dataclass(frozen=True)
class PretrainingReport:
    """Result of `evaluate_pretraining`.

    Attributes:
        objective: Name of the objective.
        structures: Number of structures.
        denoising: Unexplained share of the noise that is found from atoms, 1 where nothing is found; None without noise.
        reconstruction: Unexplained share of the noise that the decoder finds, by code: that of the structure, the mean code
            of all structures, that of another structure; or the learned constant.
        errors: Mean absolute errors of energies (meV/atom) and forces (meV/Angstrom), where there are labels.
        steepness: Largest singular values of the derivative of codes and of pooled features by positions, see `Steepness`.
        probes: Share of the variance of labels that a linear map of pooled features explains, before (with new weights) and
            after the training.
        notes: Sentences about what was left out.
    """

    objective: str
    structures: int
    denoising: float | None
    reconstruction: dict[str, float]
    errors: dict[str, float]
    steepness: dict[str, Steepness]
    probes: dict[str, tuple[float, float]]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON; values that are not numbers are null."""
        found = asdict(self)
        for one in found["steepness"].values():
            one.update({key: value if math.isfinite(value) else None for key, value in one.items()})
        return found

    def rows(self) -> list[tuple[str, ...]]:
        """The table of the card."""
        rows: list[tuple[str, ...]] = [("", self.objective)]
        if self.denoising is not None:
            rows.append(("unexplained share of the noise, denoising", f"{self.denoising:.4f}"))
        own = self.reconstruction.get(OWN)
        for name, share in self.reconstruction.items():
            gain = "" if own is None or name == OWN else f" (own code: {own / share - 1.0:+.1%})"
            rows.append((f"the same, reconstruction with {name}", f"{share:.4f}{gain}"))
        rows += [(f"mean absolute error of {name}", f"{value:.4g}") for name, value in self.errors.items()]
        for name, one in self.steepness.items():
            text = f"{one.median:.4g} and {one.high:.4g}"
            rows.append((f"steepness of {name}, median and 95 % [1/Angstrom]", text))
            rows.append(("the same over their spread", f"{one.relative_median:.4g} and {one.relative_high:.4g}"))
        for name, (before, after) in self.probes.items():
            rows.append((f"linear probe of {name}, before and after", f"{before:.4f} and {after:.4f}"))
        return rows

    def as_text(self) -> str:
        """A table of plain text."""
        rows = self.rows()[1:]
        width = max((len(one) for one, _ in rows), default=0)
        head = f"pretraining ({self.objective}), {self.structures} structures"
        return "\n".join([head, *(f"{one:<{width}}  {other}" for one, other in rows), *self.notes])


def evaluate_pretraining(
    network: PretrainingNetwork, samples: Sequence[Sample], *, batch_size: int = BATCH_SIZE
) -> PretrainingReport:
    """Judge a network on structures, with the same noise in every call.

    Args:
        network: Network, on any device; it is put in evaluation mode.
        samples: Structures; those with energies or forces are compared with them (`supervised`), and probed for energies.
        batch_size: Number of structures evaluated at once.

    Raises:
        UnknownElementError: A structure holds an element that the network does not know.
        DatasetError: A structure has no shape to learn, or `supervised` finds no labels.
        StructureError: A structure cannot be a graph.
        EvaluationError: The network gives a value that is not finite.
    """
    for one in samples:
        network.check(one.atoms, one.place)
    network.eval()
    denoising, reconstruction, errors = None, {}, {}
    found = encoded(network, samples, batch_size)
    if network.objective.sigmas:
        frames = NoiseFrames(samples, network.cutoff, network.objective)
        denoising = _share(network, frames, DENOISED, None, batch_size)
        for name, codes in _codes(network, found).items():
            reconstruction[name] = _share(network, frames, RECONSTRUCTED, codes, batch_size)
    else:
        errors = _errors(network, samples, batch_size)
    values = [*reconstruction.values(), *errors.values(), *([] if denoising is None else [denoising])]
    if not all(map(math.isfinite, values)):
        raise EvaluationError(
            "the pretrained network gives values that are not finite; look for overlapping atoms in these structures, or "
            "try --precision float64"
        )
    steepness, notes = steepness_of(network, samples, found, batch_size)
    return PretrainingReport(
        network.config["objective"]["name"], len(samples), denoising, reconstruction, errors, steepness,
        probes_of(network, samples, found, batch_size), notes,
    )  # fmt: skip


def _codes(network: PretrainingNetwork, found: Encoded) -> dict[str, Tensor]:
    """Codes that the decoder is given, by name; none without a decoder."""
    if RECONSTRUCTED not in network.objective.sigmas:
        return {}
    codes = found.codes
    if not network.objective.reads_codes:
        return {LEARNED: codes}
    given = {OWN: codes, CONSTANT: codes.mean(dim=0, keepdim=True).expand_as(codes)}
    if len(codes) > 1:
        order = torch.randperm(len(codes), generator=generator_of(0))
        exchanged = torch.empty_like(codes)
        exchanged[order] = codes[order.roll(1)]
        given[SHUFFLED] = exchanged
    return given


def _share(
    network: PretrainingNetwork, frames: NoiseFrames, role: int, codes: Tensor | None, batch_size: int
) -> float:
    """Unexplained share of the noise of copies of one role; codes [n, width] are given to the decoder."""
    device = network.species_of.device
    generator, error, size = generator_of(role, device=device), 0.0, 0.0
    with torch.no_grad():
        for start in range(0, len(frames), batch_size):
            rows = range(start, min(start + batch_size, len(frames)))
            batch = frames.batch(rows).to(device)
            graph = copies(batch.graph, [role], network.objective.sigmas, network.cutoff, generator)
            if codes is not None:
                graph[CODE] = codes[rows.start : rows.stop].to(device)
            noise, target = of_role(network(graph), graph, role)
            error += float((noise - target).square().sum())
            size += float(target.square().sum())
    return error / size


def _errors(network: PretrainingNetwork, samples: Sequence[Sample], batch_size: int) -> dict[str, float]:
    """Mean absolute errors of energies per atom and forces."""
    frames, sums, device = graph_frames(samples, network.cutoff), ErrorSums(), network.species_of.device
    for start in range(0, len(frames), batch_size):
        rows = range(start, min(start + batch_size, len(frames)))
        batch = frames.batch(rows, 0, generator_of(0)).to(device)
        with torch.enable_grad():
            sums.add(network(batch.graph), batch.labels, batch.n_atoms)
    names = {"energy_per_atom": "energies", "forces": "forces"}
    found = {f"{names[name]} [{one.unit}]": one.mae for name, one in sums.errors().items() if name in names}
    if not found:
        raise DatasetError(
            f"{samples[0].place} and all others have neither energy nor forces, which the objective supervised learned; "
            "name their keys (--key energy=NAME)"
        )
    return found
