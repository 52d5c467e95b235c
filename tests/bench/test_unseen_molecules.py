"""The study of a general potential on other molecules, on a tiny one that is its own reference, and beside another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit")

from mlff_calc.bench.studies import unseen_molecules as module
from mlff_calc.bench.studies.unseen_molecules import UnseenStudy
from mlff_calc.errors import OptionError
from mlff_calc.potential import build_potential

SMILES = ("CO", "C=O", "C[NH3+]", "CS", "OCCO")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with two potentials, `one` and `other`, of H, C and O."""
    monkeypatch.setattr(module, "TIMED", {"methanol": "CO", "methylamine": "CN"})
    for seed, name in enumerate(("one", "other")):
        backbone = {"name": "hegnn", "cutoff": 3.0, "l_max": 1, "channels": 4, "n_layers": 1}
        potential = build_potential(
            {"backbone": backbone, "elements": ["H", "C", "O"], "repulsion": {"name": "zbl"}}, seed=seed
        )
        potential.save(tmp_path / name)
    return tmp_path


def study(made: Path, reference: str = "one", **changes: object) -> UnseenStudy:
    options = {"temperatures": (50.0, 300.0), "time": 0.01, "hot_time": 0.005, "timestep": 0.5, "frames": 2, "repeats": 2,
               "compiled": False} | changes  # fmt: skip
    return UnseenStudy(str(made / "one"), SMILES, made / "out", str(made / reference), **options)


def test_a_potential_agrees_with_itself_and_differs_from_another(made: Path) -> None:
    own = study(made)
    found = own.run()
    assert set(found["left_out"]) == {"C[NH3+]", "CS", "CN"}
    assert [(row["temperature"], row["frames"]) for row in found["errors"]] == [(50.0, 6), (300.0, 6)]
    assert max(row["forces"] for row in found["errors"]) < 1e-3
    assert [row["element"] for row in found["elements"]] == ["H", "C", "O"] * 2
    assert sum(row["frames"] for row in found["sizes"]) == 12
    assert [(row["molecules"], row["ended"]) for row in found["ends"]] == [(3, ""), (3, "")]
    assert [(row["molecule"], row["atoms"]) for row in found["times"]] == [("methanol", 6)]
    other = study(made, "other").run()
    assert min(row["forces"] for row in other["errors"]) > 1.0
    files = {file: file.stat().st_mtime_ns for file in (made / "out").iterdir()}
    hot = study(made, "other", temperatures=(40.0, 50.0)).run()  # 50 K as the hot run, which is shorter
    assert hot["errors"][1]["forces"] != other["errors"][0]["forces"]
    files = {file: file.stat().st_mtime_ns for file in (made / "out").iterdir()}
    again = study(made).run()
    assert again["errors"] == found["errors"]
    assert {file: file.stat().st_mtime_ns for file in (made / "out").iterdir()} == files


def test_molecules_that_end_are_counted(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlff_calc.distillation.explore.NEAR", 100.0)
    found = study(made).run()
    assert [row["whole"] for row in found["ends"]] == [0.0, 0.0]
    assert found["ends"][0]["ended"] == "3 atoms that are too near"
    assert found["errors"][0]["frames"] == 0


def test_no_molecule_is_refused(made: Path) -> None:
    with pytest.raises(OptionError, match=r"none of the 1 molecules can be used; the first: .*charge of 1 e"):
        UnseenStudy(str(made / "one"), ["C[NH3+]"], made / "out", str(made / "other"), workers=0, compiled=False).run()
    assert not (made / "out").exists()


def test_frames_come_from_all_over_a_trajectory() -> None:
    from ase import Atoms

    frames = [Atoms("H", info={"replica": k % 2, "step": k}) for k in range(40)]
    kept = module._spread_out(module.Explored(frames), 3, 4)
    assert [atoms.info["step"] for atoms in kept[:4]] == [8, 18, 28, 38]
    assert np.bincount([atoms.info["replica"] for atoms in kept]).tolist() == [4, 4]
