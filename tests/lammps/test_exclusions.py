"""Atoms excluded from all others by `neigh_modify` are absent for `pair_style mlff`; other exclusions are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .conftest import HEAD, Engine, noble, setup, write_data
from .models import Layers, metadata, save, save_contraction

pytestmark = pytest.mark.lammps

STATIC = "#RUN\nrun 0\n"
NUMBERS = [18, 10]
SOME = "group some id 5 17 40 90\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exclusions")
    save(Layers(4.5), folder / "layers.pt", metadata(4.5, 3))
    save_contraction(folder / "deq.pt")
    return folder


@pytest.mark.parametrize("model", ["layers.pt", "deq.pt"])
@pytest.mark.parametrize(
    "rules",
    [
        "neigh_modify exclude group some all\n",
        "group rest subtract all some\nneigh_modify exclude group some rest exclude group some some\n",
    ],
)
def test_an_atom_excluded_from_all_is_absent(engine: Engine, files: Path, model: str, rules: str) -> None:
    """Energy, forces and pressure equal those without these atoms."""
    write_data(noble((3, 3, 3)), engine.folder / "atoms.data", NUMBERS)
    text = setup("pair_style mlff", str(files / model)) + SOME
    full = engine.run(text + STATIC)
    expected = engine.run(text + "delete_atoms group some compress no\n" + STATIC)
    assert abs(full.energy - expected.energy) > 1e-2
    hidden = np.isin(np.arange(len(full.forces)) + 1, [5, 17, 40, 90])
    for n_ranks in (1, 2):
        found = engine.run(text + rules + STATIC, n_ranks)
        assert found.energy == pytest.approx(expected.energy, abs=1e-9)
        np.testing.assert_allclose(found.forces[~hidden], expected.forces, rtol=0, atol=1e-9)
        assert np.abs(found.forces[hidden]).max() == 0.0


def test_atoms_that_come_back(engine: Engine, files: Path) -> None:
    """Atoms are excluded in one run and included in the next. An excluded atom must leave no memory of a fixed point."""
    write_data(noble((3, 3, 3)), engine.folder / "atoms.data", NUMBERS)
    for model in ("layers.pt", "deq.pt"):
        text = setup("pair_style mlff", str(files / model)) + SOME
        expected = engine.run(text + STATIC)
        back = "run 0\nneigh_modify exclude group some all\nrun 0\nneigh_modify exclude none\n"
        for n_ranks in (1, 2):
            found = engine.run(text + back + STATIC, n_ranks)
            assert found.energy == pytest.approx(expected.energy, abs=1e-9)
            np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-9)


def test_exclusions_among_types_of_other_styles_do_not_matter(engine: Engine, files: Path) -> None:
    write_data(noble((3, 3, 3)), engine.folder / "atoms.data", NUMBERS)
    both = (
        f"{HEAD}read_data atoms.data\npair_style hybrid/overlay mlff lj/cut 5.0\n"
        f"pair_coeff * * mlff {files / 'layers.pt'} Ar NULL\n"
        "pair_coeff 1 2 lj/cut 0.005 2.5\npair_coeff 2 2 lj/cut 0.0 2.5\n"
    )
    expected = engine.run(both + STATIC)
    for n_ranks in (1, 2):
        for rule in ("type 2 2", "group neon neon"):
            found = engine.run(f"{both}group neon type 2\nneigh_modify exclude {rule}\n{STATIC}", n_ranks)
            assert found.energy == pytest.approx(expected.energy, abs=1e-9)
            np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rule", ["type 1 2", "group some some", "group some neon", "group some rest", "type 2 2"])
def test_pairs_that_are_lacking_are_refused(engine: Engine, files: Path, rule: str) -> None:
    write_data(noble((3, 3, 3)), engine.folder / "atoms.data", NUMBERS)
    head = setup("pair_style mlff", str(files / "layers.pt"))
    text = f"{head}{SOME}group rest subtract all some\ngroup neon type 2\nneigh_modify exclude {rule}\nrun 0\n"
    for n_ranks in (1, 2):
        said = engine.refusal(text, n_ranks)
        assert "would not see pairs that neigh_modify exclude leaves out" in said
        assert "hold atoms by fix setforce instead" in said


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_grand_canonical_energies(engine: Engine, files: Path, n_ranks: int) -> None:
    """After insertions and deletions the energy is that of the current atoms."""
    write_data(noble((3, 3, 3)), engine.folder / "atoms.data", NUMBERS)
    head = setup("pair_style mlff", str(files / "layers.pt"))
    gcmc = "fix g all gcmc 1 20 0 1 29494 300 2.0 0.1 full_energy\nthermo 1\n"
    found = engine.run(head + gcmc + "#RUN\nrun 3\nwrite_data left.data\n", n_ranks, extra="f_g[4] f_g[6] atoms")
    assert found.thermo["f_g[4]"][-1] + found.thermo["f_g[6]"][-1] > 0  # some insertions or deletions were accepted
    again = engine.run(head.replace("atoms.data", "left.data") + STATIC)
    assert len(again.forces) == found.thermo["Atoms"][-1]
    assert found.energy == pytest.approx(again.energy, abs=1e-6)


def test_widom_insertions(engine: Engine, files: Path) -> None:
    """Trial insertions leave the energy of the system unchanged."""
    write_data(noble((3, 3, 3)), engine.folder / "atoms.data", NUMBERS)
    head = setup("pair_style mlff", str(files / "layers.pt"))
    expected = engine.run(head + STATIC)
    found = engine.run(head + "fix w all widom 1 3 1 29494 300 full_energy\n#RUN\nrun 1\n", extra="f_w[1] f_w[2]")
    assert found.energy == pytest.approx(expected.energy, abs=1e-8)
    assert np.isfinite(found.thermo["f_w[1]"]).all()
