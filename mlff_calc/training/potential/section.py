"""The sections `potential` and `fixed_point` of a recipe, checked against the named parts before any data are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlff_calc.training.recipe_backbone import BackboneSection
from mlff_calc.training.recipe_section import Section


class HeadSection(Section):
    """Head that gives energies; its widths, scale and reference energies follow from other sections."""

    name: Literal["energy"] = "energy"
    """Name of the head."""


class RepulsionSection(Section):
    """Short-range repulsion; `reach` in units of the sum of covalent radii, by default as `build_potential` has it."""

    name: Literal["zbl"] = "zbl"
    """Form of the repulsion."""
    reach: float | None = Field(None, gt=0.0)
    """Distance within which the repulsion acts, in units of the sum of covalent radii; null for the default."""


class FieldsSection(Section):
    """Fields of atoms that respond to each other, and their energy; see heads/fields.py."""

    copies: int = Field(4, ge=1)
    """Number of copies of each degree."""
    l_max: int = Field(1, ge=0, le=3)
    """Highest degree of the fields: 0 for scalars alone, 1 for vectors too."""
    bound: float = Field(2.0, ge=0.01, le=16.0)
    """Norm that couplings stay below; higher ones carry information farther and need more products."""
    products: int = Field(3, ge=1, le=100)
    """Number of products with the couplings from nothing, in training and in use."""
    hidden: int = Field(32, ge=1)
    """Width of the perceptron that gives couplings."""
    n_basis: int = Field(8, ge=1)
    """Number of radial functions of the couplings."""


class UncertaintySection(Section):
    """Heads that predict errors of energies and forces; see heads/uncertainty.py."""

    bins: int = Field(48, ge=1)
    """Number of bins of the size of an error, over 6.5 powers of ten; more resolve it better."""
    width: float = Field(0.75, gt=0.0)
    """Width of soft targets, in bins."""
    detach: bool = True
    """Whether energies and forces are trained as without these heads; else their loss reaches the backbone."""


class PotentialSection(Section):
    """Architecture; `auto` values are measured on the training data."""

    backbone: BackboneSection | None = None
    """Backbone and its options; only with `fine_tune_from` it may be left out."""
    head: HeadSection = HeadSection()
    """Head that gives energies."""
    forces: Literal["gradient", "direct"] = "gradient"
    """Origin of the forces: gradient of the energy, or direct (cheaper, without conserved energy or stress)."""
    repulsion: RepulsionSection | None = None
    """Short-range repulsion, which keeps atoms apart where there is no data; `{}` for the default, null for none."""
    fields: FieldsSection | None = None
    """Fields of atoms that respond to each other, beyond the layers; `{}` for the default, null for none."""
    uncertainty: UncertaintySection | None = None
    """Standard deviations of energies and forces; `{}` for the default, null for none."""
    elements: Literal["auto"] | list[str] = "auto"
    """Chemical symbols that the potential knows; auto for those of the training frames."""
    scale: Literal["auto"] | float = "auto"
    """Scale of the learned energies; auto for the root mean square of the training forces [eV]."""
    avg_num_neighbors: Literal["auto"] | float = "auto"
    """Mean number of neighbours, by which sums over neighbours are divided; auto measures it."""

    @field_validator("scale", "avg_num_neighbors", mode="before")
    @classmethod
    def _positive_or_auto(cls, value: Any) -> Any:  # noqa: ANN401
        if value == "auto":
            return value
        number = math.nan
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            with suppress(ValueError, OverflowError):
                number = float(value)
        if not 0.0 < number < math.inf:
            raise ValueError("give a number greater than 0, or auto")
        return number

    @model_validator(mode="after")
    def _repulsion_reaches_the_forces(self) -> PotentialSection:
        if self.forces == "direct" and self.repulsion is not None:
            raise ValueError(
                "`repulsion` acts through the energy, and `forces: direct` takes no gradient of it; "
                "leave `repulsion` out, or write forces: gradient"
            )
        if self.forces == "direct" and self.fields is not None:
            raise ValueError(
                "`fields` act through the energy, and `forces: direct` takes no gradient of it; leave `fields` out, or "
                "write forces: gradient"
            )
        return self

    @model_validator(mode="after")
    def _can_be_built(self) -> PotentialSection:
        """Check ranges, which only the parts know, by building the potential once."""
        from mlff_calc.potential import build_potential

        if self.backbone is None:  # it is that of the start
            return self
        elements = ["H"] if isinstance(self.elements, str) or not self.elements else self.elements
        build_potential(self.config() | {"elements": elements, "scale": 1.0, "avg_num_neighbors": 1.0}, seed=0)
        return self

    def config(self) -> dict[str, Any]:
        """Return the configuration for `build_potential`, without values measured on the data."""
        return {
            "backbone": {} if self.backbone is None else self.backbone.config(),
            "head": self.head.model_dump(),
            "forces": self.forces,
            "repulsion": None if self.repulsion is None else self.repulsion.model_dump(exclude_none=True),
            "fields": None if self.fields is None else self.fields.model_dump(),
            "uncertainty": None if self.uncertainty is None else self.uncertainty.model_dump(),
        }


class FixedPointSection(Section):
    """Training of a potential on a fixed point; see training/potential/fixed_point.py."""

    contraction: float = Field(0.0, ge=0.0)
    """Weight of the penalty on spectral radii of a fixed point above `spectral_radius`."""
    contraction_every: int = Field(4, ge=1)
    """Number of steps between measurements of the spectral radius."""
    spectral_radius: float = Field(0.7, gt=0.0)
    """Largest spectral radius without penalty."""
    correction: float = Field(0.0, ge=0.0)
    """Weight of the loss on intermediate states of a solve."""
    correction_states: int = Field(1, ge=1, le=2)
    """Number of intermediate states."""

    def finding(self, backbone: Mapping[str, Any], *, direct: bool) -> str:
        """Describe fault and cure where a potential lacks what the section asks for; empty where it has it.

        Args:
            backbone: Name and options of the backbone.
            direct: Whether forces come from a head of direct forces.
        """
        from mlff_calc.backbones import is_fixed_point

        name, implicit = backbone["name"], backbone.get("gradient") == "implicit"
        if self.contraction > 0.0:
            said = f"fixed_point.contraction is {self.contraction:g}, but "
            if not is_fixed_point(name) or direct:
                return (
                    f"{said}backbone {name!r} with forces: {'direct' if direct else 'gradient'} solves for no adjoint; "
                    "leave `contraction` out, or take backbone deq with gradient forces"
                )
            if implicit:
                return (
                    f"{said}gradient: implicit measures no spectral radius in training; leave `contraction` out, or write "
                    "gradient: phantom"
                )
        if self.correction > 0.0:
            said = f"fixed_point.correction is {self.correction:g}, but "
            if not is_fixed_point(name):
                return f"{said}backbone {name!r} solves for nothing; leave `correction` out, or take backbone deq"
            if implicit:
                return (
                    f"{said}gradient: implicit is exact only at the solution; leave `correction` out, or write gradient: "
                    "phantom"
                )
        return ""
