"""The property network: any backbone, a head for one number or its distribution, and the standard units of the property."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import torch
from ase import Atoms
from torch import Tensor

from mlff_calc.backbones import build_backbone
from mlff_calc.charges import charge_of
from mlff_calc.errors import StructureError
from mlff_calc.graph import collate, graph_from_atoms
from mlff_calc.graph.keys import DOUBLE, declare
from mlff_calc.graph.masses import isotope_of
from mlff_calc.heads import Features, build_head
from mlff_calc.heads.properties import DistributionHead
from mlff_calc.networks.base import Network
from mlff_calc.networks.elements import species_table
from mlff_calc.nn.scatter import scatter_sum
from mlff_calc.potential.evaluate import check_elements
from mlff_calc.properties.prediction import PropertyPrediction
from mlff_calc.properties.predictive import LEVELS, Predictive

PROPERTY: Final = declare("property", "system", (), DOUBLE, "", "property, in the unit of its labels")
PROPERTY_BASE: Final = declare("property_base", "system", (), DOUBLE, "", "part of it that composition tells")
PROPERTY_SPREAD: Final = declare("property_spread", "system", (), DOUBLE, "", "size of one standard unit of the rest")
AT_ONCE = 32  # structures that `predict_many` evaluates at once; a larger number takes more memory


class PropertyNetwork(Network):
    """A trained or trainable map from a structure to one number with its distribution.

    Create one with `build_property` or `load_property`. Calibration is part of the file: `temperature` of the distribution,
    `deviation` of errors in standard units, `widening` of intervals, and the number of frames it was `calibrated` on.

    Attributes:
        elements: Atomic numbers that it knows.
        cutoff: Cutoff radius, Angstrom.
        name: Name of the property.
        unit: Unit of the property as the recipe gives it.
        charge: Total charge of the structures that it was trained on.
    """

    kind = "property"
    units: ClassVar = {"length": "Angstrom", "property": "of the labels"}
    use = "use load_property, or `mlff predict`: it gives one number of a structure with error bars, and no forces"
    species_of: Tensor
    references: Tensor
    temperature: Tensor
    deviation: Tensor
    widening: Tensor
    calibrated: Tensor

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.elements = [int(z) for z in config["elements"]]
        self.backbone = build_backbone(config["backbone"], n_species=len(self.elements))
        self.head = build_head(config["head"], features=Features.of(self.backbone, config["backbone"], self.elements))
        self.backbone.limit_outputs(self.head.degree)
        self.cutoff = float(self.backbone.cutoff)
        self.is_total = config["pooling"] != "mean"
        self.mean, self.scale = float(config["mean"]), float(config["scale"])
        self.name, self.unit, self.charge = config["name"], config["unit"], config["charge"]
        self.register_buffer("species_of", species_table(self.elements), persistent=False)
        references = torch.tensor([config["references"][str(z)] for z in self.elements], dtype=torch.float64)
        self.register_buffer("references", references, persistent=False)
        self.register_buffer("temperature", torch.ones((), dtype=torch.float64))
        self.register_buffer("deviation", torch.ones((), dtype=torch.float64))
        self.register_buffer("widening", torch.zeros(len(LEVELS), dtype=torch.float64))
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.int64))

    def forward(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict `property` [n_systems].

        Args:
            graph: Result of `graph_from_atoms`, with the seven keys of every graph.

        Returns:
            `property`, `property_base`, `property_spread` and `standard_value` [n_systems], float64, and what else the head
            provides.

        Raises:
            UnknownElementError: An element is unknown. On a GPU torch raises an error of its own.
        """
        numbers = graph["atomic_numbers"]
        if numbers.device.type == "cpu" and not torch.compiler.is_compiling():
            check_elements(numbers.numpy(), self)
        species = self.species_of.index_select(0, numbers)
        outputs = self.head(self.backbone({**graph, "species": species}))
        base, spread = self._standard(graph, species)
        found = {name: outputs[name] for name in self.head.provides if name in outputs}
        value = base + spread * outputs["standard_value"]
        return found | {PROPERTY: value, PROPERTY_BASE: base, PROPERTY_SPREAD: spread}

    def _standard(self, graph: dict[str, Tensor], species: Tensor) -> tuple[Tensor, Tensor]:
        """Base and spread [n_systems]; see standard.py."""
        n_systems = graph["cell"].shape[0]
        if not self.is_total:
            base = torch.full((n_systems,), self.mean, dtype=torch.float64, device=species.device)
            return base, torch.full_like(base, self.scale)
        own = torch.stack([self.references.index_select(0, species), torch.ones_like(species, dtype=torch.float64)], dim=1)
        base, sizes = scatter_sum(own, graph["system_index"], n_systems).unbind(1)
        return base, self.scale * sizes

    def predictive(self, outputs: dict[str, Tensor], *, raw: bool = False) -> Predictive:
        """Distributions of outputs on the CPU, calibrated.

        Args:
            outputs: Result of `forward`.
            raw: Whether the calibration is left out: temperature 1, and no widening.
        """
        values = {name: value.detach().cpu() for name, value in outputs.items()}
        mixture = None
        if isinstance(self.head, DistributionHead):
            mixture = self.head.mixture(values, 1.0 if raw else float(self.temperature))
        widening = torch.zeros_like(self.widening) if raw else self.widening
        return Predictive(
            values["standard_value"], values[PROPERTY_BASE], values[PROPERTY_SPREAD], float(self.deviation), mixture,
            widening.cpu(),
        )  # fmt: skip

    def check(self, atoms: Atoms, place: str = "the structure") -> None:
        """Refuse a structure that the network does not know.

        Raises:
            UnknownElementError: An element is unknown.
            StructureError: The total charge is not that of the training, or an atom is an isotope.
        """
        check_elements(atoms.numbers, self, place)
        refuse_isotopes(atoms, place)
        charge = charge_of(atoms)
        if charge != self.charge:
            raise StructureError(
                f"{place} has a total charge of {charge} e, and the network was trained on {self.charge} e, which it is not "
                "told; take structures of that charge, or train on these"
            )

    def predict(self, atoms: Atoms) -> PropertyPrediction:
        """Predict the property of one structure.

        Args:
            atoms: Structure; `info['charge']` is checked.

        Returns:
            Mean, standard deviation and quantiles.

        Raises:
            UnknownElementError: An element is unknown.
            StructureError: The structure cannot be a graph, is charged in another way than in training, or holds isotopes.
        """
        self.check(atoms)
        return self._predicted([atoms])[0]

    def predict_many(self, structures: Sequence[Atoms]) -> list[PropertyPrediction]:
        """Predict the property of several structures, in batches; see `predict`."""
        for number, one in enumerate(structures):
            self.check(one, f"structure {number}")
        found: list[PropertyPrediction] = []
        for start in range(0, len(structures), AT_ONCE):
            found += self._predicted(structures[start : start + AT_ONCE])
        return found

    def _predicted(self, structures: Sequence[Atoms]) -> list[PropertyPrediction]:
        """Predictions of one batch, whose structures were checked."""
        graph = collate([graph_from_atoms(one, self.cutoff) for one in structures])
        with torch.no_grad():
            outputs = self.eval()({key: value.to(self.widening.device) for key, value in graph.items()})
        return self.plain(self.predictive(outputs))

    def plain(self, predictive: Predictive) -> list[PropertyPrediction]:
        """Plain numbers of distributions, one for each structure."""
        means, stds = predictive.mean.tolist(), predictive.std.tolist()
        quantiles = {level: values.tolist() for level, values in predictive.quantiles().items()}
        return [
            PropertyPrediction(mean, std, {level: own[k] for level, own in quantiles.items()}, self.name, self.unit)
            for k, (mean, std) in enumerate(zip(means, stds, strict=True))
        ]


def refuse_isotopes(atoms: Atoms, place: str) -> None:
    """Refuse a structure with named isotopes, which a network of elements does not see.

    Raises:
        StructureError: There is one; the message names the atom.
    """
    isotope = isotope_of(atoms)
    if isotope is not None:
        mass = atoms.get_masses()[isotope]
        raise StructureError(
            f"{place}: atom {isotope} ({atoms.symbols[isotope]}) has the mass {mass:.4g} amu of an isotope, which the "
            "network does not see; leave the masses out if the property does not depend on them, or leave the structure out"
        )
