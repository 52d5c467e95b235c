"""Runs that were started before weights had their present format know their potential."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlff_calc.dynamics.identity import identity
from mlff_calc.networks.files import fingerprints
from mlff_calc.potential import load_potential

OLD = Path(__file__).parents[1] / "networks" / "old" / "v2_potential"


def test_an_older_checksum_of_the_same_weights_is_known() -> None:
    """Of the file of format 2 that a run may have begun with as one of format 1; its domain was not in that."""
    now, before = fingerprints(OLD)
    assert now != before
    name = str(OLD)
    assert identity(name) == f"v2_potential {now[:12]}"
    assert identity(name, f"v2_potential {before[:12]}") == f"v2_potential {before[:12]}"
    assert identity(f"{name}, ethanol", f"v2_potential {before[:12]}, x").startswith(f"v2_potential {now[:12]}, ethanol ")


@pytest.mark.parametrize("other", ["scale", "weights"])
def test_other_weights_are_others(tmp_path: Path, other: str) -> None:
    potential = load_potential("silicon")
    potential.save(tmp_path / "silicon")
    remembered = identity(str(tmp_path / "silicon"))
    if other == "weights":
        next(potential.parameters()).data[0] += 1e-3
    else:
        potential.config["scale"] = 2.0
    potential.save(tmp_path / "silicon", overwrite=True)
    assert identity(str(tmp_path / "silicon"), remembered) != remembered


def test_the_potentials_that_ship_are_known_to_older_runs() -> None:
    before = {
        "ethanol": "bb77487195ff",
        "ethanol_deq": "1510212d3ca6",
        "silicon": "b1dc1aa897b4",
        "silicon_deq": "3fbc1fd8b0c1",
    }
    for name, checksum in before.items():
        assert identity(name, f"{name} {checksum}") == f"{name} {checksum}"
