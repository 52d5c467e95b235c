"""Codes and pooled features of structures, how steep they are, and what linear probes read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mlff_calc.backbones import is_fixed_point
from mlff_calc.datasets import Sample, fit_reference_energies
from mlff_calc.errors import StructureError
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.graph.keys import Graph
from mlff_calc.pretraining import PretrainingNetwork, Steepness, build_pretraining, probe_score, steepness
from mlff_calc.pretraining.code import pooled_features
from mlff_calc.pretraining.diagnostics import radius_of_gyration
from mlff_calc.training.data import generator_of

MOST = 200
"""Number of structures whose steepness is measured. Raising it takes more time."""
LEAST = 10
"""Smallest number of structures that are probed."""


@dataclass(frozen=True)
class Encoded:
    """Structures without noise, as vectors on the CPU.

    Attributes:
        codes: Codes [n, width]; see `PretrainingNetwork.code`.
        pooled: Pooled features [n, channels]; see `PretrainingNetwork.pooled`.
        radii: Radii of gyration [n], Angstrom.
    """

    codes: Tensor
    pooled: Tensor
    radii: Tensor


def encoded(network: PretrainingNetwork, samples: Sequence[Sample], batch_size: int) -> Encoded:
    """Encode structures.

    Raises:
        StructureError: A structure cannot be a graph; the message names it.
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(samples), batch_size):
            graph = graph_of(network, samples[start : start + batch_size])
            features = network.features(graph)
            found = network.objective.code(features), pooled_features(features), radius_of_gyration(graph)
            parts.append([one.detach().cpu() for one in found])
    return Encoded(*(torch.cat(column) for column in zip(*parts, strict=True)))


def graph_of(network: PretrainingNetwork, samples: Sequence[Sample]) -> Graph:
    """Graph of some structures, on the device of the network."""
    graphs = []
    for one in samples:
        try:
            graphs.append(graph_from_atoms(one.atoms, network.cutoff))
        except StructureError as error:
            raise StructureError(f"{one.place}: {error}") from error
    return {name: value.to(network.species_of.device) for name, value in collate(graphs).items()}


def steepness_of(
    network: PretrainingNetwork, samples: Sequence[Sample], found: Encoded, batch_size: int
) -> tuple[dict[str, Steepness], list[str]]:
    """Steepness of codes and of pooled features, on at most `MOST` structures that are spread over all, and notes."""
    options = network.config["backbone"]
    if is_fixed_point(options["name"]) or options.get("centre"):
        why = "are no function of the edges that can be differentiated twice"
        return {}, [f"steepness is not measured for this backbone ({options['name']}), whose features {why}"]
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), MOST)).astype(int))
    columns = {"pooled features": (network.pooled, found.pooled)}
    if network.objective.reads_codes:
        columns = {"codes": (network.code, found.codes)} | columns
    result = {}
    for words, (code, codes) in columns.items():
        generator, values = generator_of(0, device=network.species_of.device), []
        for start in range(0, len(chosen), batch_size):
            graph = graph_of(network, [samples[k] for k in chosen[start : start + batch_size]])
            values.append(steepness(code, graph, generator).cpu())
        result[words] = Steepness.of(torch.cat(values), codes)
    return result, []


def probes_of(
    network: PretrainingNetwork, samples: Sequence[Sample], found: Encoded, batch_size: int
) -> dict[str, tuple[float, float]]:
    """Scores of linear probes with new weights and with those of the network, by label; see `probe_score`."""
    labels = _labels(samples, found)
    if not labels:
        return {}
    new = build_pretraining(network.config, seed=0).to_precision(network.precision).to(network.species_of.device).eval()
    before = encoded(new, samples, batch_size).pooled
    result = {}
    for name, values in labels.items():
        there = torch.isfinite(values)
        result[name] = (probe_score(before[there], values[there]), probe_score(found.pooled[there], values[there]))
    return result


def _labels(samples: Sequence[Sample], found: Encoded) -> dict[str, Tensor]:
    """What is probed: the number of atoms and the radius of molecules, and energies that composition does not explain."""
    labels = {"the number of atoms": torch.tensor([float(len(one.atoms)) for one in samples], dtype=torch.float64)}
    if not any(one.atoms.pbc.any() for one in samples):
        labels["the radius of gyration"] = found.radii
    if sum(one.energy is not None for one in samples) >= LEAST:
        elements = sorted({int(z) for one in samples for z in one.atoms.numbers})
        references = fit_reference_energies(samples, elements)
        rest = [
            float("nan") if one.energy is None else one.energy - sum(references[int(z)] for z in one.atoms.numbers)
            for one in samples
        ]
        labels["the energy beyond composition"] = torch.tensor(rest, dtype=torch.float64)
    there = {name: values[torch.isfinite(values)] for name, values in labels.items()}
    return {
        name: labels[name] for name, values in there.items() if len(values) >= LEAST and float(values.std()) > 1e-6
    }
