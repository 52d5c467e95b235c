"""Rollouts: symmetries, independence of batch and times, base, files, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from torch import Tensor

from mlff_calc.backbones import available_backbones
from mlff_calc.errors import IntegrationError, OptionError, PotentialFileError, RecipeError, StructureError
from mlff_calc.rollout import Rollout, build_rollout, load_rollout, rollout_graph, trajectories
from mlff_calc.rollout.base import BASES
from mlff_calc.rollout.rotor import turned
from mlff_calc.rollout.valence import Terms, Valence, lengths

TIMES = torch.tensor([7.0, 21.0, 60.0, 100.0], dtype=torch.float64)
Make = Callable[..., Rollout]
BENZENE = [6] * 6 + [1] * 6
RING = [[i, (i + 1) % 6] for i in range(6)] + [[i, i + 6] for i in range(6)]


def benzene(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Positions and velocities [n, 12, 3] of benzene-like rings."""
    angles = torch.arange(6, dtype=torch.float64) * torch.pi / 3.0
    ring = torch.stack([torch.cos(angles), torch.sin(angles), torch.zeros(6, dtype=torch.float64)], dim=1)
    mean = torch.cat([1.4 * ring, 2.5 * ring])
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, n, 12, 3, generator=generator, dtype=torch.float64)
    return mean + 0.08 * noise[0] + torch.tensor([1.0, 2.0, 3.0]), 0.01 * noise[1]


@pytest.fixture
def make() -> Make:
    """Function that builds a rollout of benzene whose weights are not those of the start."""

    def make(base: str = "harmonic", precision: str = "float64", seed: int = 0, **options: Any) -> Rollout:
        chosen = {"name": "hegnn", "l_max": 1, "channels": 8, "n_layers": 1, "cutoff": 8.0}
        numbers, bonds = options.pop("numbers", BENZENE), options.pop("bonds", RING)
        vibrations = {"n_vibrations": 5, "n_table": 12, "spacing": 10.0} if base == "harmonic" else {}
        config = {
            "backbone": chosen, "numbers": numbers, "bonds": bonds, "masses": [12.0 if z == 6 else 1.0 for z in numbers],
            "horizon": 100.0, "base": base, "length_scale": 1.0 if base in ("start", "none") else 0.1,
            "time_scale": 20.0, "vectors": 3, "scalars": 6, "width": 8,
        }  # fmt: skip
        rollout = build_rollout(config | vibrations | options, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module, size in ((rollout.mode_ode, 0.02), (rollout.decoder, 0.05)):
                for weight in module.parameters():
                    weight.add_(size * torch.randn(weight.shape, generator=generator))
        if base == "valence":
            field, x = rollout.base.field, benzene(1, seed=5)[0][0][: len(numbers)]
            field.mean.copy_(lengths(x, field.terms.near))
            field.spread.fill_(0.1)
            field.apart.copy_(lengths(x, field.terms.far))
            field.theta.copy_(1e-3 * torch.randn(field.theta.shape, generator=generator, dtype=torch.float64))
            n_near = len(field.mean)
            field.theta[n_near : 2 * n_near] += 0.05  # squares of distances
        if base in ("harmonic", "rotor"):
            x, _ = benzene(1, seed=5)
            mean = x[0][: len(numbers)] - x[0][: len(numbers)].mean(dim=0)
            masses = rollout.masses
            rollout.base.reference.copy_(mean - (masses[:, None] * mean).sum(0) / masses.sum())
        if base == "harmonic":
            for buffer in (rollout.base.to_modes, rollout.base.from_modes, rollout.base.table):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
        return rollout.to_precision(precision).eval()

    return make


def run(rollout: Rollout, x: Tensor, v: Tensor, times: Tensor = TIMES) -> dict[str, Tensor]:
    rows = times.expand(len(x), -1) if times.ndim == 1 else times
    with torch.no_grad():
        found = rollout(rollout_graph(rollout.topology, x, v, rows))
    return {name: value.unflatten(0, (len(x), -1)).transpose(1, 2) for name, value in found.items()}


def mirror() -> Tensor:
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    return -turn * torch.sign(torch.linalg.det(turn))


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("base", BASES)
def test_paths_turn_mirror_and_shift_with_the_molecule(make: Make, base: str, precision: str) -> None:
    rollout, tolerance = make(base, precision), 1e-9 if precision == "float64" else 1e-4
    x, v = benzene(2)
    found, turn = run(rollout, x, v), mirror()
    moved = run(rollout, x @ turn.T + 5.0, v @ turn.T)
    assert float((moved["path"] - (found["path"] @ turn.T + 5.0)).abs().max()) < tolerance
    assert float((moved["path_velocities"] - found["path_velocities"] @ turn.T).abs().max()) < tolerance
    assert float((moved["path_sigma"] / found["path_sigma"] - 1.0).abs().max()) < tolerance
    pushed = run(rollout, x, v + 0.01)
    assert float((pushed["path"] - found["path"] - 0.01 * TIMES.view(-1, 1, 1)).abs().max()) < tolerance


@pytest.mark.parametrize("backbone", available_backbones())
def test_any_backbone_reads_the_first_state(make: Make, backbone: str) -> None:
    chosen = {"name": backbone, "channels": 8, "cutoff": 8.0}
    chosen |= {"l_max": 1} if backbone != "cg_egnn" else {}
    chosen |= {"n_layers": 1} if backbone != "deq" else {}
    rollout = make(backbone=chosen, vectors=4)
    x, v = benzene(2)
    turn = mirror()
    moved = run(rollout, x @ turn.T, v @ turn.T)["path"]
    assert float((moved - run(rollout, x, v)["path"] @ turn.T).abs().max()) < 1e-8


def test_the_basis_of_an_eigenspace_does_not_matter(make: Make) -> None:
    for precision, tolerance in (("float64", 1e-9), ("float32", 1e-4)):
        rollout = make("rotor", precision)
        x, v = benzene(2)
        before = run(rollout, x, v)["path"]
        values, vectors = rollout.eigenvalues, rollout.eigenvectors
        gaps = (torch.diff(values) > 1e-9).nonzero().flatten() + 1
        spaces = torch.tensor_split(torch.arange(len(values)), gaps)
        assert max(map(len, spaces)) == 2
        for number, space in enumerate(spaces):
            generator = torch.Generator().manual_seed(number)
            turn, _ = torch.linalg.qr(torch.randn(len(space), len(space), generator=generator, dtype=torch.float64))
            vectors[:, space] = vectors[:, space] @ turn  # signs as well
        assert float((run(rollout, x, v)["path"] - before).abs().max()) < tolerance


def test_atoms_can_be_written_in_another_order(make: Make) -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1)).tolist()
    new = {old: k for k, old in enumerate(order)}
    bonds = [[new[i], new[j]] for i, j in RING]
    rollout = make("rotor")
    other = make("rotor", numbers=[BENZENE[k] for k in order], bonds=bonds)
    with torch.no_grad():
        for name, weight in dict(rollout.named_parameters()).items():
            dict(other.named_parameters())[name].copy_(weight)
    other.base.reference.copy_(rollout.base.reference[order])
    other.errors.copy_(rollout.errors[:, order])
    x, v = benzene(2)
    assert float((run(other, x[:, order], v[:, order])["path"] - run(rollout, x, v)["path"][:, :, order]).abs().max()) < 1e-9


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_batch_mates_and_further_times_change_nothing(make: Make, precision: str) -> None:
    rollout, tolerance = make(precision=precision), 1e-10 if precision == "float64" else 1e-5
    x, v = benzene(4)
    alone, together = run(rollout, x[:1], v[:1])["path"][0], run(rollout, x, v)["path"][0]
    assert float((alone - together).abs().max()) < tolerance
    more = torch.sort(torch.cat([TIMES, torch.linspace(0.0, 99.0, 23, dtype=torch.float64)])).values
    again = run(rollout, x[:1], v[:1], more)["path"][0][torch.searchsorted(more, TIMES)]
    assert float((alone - again).abs().max()) < tolerance


def test_time_zero_of_a_rotor_is_its_fit_and_of_a_start_the_start(make: Make) -> None:
    x, v = benzene(2)
    rollout = make("start")
    with torch.no_grad():
        rollout.decoder.last.weight.zero_()
        rollout.decoder.last.bias.zero_()
    times = torch.tensor([0.0, 100.0], dtype=torch.float64)
    found = run(rollout, x, v, times)["path"]
    assert torch.allclose(found[:, 0], x, atol=1e-12)
    masses = rollout.masses[:, None]
    drift = (masses * v).sum(1, keepdim=True) / masses.sum()
    assert torch.allclose(found[:, 1], x + 100.0 * drift, atol=1e-10)


def test_free_rotation_keeps_angular_momentum_and_energy() -> None:
    generator = torch.Generator().manual_seed(0)
    moments = torch.tensor([1.0, 2.0, 3.5], dtype=torch.float64)
    momentum = 0.02 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
    inverse = torch.diag(1.0 / moments).expand(3, 3, 3)
    times = torch.tensor([[100.0, 400.0]], dtype=torch.float64).expand(3, 2)
    turns, spins = turned(momentum, inverse, times)
    one = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(turns @ turns.transpose(-1, -2), one.expand_as(turns), atol=1e-10)
    energies = 0.5 * (spins * momentum.unsqueeze(1)).sum(-1)
    first = 0.5 * torch.einsum("ni,nij,nj->n", momentum, inverse, momentum)
    assert torch.allclose(energies, first.unsqueeze(1).expand_as(energies), rtol=1e-3)


def test_rollouts_are_saved_and_loaded(make: Make, tmp_path: Path) -> None:
    rollout = make(precision="float32")
    rollout.save(tmp_path / "rollout")
    again = load_rollout(tmp_path / "rollout")
    x, v = benzene(2)
    assert torch.equal(run(again, x, v)["path"], run(rollout, x, v)["path"])
    weights = (tmp_path / "rollout" / "weights.safetensors").read_bytes()
    (tmp_path / "rollout" / "weights.safetensors").write_bytes(weights[:-8])
    with pytest.raises(PotentialFileError, match="truncated"):
        load_rollout(tmp_path / "rollout")
    (tmp_path / "rollout" / "weights.safetensors").write_bytes(weights[:-8] + b"\x01" * 8)
    with pytest.raises(PotentialFileError, match="does not match its checksum"):
        load_rollout(tmp_path / "rollout")
    with pytest.raises(PotentialFileError, match="not a rollout"):
        load_rollout("ethanol")


def test_trajectories_of_ase_structures(make: Make) -> None:
    rollout = make()
    x, v = benzene(2)
    structures = []
    for one, speed in zip(x.numpy(), v.numpy(), strict=True):
        atoms = Atoms(BENZENE, one)
        atoms.set_velocities(speed / units.fs)
        structures.append(atoms)
    found = trajectories(rollout, structures, [5.0, 50.0])
    alone = rollout.trajectory(structures[0], [5.0, 50.0])
    assert found.positions.shape == (2, 2, 12, 3)
    assert alone.sigma.shape == (2, 12)
    assert np.allclose(found.positions[0], alone.positions, atol=1e-10)
    assert np.isfinite(alone.sigma).all()
    frames = alone.to_ase(structures[0])
    assert frames[1].info["time"] == 50.0
    assert np.allclose(frames[1].get_velocities() * units.fs, alone.velocities[1])
    with pytest.raises(OptionError, match=r"250 fs lie beyond the 100 fs .*--chain"):
        rollout.trajectory(structures[0], [5.0, 250.0])
    rollout = make("rotor")
    for weight in rollout.decoder.parameters():
        weight.data.mul_(0.1)  # bonds hold
    chained = rollout.trajectory(structures[0], [50.0, 100.0, 150.0, 250.0], chain=True)
    assert np.isfinite(chained.positions).all()
    assert np.isnan(chained.sigma[2:]).all()
    assert np.isfinite(chained.sigma[:2]).all()
    state = rollout.trajectory(structures[0], [100.0])
    middle = structures[0].copy()
    middle.positions = state.positions[0]
    middle.set_velocities(state.velocities[0] / units.fs)
    assert np.allclose(rollout.trajectory(middle, [50.0]).positions[0], chained.positions[2], atol=1e-9)


def test_a_chain_ends_where_bonds_are_lost(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    rollout = make("start")
    x, v = (one.numpy() for one in benzene(2))
    v[:] = 0.0
    v[1, 6] = 0.015 * (x[1, 6] - x[1, 0])  # one hydrogen leaves

    def leaves(x: Tensor, v: Tensor, times: Tensor) -> Any:
        path = base(x, v, times)
        return path._replace(positions=path.positions + v.unsqueeze(1) * times[..., None, None], velocities=v.unsqueeze(1)
                             .expand_as(path.positions))  # fmt: skip

    base = rollout.base.forward
    rollout.base.forward = leaves
    for weight in (*rollout.mode_ode.parameters(), *rollout.decoder.parameters()):
        weight.data.zero_()
    structures = [Atoms(BENZENE, one, velocities=speed / units.fs) for one, speed in zip(x, v, strict=True)]
    times = [50.0, 100.0, 150.0, 250.0, 350.0]
    found = trajectories(rollout, structures, times, chain=True)
    assert np.isfinite(found.positions[0]).all()
    assert np.isfinite(found.positions[1, :2]).all()  # within the horizon, predictions stand as they are
    assert np.isnan(found.positions[1, 2:]).all()
    assert np.isnan(found.velocities[1, 2:]).all()
    assert len(found.of(1).to_ase(structures[1])) == len(found.of(1).known().times) == 2
    assert caplog.text.count("1 of 2 structures have lost their bonds (first structure 1, at 100 fs)") == 1
    caplog.clear()
    trajectories(rollout, structures, times[:2])
    assert not caplog.records
    x[1, 6], v[1] = x[1, 0] + 0.5 * (x[1, 6] - x[1, 0]), 0.0  # a crushed bond
    crushed = Atoms(BENZENE, x[1], velocities=v[1])
    assert np.isnan(rollout.trajectory(crushed, times, chain=True).positions[2:]).all()


def test_other_than_structures_and_times_are_refused(make: Make) -> None:
    rollout, atoms = make("start"), Atoms(BENZENE, benzene(1)[0][0].numpy(), velocities=np.zeros((12, 3)))
    with pytest.raises(OptionError, match=r"are one Atoms; give a list of them, or use rollout\.trajectory"):
        trajectories(rollout, atoms, [5.0])
    with pytest.raises(OptionError, match="structure 0 is a list; give an Atoms"):
        rollout.trajectory([atoms], [5.0])
    for times in ("5,10", "5", [[5.0, 10.0], [20.0, 30.0]], None, ["a"]):
        with pytest.raises(OptionError, match="give a list of numbers in fs"):
            rollout.trajectory(atoms, times)
    with pytest.raises(StructureError, match=r"cut\.xyz is C5H6, and the rollout knows C6H6"):
        trajectories(rollout, [atoms[1:]], [5.0], names=["cut.xyz"])


@pytest.mark.parametrize(
    ("times", "message"),
    [([], "there are no times"), ([5.0, 3.0], "time 1 is 3 fs after one of 5 fs"), ([-1.0], "time 0 is -1 fs"),
     ([1.0, float("nan")], "time 1 is nan fs")],
)  # fmt: skip
def test_wrong_times_are_refused(make: Make, times: list[float], message: str) -> None:
    atoms = Atoms(BENZENE, benzene(1)[0][0].numpy())
    atoms.set_velocities(np.zeros((12, 3)))
    with pytest.raises(OptionError, match=message):
        make().trajectory(atoms, times)


def test_other_molecules_are_refused(make: Make) -> None:
    rollout = make()
    atoms = Atoms(BENZENE, benzene(1)[0][0].numpy())
    with pytest.raises(StructureError, match="structure 0 has no velocities"):
        rollout.trajectory(atoms, [5.0])
    atoms.set_velocities(np.zeros((12, 3)))

    def refused(message: str, change: object) -> None:
        other = atoms.copy()
        change(other)
        with pytest.raises(StructureError, match=message):
            rollout.trajectory(other, [5.0])

    def numbers(new: list[int]) -> object:
        return lambda one: one.set_atomic_numbers(new)

    refused("C6H5F, and the rollout knows C6H6|is C6H5F", numbers([6] * 6 + [1] * 5 + [9]))
    refused("another order of atoms: atom 5 is H, and C", numbers([6] * 5 + [1, 6] + [1] * 5))
    refused(r"C0 and H6 are bonded in the training data and are 3\.\d+ Angstrom", lambda one: one.positions.__setitem__(
        6, one.positions[6] + 2.0 * (one.positions[6] - one.positions[0])))  # fmt: skip
    refused("is periodic", lambda one: (one.set_cell([9.0] * 3), one.set_pbc(True)))
    refused("the positions of atom 2 are not finite", lambda one: one.positions.__setitem__(2, np.nan))


def test_a_solve_that_needs_too_many_steps_names_sample_and_time(make: Make) -> None:
    rollout = make(solver={"name": "dopri5", "rtol": 1e-9, "atol": 1e-9, "max_steps": 3})
    with pytest.raises(IntegrationError, match=r"sample 0 stands at time \S+ fs and needs more than 3 steps") as caught:
        run(rollout, *benzene(1))
    assert 0.0 < caught.value.time < rollout.horizon
    rollout = make(solver={"name": "rk4", "step": 0.5, "max_steps": 2})
    with pytest.raises(IntegrationError, match=r"needs 10 steps, and 2 are the limit; give longer steps \(one is 10 fs\)"):
        run(rollout, *benzene(1))


def test_a_solve_that_fails_late_names_structure_and_whole_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout, calls = make(), []

    def fails(self: Rollout, graph: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        if len(calls) == 4:  # the second structure, beyond the horizon
            raise IntegrationError("fails", 0, 1.5, "fs")
        still = graph["positions"].unsqueeze(1)  # bonds of a random model would be lost before
        outputs = forward(self, graph)
        return outputs | {"path": still.expand_as(outputs["path"])}

    forward = Rollout.forward
    monkeypatch.setattr(Rollout, "forward", fails)
    monkeypatch.setattr("mlff_calc.rollout.trajectory.BATCH", 1)
    place, speed = (one[0].numpy() for one in benzene(1))
    atoms = Atoms("C6H6", place)
    atoms.set_velocities(speed / units.fs)
    with pytest.raises(IntegrationError, match=f"sample 1 stands at time {rollout.horizon + 1.5:g} fs and fails"):
        trajectories(rollout, [atoms, atoms], [1.0, rollout.horizon + 2.0], chain=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bonds": RING[1:6]}, r"leave \d+ pieces, of which one is the atoms"),
        ({"bonds": [*RING, [3, 3]]}, r"bonds holds \[3, 3\]"),
        ({"modes": 2, "hops": 1}, r"cuts through the eigenvalues 0.\d+, 0.\d+, which are equal; give one of 1, 3"),
        ({"eigenspaces": 40}, "eigenspaces is 40; give 1 to"),
        ({"modes": 3, "eigenspaces": 2}, "give one of them"),
        ({"basis": "atoms", "modes": 3}, "keeps all atoms"),
        ({"base": "rotors"}, "did you mean|Known are harmonic"),
        ({"horizon": 0.0}, "horizon"),
        ({"solver": "euler"}, "known are dopri5, rk4, exact"),
        ({"solver": {"rtl": 1.0}}, "solver dopri5 of a rollout has no option 'rtl'; its options are rtol"),
        ({"solver": {"name": "rk4", "rtol": 1.0}}, "solver rk4 of a rollout has no option 'rtol'"),
        ({"solver": {"name": "rk4", "step": -1.0}}, "give a positive number"),
        ({"masses": [1.0]}, "give a positive number for each of 12"),
        ({"masses": ["a"] * 12}, "give a positive number for each of 12"),
        ({"numbers": np.zeros(0)}, "needs 'numbers'"),
        ({"horizon": "10"}, "horizon of a rollout is '10'; give a positive number"),
        ({"ode": "false"}, "ode of a rollout is 'false'; give true or false"),
        ({"heavy_atoms": "no"}, "heavy_atoms of a rollout is 'no'; give true or false"),
        ({"graph": "0"}, "hash of other atoms"),
        ({"vectors": 1}, "from 2 to 64"),
        ({"vektors": 3}, "vectors"),
    ],
)
def test_configurations_are_checked(make: Make, change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(**change)


def test_arrays_and_bonds_given_twice_are_taken(make: Make) -> None:
    one = make("start").config
    two = make("start", bonds=[*RING, [1, 0]], numbers=np.array(BENZENE), masses=np.array(one["masses"])).config
    assert two == one


@pytest.mark.parametrize("solver", ["exact", "rk4"])
@pytest.mark.parametrize("order", [1, 2])
def test_other_solvers_and_orders(make: Make, solver: str, order: int) -> None:
    x, v = benzene(2)
    found = run(make(solver=solver, order=order), x, v)["path"]
    assert torch.isfinite(found).all()
    assert float((found - run(make(ode=False), x, v)["path"]).abs().max()) > 1e-6
    assert torch.isfinite(run(make(basis="atoms"), x, v)["path"]).all()
    assert torch.isfinite(run(make(eigenspaces=2), x, v)["path"]).all()


def test_terms_of_a_molecule() -> None:
    """Ethane: seven bonds, twelve angles, nine torsions; formaldehyde: a plane and no torsion; ethyne is straight."""
    ethane = Terms.of(8, [[0, 1], *[[0, k] for k in (2, 3, 4)], *[[1, k] for k in (5, 6, 7)]])
    assert [len(rows) for rows in ethane] == [19, len(ethane.pairs), 9, 9 * 5, 0, 9]
    formaldehyde = Terms.of(4, [[0, 1], [0, 2], [0, 3]])
    assert formaldehyde.planes.tolist() == [[0, 1, 2, 3]]
    assert len(formaldehyde.torsions) == len(formaldehyde.far) == 0
    ethyne = [[0, 1], [1, 2], [2, 3]]
    assert len(Terms.of(4, ethyne).torsions) == 1
    assert len(Terms.of(4, ethyne, [[0, 1, 2]]).torsions) == 0


def test_accelerations_are_the_gradient_of_the_energy(make: Make) -> None:
    field = make("valence").base.field
    x = benzene(3)[0].requires_grad_()
    (gradient,) = torch.autograd.grad((field.phi(x) @ field.theta).sum(), x)
    pulled = -gradient * units.fs**2 / field.masses[:, None]
    assert float((field.accelerations(x) - pulled).abs().max()) < 1e-14
    assert float(pulled.abs().max()) > 1e-4


def test_a_molecule_that_is_lost_turns_as_it_is_and_further_times_change_nothing(make: Make) -> None:
    rollout = make("valence")
    x, v = benzene(2)
    v *= 0.2
    v[1, 0] += 0.5  # an atom that leaves
    times = torch.tensor([1.0, 3.0, 50.0], dtype=torch.float64).expand(2, -1)
    path = rollout.base(x, v, times)
    assert float(path.far[1, -1]) >= 2.0
    assert not bool(rollout.base.field(x, v, times).broken[0].any())
    centred = x[1] - (rollout.masses[:, None] * x[1]).sum(0) / rollout.masses.sum()
    assert torch.allclose(torch.pdist(path.positions[1, -1]), torch.pdist(centred), atol=1e-9)
    few = rollout.base(x, v, times[:, :2])
    assert float((few.positions - path.positions[:, :2]).abs().max()) < 1e-12


def test_states_between_steps_are_on_the_way(make: Make) -> None:
    """Near rest, where steps of any length are accurate, what is interpolated is what shorter steps reach."""
    field = make("valence").base.field
    rest, noise = benzene(1, seed=5)[0], benzene(2)[1]
    x, v = rest + 0.2 * noise, 0.3 * noise.flip(0)
    times = torch.linspace(0.13, 5.13, 11, dtype=torch.float64).expand(2, -1)
    fine = Valence(12, RING, field.masses.tolist(), step=0.05)
    fine.load_state_dict(field.state_dict())
    found, exact = field(x, v, times), fine(x, v, times)
    straight = x.unsqueeze(1) + v.unsqueeze(1) * times[..., None, None]
    size = (exact.positions - straight).abs().max()
    assert float((found.positions - exact.positions).abs().max()) < 0.02 * float(size)
    assert float((found.velocities - exact.velocities).abs().max()) < 0.02 * float(exact.velocities.abs().max())
