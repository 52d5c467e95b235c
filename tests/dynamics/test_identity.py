"""Runs started with an older format of weights recognize their potential."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT

from mlff_calc import MLFFCalculator, run_md
from mlff_calc.dynamics.identity import identity, identity_of
from mlff_calc.errors import OptionError
from mlff_calc.networks.files import fingerprints
from mlff_calc.potential import Potential, build_potential, load_potential

OLD = Path(__file__).parents[1] / "networks" / "old" / "v2_potential"


def test_an_older_checksum_of_the_same_weights_is_known() -> None:
    """Return the checksum that a run with a file of format 1, which has no domain, recorded."""
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


def test_potentials_that_ship_with_the_same_weights_are_known_to_older_runs() -> None:
    before = {
        "ethanol": "bb77487195ff",
        "ethanol_deq": "1510212d3ca6",
        "silicon_deq": "3fbc1fd8b0c1",
    }
    for name, checksum in before.items():
        assert identity(name, f"{name} {checksum}") == f"{name} {checksum}"


def small(seed: int) -> Potential:
    backbone = {"name": "equiformer", "channels": 4, "n_layers": 1, "l_max": 1, "cutoff": 4.0}
    return build_potential({"backbone": backbone, "elements": ["H", "C", "O"], "scale": 0.02}, seed=seed)


def test_a_given_calculator_is_known_by_its_weights_and_precision() -> None:
    known = identity_of(MLFFCalculator(small(0)))
    assert known == identity_of(MLFFCalculator(small(0)))
    assert known.startswith("MLFFCalculator float32 ")
    others = {identity_of(MLFFCalculator(small(1))), identity_of(MLFFCalculator(small(0), precision="float64"))}
    assert len(others | {known}) == 3
    assert identity_of(EMT()) == "EMT"


def test_a_run_is_not_resumed_with_another_calculator(tmp_path: Path) -> None:
    run_md("CH3CH2OH", MLFFCalculator(small(0)), output=tmp_path / "run", steps=np.int64(2), temperature=np.float64(100))
    for calculator in (MLFFCalculator(small(1)), MLFFCalculator(small(0), precision="float64")):
        with pytest.raises(OptionError, match="potential"):
            run_md(None, calculator, output=tmp_path / "run", steps=4, resume=True)
    assert run_md(None, MLFFCalculator(small(0)), output=tmp_path / "run", steps=4, resume=True).step == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"steps": 2.0}, r"steps is 2\.0\. Give a whole number"),
        ({"temperature": "300"}, r"temperature is '300'\. Give a number"),
        ({"time": 1000}, r"time: the unit is missing in '1000'"),
    ],
)
def test_numbers_of_another_type(tmp_path: Path, arguments: dict, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        run_md("CH3CH2OH", EMT(), output=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_potential_without_calculator(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"the potential is a Potential\. Give a name.* MLFFCalculator"):
        run_md("CH3CH2OH", small(0), output=tmp_path / "run")
