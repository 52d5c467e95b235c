"""The backbone in a recipe: its name and options, checked against the backbone before any data are read."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from mlff_calc.errors import RecipeError

_JSON_TYPES = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))


class BackboneSection(BaseModel):
    """Name and options of a registered backbone; the options are checked against the backbone."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of a registered backbone."""

    @model_validator(mode="after")
    def _options_fit(self) -> BackboneSection:
        from mlff_calc.backbones import base

        options = self.config()
        try:
            findings = base.option_findings(options)
        except RecipeError as error:
            findings = {"name": str(error)}
        if findings:
            details: list[InitErrorDetails] = [
                {
                    "type": PydanticCustomError("option", "{text}", {"text": text}),
                    "loc": (key,),
                    "input": options.get(key),
                }
                for key, text in findings.items()
            ]
            raise ValidationError.from_exception_data(type(self).__name__, details)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:  # noqa: ANN401
        """Add the names of all backbones and the options of each."""
        from mlff_calc.backbones import available_backbones

        schema = handler.resolve_ref_schema(handler(core))
        names = available_backbones()
        schema["properties"]["name"]["enum"] = names
        schema["allOf"] = [
            {
                "if": {"properties": {"name": {"const": name}}},
                "then": {"properties": {"name": True} | cls.options_schema(name), "additionalProperties": False},
            }
            for name in names
        ]
        return schema

    @classmethod
    def options_schema(cls, name: str) -> dict[str, dict[str, Any]]:
        """JSON schema of each option of a backbone: type and default from the signature, meaning from the docstring."""
        from mlff_calc.backbones.described import described_options

        found: dict[str, dict[str, Any]] = {}
        for key, option in described_options(name).items():
            kind = next((word for type_, word in _JSON_TYPES if isinstance(option.default, type_)), None)
            known = {} if kind is None else {"type": kind, "default": option.default}
            found[key] = {"description": option.meaning} | known
        return found

    def config(self) -> dict[str, Any]:
        """Return the plain dict that the builders of networks take."""
        return self.model_dump()


MEASURED = ("cutoff", "avg_num_neighbors")
"""Options of a backbone that are measured on the training samples if they are `auto` or left out."""


class MeasuredBackbone(BackboneSection):
    """A registered backbone with its options; `cutoff` and `avg_num_neighbors` may be `auto`, which is the default."""

    @classmethod
    def options_schema(cls, name: str) -> dict[str, dict[str, Any]]:
        """See `BackboneSection`; measured options also accept `auto`, their default."""
        found = super().options_schema(name)
        for key in MEASURED:
            own = found[key]
            found[key] = {"anyOf": [{"const": "auto"}, {"type": own["type"]}], "default": "auto"}
            found[key]["description"] = own["description"]
        return found

    def config(self) -> dict[str, Any]:
        """Name and options as given, without those that are `auto`."""
        return {key: value for key, value in self.model_dump().items() if not (key in MEASURED and value == "auto")}

    def measured(self, values: dict[str, float]) -> dict[str, Any]:
        """Return name and options with measured values for those that are `auto` or left out."""
        from mlff_calc.backbones import base

        given, options = self.config(), base.backbone_options(self.name)
        return given | {key: values[key] for key in MEASURED if key in options and key not in given}
