"""The backbone in a recipe: its name and options, checked against the backbone itself before any data are read."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from mlff_calc.errors import RecipeError


class BackboneSection(BaseModel):
    """A registered backbone by its name, with options that are checked against the backbone itself."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

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

    def config(self) -> dict[str, Any]:
        """The plain dict that the builders of networks take."""
        return self.model_dump()
