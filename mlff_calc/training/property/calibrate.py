"""Calibration of a property network on validation frames: one temperature or one deviation, then the conformal widening."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mlff_calc.datasets.properties import PropertySample
from mlff_calc.errors import EvaluationError
from mlff_calc.heads.properties import DistributionHead
from mlff_calc.nn.mixture import best_temperature
from mlff_calc.properties import PropertyNetwork
from mlff_calc.properties.model import PROPERTY
from mlff_calc.properties.predictive import conformal_widening
from mlff_calc.training.property.data import PropertyFrames

BATCH_SIZE = 64
"""Default number of structures evaluated at once; a larger one takes more memory."""


def outputs_of(
    network: PropertyNetwork, samples: Sequence[PropertySample], batch_size: int = BATCH_SIZE
) -> dict[str, Tensor]:
    """Outputs of a network for all samples, joined, on the CPU.

    Raises:
        StructureError: A structure cannot be a graph; the message names it.
        EvaluationError: The network gives a value that is not finite; the message names the structure.
    """
    frames = PropertyFrames(samples, network.cutoff)
    device, found = network.widening.device, []
    network.eval()
    with torch.no_grad():
        for start in range(0, len(frames), batch_size):
            batch = frames.batch(range(start, min(start + batch_size, len(frames)))).to(device)
            found.append({name: value.cpu() for name, value in network(batch.graph).items()})
    outputs = {name: torch.cat([one[name] for one in found]) for name in found[0]}
    bad = (~torch.isfinite(outputs[PROPERTY])).nonzero().flatten().tolist()
    if bad:
        raise EvaluationError(
            f"{samples[bad[0]].place}: the network gives a {network.name} that is not finite; look for overlapping atoms "
            "in this structure, try --precision float64, or leave it out"
        )
    return outputs


def calibrate(network: PropertyNetwork, samples: Sequence[PropertySample], batch_size: int = BATCH_SIZE) -> None:
    """Set the calibration of a network, in place.

    The temperature is that of the smallest mean negative log likelihood of the labels. The deviation is the root mean square
    error in standard units. Widenings are those of `conformal_widening`.

    Args:
        network: Trained network.
        samples: Validation frames with labels.
        batch_size: Number of frames evaluated at once.
    """
    outputs = outputs_of(network, samples, batch_size)
    labels = torch.tensor([one.value for one in samples], dtype=torch.float64)
    plain = network.predictive(outputs, raw=True)
    t = plain.standard(labels)
    head = network.head
    if isinstance(head, DistributionHead):
        inside = ~head.outside(t.to(head.edges.device)).cpu()
        kept, own = {name: value[inside] for name, value in outputs.items()}, t[inside]
        if len(own):
            best = best_temperature(lambda temperature: -float(head.mixture(kept, temperature).log_density(own).mean()))
            network.temperature.fill_(best)
    network.deviation.fill_(max(float((t - plain.centre).square().mean().sqrt()), 1e-12))
    network.widening.copy_(conformal_widening(network.predictive(outputs), labels))
    network.calibrated.fill_(len(samples))
