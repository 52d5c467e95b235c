"""Options of a backbone: names and types are checked, defaults are filled in."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from mlff_calc.backbones import base
from mlff_calc.backbones.base import backbone_options, build_backbone, resolve_backbone
from mlff_calc.errors import RecipeError


def refusal(options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        resolve_backbone(options)
    return str(caught.value)


def test_every_default_is_filled_in() -> None:
    resolved = resolve_backbone({"channels": 8})
    assert resolved == {"name": "equiformer", **backbone_options("equiformer"), "channels": 8}
    assert next(iter(resolved)) == "name"
    assert resolve_backbone(resolved) == resolved


def test_numbers_come_back_plain_and_fit_for_json() -> None:
    given = {"name": "equiformer", "cutoff": 4, "channels": np.int64(8), "avg_num_neighbors": np.float32(2.5)}
    resolved = resolve_backbone(given)
    found = {key: (resolved[key], type(resolved[key])) for key in given if key != "name"}
    assert found == {"cutoff": (4.0, float), "channels": (8, int), "avg_num_neighbors": (2.5, float)}
    assert json.loads(json.dumps(resolved)) == resolved
    assert given["cutoff"] == 4


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("channels", "abc", "channels of backbone 'equiformer' is 'abc'; give a whole number, such as 32"),
        ("channels", "8", "is '8'; give a whole number"),
        ("channels", 8.5, "is 8.5; give a whole number"),
        ("channels", 8.0, "is 8.0; give a whole number"),
        ("channels", math.inf, "is inf; give a whole number"),
        ("n_layers", 1.5, "n_layers of backbone 'equiformer' is 1.5; give a whole number, such as 2"),
        ("n_basis", True, "is True; give a whole number"),
        ("heads", np.bool_(True), "give a whole number"),
        ("l_max", None, "is None; give a whole number"),
        ("cutoff", "5.0", "cutoff of backbone 'equiformer' is '5.0'; give a finite number, such as 5"),
        ("cutoff", True, "is True; give a finite number"),
        ("cutoff", None, "is None; give a finite number"),
        ("cutoff", math.nan, "is nan; give a finite number"),
        ("cutoff", -math.inf, "is -inf; give a finite number"),
        ("cutoff", [5.0], "is [5.0]; give a finite number"),
        ("cutoff", 10**400, "give a finite number"),
        ("chanels", 8, "unknown option 'chanels' of backbone 'equiformer'; did you mean 'channels'?"),
        ("n_species", 2, "unknown option 'n_species' of backbone 'equiformer'"),
        (
            "name",
            "equiformr",
            "unknown backbone 'equiformr'; available: cg_egnn, deq, equiformer, hegnn; did you mean 'equiformer'?",
        ),
        ("name", ["equiformer"], "unknown backbone ['equiformer']"),
    ],
)
def test_wrong_names_and_types_are_refused(option: str, value: object, expected: str) -> None:
    assert expected in refusal({"name": "equiformer", option: value})
    with pytest.raises(RecipeError):
        build_backbone({"name": "equiformer", option: value}, n_species=1)


def test_all_findings_come_at_once() -> None:
    assert len(refusal({"channels": "a", "cutoff": None, "hedas": 4}).splitlines()) == 3


def test_something_else_than_options_is_refused() -> None:
    assert "backbone is 'equiformer'; give its name and options" in refusal("equiformer")


def test_options_of_other_types_and_without_default(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(base.Backbone):
        def __init__(
            self, n_species: int, width: int, tied: bool = False, solver: str = "anderson", seed: int | None = None
        ) -> None:
            super().__init__()

    monkeypatch.setitem(base.BACKBONES.parts, "other", Other)
    given = {"name": "other", "width": 3, "tied": True}
    assert resolve_backbone(given) == given | {"solver": "anderson", "seed": None}
    assert "width of backbone 'other' is missing" in refusal({"name": "other"})
    assert "tied of backbone 'other' is 1; give true or false" in refusal(given | {"tied": 1})
    assert "solver of backbone 'other' is 3; give a value of type str, such as 'anderson'" in refusal(
        given | {"solver": 3}
    )
