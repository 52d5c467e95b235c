"""The recipe of a property: structures with one number each, the network, its head and the loss."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlff_calc.training.fine_tuning import FineTunedRecipe
from mlff_calc.training.frames.recipe import Split, refuse_two_origins
from mlff_calc.training.recipe_backbone import MeasuredBackbone
from mlff_calc.training.recipe_limits import refuse_compile, refuse_mixed
from mlff_calc.training.recipe_section import Section


class PropertyHead(Section):
    """Head of a property: one number, or its distribution as a mixture of histograms."""

    name: Literal["scalar", "distribution"] = "scalar"
    """Head: scalar for one number with the same error bar for all, distribution for an error bar of each structure."""
    bins: int = 64
    """Number of bins of each histogram, guard bins among them (distribution)."""
    layouts: list[Literal["uniform", "quantile", "normal"]] = Field(default=["uniform", "quantile", "normal"])
    """Layouts of bins, one histogram each: equal bins, equal numbers of labels, quantiles of a normal distribution."""
    width: float = 0.75
    """Width of soft targets in units of the local width of bins (distribution)."""
    gate: bool = False
    """Switch for shares of the histograms that depend on the structure (distribution)."""

    @model_validator(mode="after")
    def _options_are_of_the_head(self) -> PropertyHead:
        others = sorted(self.model_fields_set - {"name"})
        if self.name == "scalar" and others:
            raise ValueError(f"`{others[0]}` belongs to name: distribution, and the head is scalar; leave it out")
        return self

    def config(self) -> dict[str, Any]:
        """Return name and options of the head."""
        return {"name": self.name} if self.name == "scalar" else self.model_dump()


class PropertySection(Section):
    """Architecture; references and scale are measured on the training labels."""

    backbone: MeasuredBackbone | None = None
    """Backbone and its options; `cutoff` (auto is 5 Angstrom) and `avg_num_neighbors` may be auto. Only with
    `fine_tune_from` it may be left out."""
    head: PropertyHead = PropertyHead()
    """Head and its options."""
    pooling: Literal["mean", "sum", "references"] = "mean"
    """Size of the property: mean for one that does not grow with the structure, sum for a total, references for a total
    after the part that a fitted number for each element explains."""

    @model_validator(mode="after")
    def _can_be_built(self) -> PropertySection:
        """Check ranges, which only the parts know, by building the network once."""
        from mlff_calc.properties import build_property

        if self.backbone is None:  # it is that of the start
            return self
        build_property(self.config() | {"backbone": self.backbone.measured(AUTO), "elements": [1]}, seed=0)
        return self

    def config(self) -> dict[str, Any]:
        """Return the configuration for `build_property`, without values measured on the data."""
        backbone = {} if self.backbone is None else self.backbone.config()
        return {"backbone": backbone, "head": self.head.config(), "pooling": self.pooling}


AUTO = {"cutoff": 5.0, "avg_num_neighbors": 10.0}
"""Options of a backbone before they are measured; the cutoff (Angstrom) is the default of `auto`."""


class PropertyData(Section):
    """Structures with one number each: files that ASE reads, or tables with SMILES."""

    train: list[str]
    """Training files: paths or patterns, or one. Tables end with .csv or .tsv; all other files are read by ASE."""
    valid: list[str] | None = None
    """Validation files, instead of `split.valid`."""
    test: list[str] | None = None
    """Test files, instead of `split.test`."""
    split: Split | None = None
    """Division of the structures of `train`."""
    label: str
    """Name of the property: key in `atoms.info` or ASE's results, or column of a table."""
    unit: str = ""
    """Unit of the property, in words for reports; nothing is converted."""
    index: str = ":"
    """Frames or rows to read of every file, as in ASE: `:100`, `::10`."""
    format: str | None = None
    """Format by ASE's name; null to decide by the name of the file."""
    smiles: str = "smiles"
    """Column of SMILES in tables, whose positions RDKit makes (extra `conformers`)."""
    seed: int = Field(0, ge=0)
    """Seed of positions made from SMILES."""
    failed: Literal["refuse", "skip"] = "refuse"
    """Treatment of SMILES that give no molecule: an error, or left out."""
    missing: Literal["refuse", "skip"] = "refuse"
    """Treatment of labels that are missing, empty or NaN: an error, or left out."""

    @field_validator("train", "valid", "test", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:  # noqa: ANN401
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _validation_frames_come_from_one_place(self) -> PropertyData:
        refuse_two_origins(self)
        return self

    def reading(self) -> dict[str, Any]:
        """Return the options of `read_properties`, besides file and label."""
        return self.model_dump(include={"index", "format", "smiles", "seed", "failed", "missing"})


class PropertyLoss(Section):
    """Form of the loss, in standard units of the property."""

    form: Literal["l1", "huber", "mse"] = "l1"
    """Form for the head scalar: absolute error, huber, or square."""
    huber_delta: float = Field(0.1, gt=0.0)
    """Error at which huber changes from square to linear, in standard units."""
    expectation: float = Field(10.0, ge=0.0)
    """Weight of the absolute error of the mean beside the cross entropy, for the head distribution."""


class PropertyRecipe(FineTunedRecipe):
    """Recipe of a property. Create it with `load_recipe` or `parse_recipe`."""

    property: PropertySection
    """Architecture of the network."""
    data: PropertyData
    """Structures with one number each."""
    loss: PropertyLoss = PropertyLoss()
    """Form of the loss."""

    @model_validator(mode="after")
    def _can_be_trained(self) -> PropertyRecipe:
        refuse_mixed(self.trainer, "properties")
        refuse_compile(self.trainer, "properties")
        if self.property.backbone is None and self.fine_tune_from is None:
            raise ValueError(
                "there is no architecture; give `property.backbone` (a new one), or `fine_tune_from` (name or path of a "
                "trained network)"
            )
        head, given = self.property.head.name, self.loss.model_fields_set
        wrong = sorted(given & ({"expectation"} if head == "scalar" else {"form", "huber_delta"}))
        if wrong:
            raise ValueError(f"loss.{wrong[0]} does not belong to property.head {head}; leave it out")
        return self
