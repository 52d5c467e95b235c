"""`pair_style mlff` gives the same results on any number of ranks, in any box, and together with other styles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from .conftest import HEAD, Engine, Result, noble, setup, write_data
from .models import Layers, LennardJones, metadata, save

pytestmark = pytest.mark.lammps

STATIC = "#RUN\nrun 0\n"
NUMBERS = [18, 10]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a pair potential, of message passing in both precisions, and of one whose exchange does nothing."""
    folder = tmp_path_factory.mktemp("models")
    save(LennardJones(0.0104, 3.4, 8.0), folder / "lj.pt", metadata(8.0, 1))
    save(Layers(4.5), folder / "layers.pt", metadata(4.5, 3))
    save(Layers(4.5, broken=True), folder / "broken.pt", metadata(4.5, 3))
    single = metadata(4.5, 3, dtype="float32", precision="float32")
    save(Layers(4.5, dtype=torch.float32), folder / "single.pt", single)
    save(Layers(4.5, channels=601, n_layers=2), folder / "wide.pt", metadata(4.5, 2))
    return folder


def agree(one: Result, other: Result, forces: float = 1e-10, energy: float = 1e-9, pressure: float = 1e-6) -> None:
    assert one.forces.shape == other.forces.shape
    assert np.abs(one.forces - other.forces).max() <= forces
    assert abs(one.energy - other.energy) <= energy
    assert np.abs(one.pressures - other.pressures).max() <= pressure * np.abs(one.pressures).max()


def test_a_pair_potential_is_that_of_lammps(engine: Engine, files: Path) -> None:
    write_data(noble(), engine.folder / "atoms.data", NUMBERS)
    own = f"{HEAD}read_data atoms.data\npair_style lj/smooth/linear 8.0\npair_coeff * * 0.0104 3.4\n"
    computes = (
        "compute e all pe/atom\ncompute s all stress/atom NULL virial\ncompute f all reduce sumsq c_e c_s[1] c_s[4]\n"
    )
    extra = "c_f[1] c_f[2] c_f[3]"
    expected = engine.run(own + computes + STATIC, extra=extra)
    for n_ranks in (1, 2):
        found = engine.run(setup("pair_style mlff", str(files / "lj.pt")) + computes + STATIC, n_ranks, extra=extra)
        agree(expected, found)
        for name in ("c_f[1]", "c_f[2]", "c_f[3]"):  # per-atom energies, and xx and xy of the virial
            assert found.thermo[name][-1] == pytest.approx(expected.thermo[name][-1], rel=1e-10)


def test_forces_are_the_gradient_of_the_energy(files: Path) -> None:
    """The explicit backward pass of the network, which is the reference of other tests, agrees with autograd."""
    from mlff_calc.graph import graph_from_atoms

    graph = graph_from_atoms(noble((2, 2, 2)), 4.5)
    numbers = graph["atomic_numbers"]
    owned = torch.ones(len(numbers), dtype=torch.float64)
    vectors = graph["edge_vec"].clone().requires_grad_()
    network = Layers(4.5)
    energies, forces, virials = network(
        numbers, numbers, torch.zeros_like(numbers), graph["edge_index"], vectors, graph["cell"], owned
    )
    gradient = torch.autograd.grad(energies.sum(), vectors)[0]
    expected = torch.zeros_like(forces).index_add(0, graph["edge_index"][0], gradient)
    expected = expected.index_add(0, graph["edge_index"][1], -gradient)
    torch.testing.assert_close(forces, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(virials.sum(0), -(vectors.t() @ gradient), atol=1e-11, rtol=0)


@pytest.mark.parametrize("style", ["pair_style mlff", "pair_style mlff ghosts"])
def test_message_passing_on_ranks(engine: Engine, files: Path, style: str) -> None:
    write_data(noble(), engine.folder / "atoms.data", NUMBERS)
    one = engine.run(setup("pair_style mlff", str(files / "layers.pt")) + STATIC)
    assert np.abs(one.forces).max() > 0.1
    for n_ranks in (1, 4) if "ghosts" in style else (2, 4):
        agree(one, engine.run(setup(style, str(files / "layers.pt")) + STATIC, n_ranks))


def test_without_the_exchange_it_differs(engine: Engine, files: Path) -> None:
    write_data(noble(), engine.folder / "atoms.data", NUMBERS)
    text = setup("pair_style mlff", str(files / "broken.pt")) + STATIC
    one, two = engine.run(text), engine.run(text, 2)
    assert np.abs(one.forces - two.forces).max() > 1e-2
    assert abs(one.energy - two.energy) > 1e-1


def test_ghosts_within_one_cutoff_are_too_few_without_exchange(engine: Engine, files: Path) -> None:
    """Without exchange, the ghosts must cover the whole reach: a file that declares one of three layers gets too few."""
    save(Layers(4.5), engine.folder / "short.pt", metadata(4.5, 1))
    write_data(noble(), engine.folder / "atoms.data", NUMBERS)
    one = engine.run(setup("pair_style mlff", str(files / "layers.pt")) + STATIC)
    two = engine.run(setup("pair_style mlff ghosts", "short.pt") + STATIC, 2)
    assert np.abs(one.forces - two.forces).max() > 1e-4


def test_features_wider_than_a_message(engine: Engine, files: Path) -> None:
    """601 channels exceed one message of LAMMPS per atom, and do not fill a whole number of messages."""
    write_data(noble((3, 3, 3)), engine.folder / "atoms.data", NUMBERS)
    text = setup("pair_style mlff", str(files / "wide.pt")) + STATIC
    one = engine.run(text)
    agree(one, engine.run(text, 2), forces=1e-10 * np.abs(one.forces).max(), energy=1e-9 * abs(one.energy))


def test_single_precision_is_packed_two_to_a_double(engine: Engine, files: Path) -> None:
    """With five channels of float32, the last double of each atom is half empty."""
    write_data(noble(), engine.folder / "atoms.data", NUMBERS)
    double = engine.run(setup("pair_style mlff", str(files / "layers.pt")) + STATIC)
    for n_ranks in (1, 2):
        found = engine.run(setup("pair_style mlff", str(files / "single.pt")) + STATIC, n_ranks)
        agree(double, found, forces=1e-5, energy=1e-3, pressure=1e-5)


def test_a_run_with_migration_and_rebuilds(engine: Engine, files: Path) -> None:
    write_data(noble(noise=0.05), engine.folder / "atoms.data", NUMBERS, temperature_K=400.0)
    run = "neighbor 0.3 bin\nneigh_modify every 1 delay 0\nfix 1 all nve\ntimestep 0.004\nthermo 10\n#RUN\nrun 200\n"
    own = f"{HEAD}read_data atoms.data\npair_style lj/smooth/linear 8.0\npair_coeff * * 0.0104 3.4\n"
    expected = engine.run(own + run)
    found = engine.run(setup("pair_style mlff", str(files / "lj.pt")) + run, 2)
    builds = [int(line.split("=")[1]) for line in found.text.splitlines() if line.startswith("Neighbor list builds")]
    assert builds[0] > 10
    agree(expected, found, forces=1e-8, energy=1e-8, pressure=1e-6)
    np.testing.assert_allclose(found.thermo["TotEng"], expected.thermo["TotEng"], atol=1e-8)


def test_sorting_keeps_atoms_apart(engine: Engine, files: Path) -> None:
    write_data(noble(noise=0.05), engine.folder / "atoms.data", NUMBERS, temperature_K=300.0)
    run = "neighbor 0.3 bin\nneigh_modify every 1 delay 0\nfix 1 all nve\ntimestep 0.002\n#RUN\nrun 60\n"
    text = setup("pair_style mlff", str(files / "layers.pt")) + run
    never = engine.run(text.replace("read_data", "atom_modify sort 0 0\nread_data"))
    often = engine.run(text.replace("read_data", "atom_modify sort 1 4.0\nread_data"), 2)
    agree(never, often, forces=1e-8, energy=1e-8)


def test_triclinic(engine: Engine, files: Path) -> None:
    write_data(noble(tilt=0.12), engine.folder / "atoms.data", NUMBERS)
    text = setup("pair_style mlff", str(files / "layers.pt")) + STATIC
    one = engine.run(text)
    agree(one, engine.run(text, 4))


def test_ranks_without_atoms(engine: Engine, files: Path) -> None:
    atoms = noble((3, 3, 2))
    atoms.cell[2, 2] = 60.0
    atoms.positions[:, 2] += 3.0
    write_data(atoms, engine.folder / "atoms.data", NUMBERS)
    head = setup("pair_style mlff", str(files / "layers.pt"), boundary="p p f").replace(
        "read_data", "processors 1 1 *\nread_data"
    )
    text = head + STATIC
    one = engine.run(text)
    found = engine.run(text, 4)
    agree(one, found)
    assert "0 min" in " ".join(line for line in found.text.splitlines() if line.startswith("Nlocal"))


@pytest.mark.parametrize("n_atoms", [1, 2, 3])
def test_very_few_atoms(engine: Engine, files: Path, n_atoms: int) -> None:
    """Structures have fewer atoms or edges than a network accepts."""
    places = np.array([[5.0, 5, 5], [8.5, 5, 5], [8.5, 16, 16]])[:n_atoms]
    write_data(Atoms([18, 10, 18][:n_atoms], places, cell=[21] * 3, pbc=True), engine.folder / "atoms.data", NUMBERS)
    text = setup("pair_style mlff", str(files / "layers.pt")) + STATIC
    one = engine.run(text)
    assert np.isfinite(one.energy)
    assert (np.abs(one.forces).max() > 1e-3) == (n_atoms > 1)
    agree(one, engine.run(text, 2))


@pytest.mark.parametrize("style", ["pair_style mlff", "pair_style mlff ghosts"])
def test_a_box_smaller_than_the_cutoff(engine: Engine, files: Path, style: str) -> None:
    """Four atoms, with their own images as neighbours, agree with a larger box of copies, also on several ranks."""
    small = noble((1, 1, 1), noise=0.1)
    small.numbers[:] = [18, 10, 18, 18]
    save(Layers(7.0), engine.folder / "far.pt", metadata(7.0, 3))
    write_data(small * (3, 3, 3), engine.folder / "atoms.data", NUMBERS)
    large = engine.run(setup("pair_style mlff", "far.pt") + STATIC)
    write_data(small, engine.folder / "atoms.data", NUMBERS)
    for n_ranks in (1, 2):
        found = engine.run(setup(style, "far.pt") + STATIC, n_ranks)
        assert np.abs(found.forces - large.forces[:4]).max() < 1e-10
        assert found.energy == pytest.approx(large.energy / 27, abs=1e-9)
        np.testing.assert_allclose(found.pressures, large.pressures, atol=1e-6 * np.abs(large.pressures).max())


def test_together_with_another_style(engine: Engine, files: Path) -> None:
    write_data(noble(), engine.folder / "atoms.data", NUMBERS)
    alone = engine.run(setup("pair_style mlff", str(files / "layers.pt")) + STATIC)
    other = "pair_style lj/smooth/linear 8.0\npair_coeff * * 0.0104 3.4\n"
    both = (
        "pair_style hybrid/overlay mlff lj/smooth/linear 8.0\n"
        f"pair_coeff * * mlff {files / 'layers.pt'} Ar Ne\npair_coeff * * lj/smooth/linear 0.0104 3.4\n"
    )
    lj = engine.run(f"{HEAD}read_data atoms.data\n{other}{STATIC}")
    for n_ranks in (1, 2):
        found = engine.run(f"{HEAD}read_data atoms.data\n{both}{STATIC}", n_ranks)
        assert np.abs(found.forces - alone.forces - lj.forces).max() < 1e-10
        assert found.energy == pytest.approx(alone.energy + lj.energy, abs=1e-9)
        np.testing.assert_allclose(found.pressures, alone.pressures + lj.pressures, rtol=1e-6, atol=1e-3)


def test_types_that_are_left_to_others(engine: Engine, files: Path) -> None:
    """With `NULL` for neon, the network gets only argon."""
    atoms = noble()
    write_data(atoms, engine.folder / "atoms.data", NUMBERS)
    both = (
        "pair_style hybrid/overlay mlff zero 8.0\n"
        f"pair_coeff * * mlff {files / 'layers.pt'} Ar NULL\npair_coeff * * zero\n"
    )
    found = [engine.run(f"{HEAD}read_data atoms.data\n{both}{STATIC}", n_ranks) for n_ranks in (1, 2)]
    agree(*found)
    argon = atoms[atoms.numbers == 18]
    write_data(argon, engine.folder / "atoms.data", NUMBERS)
    expected = engine.run(setup("pair_style mlff", str(files / "layers.pt")) + STATIC)
    assert found[0].energy == pytest.approx(expected.energy, abs=1e-9)
    np.testing.assert_allclose(found[0].forces[atoms.numbers == 18], expected.forces, atol=1e-10)
    assert np.abs(found[0].forces[atoms.numbers == 10]).max() == 0.0


def test_changing_box(engine: Engine, files: Path) -> None:
    write_data(noble(noise=0.05), engine.folder / "atoms.data", NUMBERS, temperature_K=80.0)
    run = "fix 1 all npt temp 80 80 0.1 aniso 0 0 1\ntimestep 0.002\nthermo 10\n#RUN\nrun 60\n"
    text = setup("pair_style mlff", str(files / "lj.pt")) + run
    one, two = engine.run(text, extra="vol"), engine.run(text, 2, extra="vol")
    assert abs(one.thermo["Volume"][-1] / one.thermo["Volume"][0] - 1) > 1e-4
    np.testing.assert_allclose(two.thermo["Volume"], one.thermo["Volume"], rtol=1e-9)
    agree(one, two, forces=1e-8, energy=1e-8)


def test_minimization(engine: Engine, files: Path) -> None:
    write_data(noble(), engine.folder / "atoms.data", NUMBERS)
    text = setup("pair_style mlff", str(files / "lj.pt")) + "min_style fire\n#RUN\nminimize 0 1e-6 500 2000\n"
    one, two = engine.run(text), engine.run(text, 2)
    assert np.abs(one.forces).max() < 1e-5
    agree(one, two, forces=2e-6, energy=1e-8, pressure=1e-4)


def test_two_runs_in_one_input_and_a_second_pair_style(engine: Engine, files: Path) -> None:
    write_data(noble((3, 3, 3)), engine.folder / "atoms.data", NUMBERS)
    again = f"pair_style mlff\npair_coeff * * {files / 'layers.pt'} Ar Ne\n"
    text = setup("pair_style mlff", str(files / "lj.pt")) + "run 1\n" + again + STATIC
    expected = engine.run(setup("pair_style mlff", str(files / "layers.pt")) + STATIC)
    found = engine.run(text)
    assert found.energy == pytest.approx(expected.energy, abs=1e-9)


def test_lmp_finds_the_plugin_by_itself(engine: Engine, files: Path) -> None:
    """The input has no `plugin load`."""
    status, said = engine.start("plugin list\n")
    assert status == 0
    assert "pair style plugin mlff" in said
    assert "fix style plugin mlff/memory" in said


HEAT = (
    "compute ke all ke/atom\ncompute pe all pe/atom\ncompute w all centroid/stress/atom NULL virial\n"
    "compute j all heat/flux ke pe w\ncompute sums all reduce sum c_w[1] c_w[4] c_w[7] c_w[6] c_w[9]\n"
)


def heat_flux(engine: Engine, atoms: Atoms, velocities: np.ndarray) -> np.ndarray:
    """Return J = sum e_i v_i + sum W_i v_i of the network in Python, in LAMMPS's units (eV Angstrom/ps)."""
    from ase.neighborlist import neighbor_list

    i, j, vectors = neighbor_list("ijD", atoms, 4.5)
    numbers = torch.as_tensor(atoms.numbers)
    energies, _, virials = Layers(4.5)(
        numbers,
        numbers,
        torch.zeros_like(numbers),
        torch.as_tensor(np.stack([i, j])),
        torch.as_tensor(vectors),
        torch.zeros(1, 3, 3, dtype=torch.float64),
        torch.ones(len(atoms), dtype=torch.float64),
    )
    kinetic = 0.5 * atoms.get_masses() * (velocities**2).sum(1) * 1.0364269e-4
    convected = ((energies.numpy() + kinetic)[:, None] * velocities).sum(0)
    return np.concatenate([convected + np.einsum("nab,nb->a", virials.numpy(), velocities), convected])


@pytest.mark.parametrize("kind", ["cluster", "crystal"])
def test_heat_flux_from_centroid_stresses(engine: Engine, files: Path, kind: str) -> None:
    """The heat flux needs all nine components of the atomic virial, which many-body terms make asymmetric."""
    atoms = noble((2, 2, 2), noise=0.2) if kind == "cluster" else noble((3, 3, 3), noise=0.2)
    boundary = "p p p"
    if kind == "cluster":
        atoms.center(vacuum=8.0)
        atoms.pbc, boundary = False, "f f f"
    write_data(atoms, engine.folder / "atoms.data", NUMBERS, temperature_K=600.0)
    lines = (engine.folder / "atoms.data").read_text().split("Velocities\n\n")[1].splitlines()
    velocities = np.array([[float(word) for word in line.split()[1:]] for line in lines])
    expected = heat_flux(engine, atoms, velocities)
    text = setup("pair_style mlff", str(files / "layers.pt"), boundary=boundary) + HEAT + STATIC
    for n_ranks in (1, 2):
        found = engine.run(text, n_ranks, extra=" ".join(f"c_j[{k}]" for k in range(1, 7)))
        flux = np.array([found.thermo[f"c_j[{k}]"][-1] for k in range(1, 7)])
        np.testing.assert_allclose(flux, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())
