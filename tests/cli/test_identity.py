"""Runs that were started before weights had their present format know their potential."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlff_calc.cli.identity import identity
from mlff_calc.potential import load_potential
from mlff_calc.potential.files import fingerprints


def test_an_older_checksum_of_the_same_weights_is_known(tmp_path: Path) -> None:
    potential = load_potential("silicon")
    potential.domain = None
    potential.save(tmp_path / "silicon")
    now, before = fingerprints(tmp_path / "silicon")
    potential.domain = {"cutoff": 5.0, "nearest": {"Si": [[1.0, 3.0]] * 4}}
    potential.save(tmp_path / "later" / "silicon")
    again, same = fingerprints(tmp_path / "later" / "silicon")
    assert same == before
    assert len({now, again, before}) == 3
    name = str(tmp_path / "later" / "silicon")
    assert identity(name) == f"silicon {again[:12]}"
    assert identity(name, f"silicon {before[:12]}") == f"silicon {before[:12]}"
    assert identity(f"{name}, ethanol", f"silicon {before[:12]}, x").startswith(f"silicon {again[:12]}, ethanol ")


@pytest.mark.parametrize("other", ["scale", "weights"])
def test_other_weights_are_others(tmp_path: Path, other: str) -> None:
    potential = load_potential("silicon")
    potential.save(tmp_path / "silicon")
    remembered = f"silicon {fingerprints(tmp_path / 'silicon')[1][:12]}"
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
