"""Small networks that fulfil the contract of exported files, with explicit gradients."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

import mlff_calc.nn.exchange  # noqa: F401  (defines the operators)

INPUTS = ["atomic_numbers", "node_numbers", "system_index", "edge_index", "edge_vec", "cell", "owned"]
OUTPUTS = ["energies", "forces", "atomic_virial"]
SYMBOLS = {18: "Ar", 10: "Ne"}


def metadata(cutoff: float, n_layers: int, **changes: object) -> dict:
    """Return the metadata of the file of such a model."""
    return {
        "format": "mlff_calc",
        "format_version": 1,
        "kind": "lammps",
        "backend": "torchscript",
        "cutoff": cutoff,
        "n_layers": n_layers,
        "elements": list(SYMBOLS),
        "symbols": list(SYMBOLS.values()),
        "precision": "float64",
        "dtype": "float64",
        "units": {"energy": "eV", "length": "Angstrom"},
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "exchange_width": 8,
        "torch": torch.__version__,
        "mlff_calc": "0.1.0",
        "device": "cpu",
        "fixed_point": None,
    } | changes


def save(module: nn.Module, path: Path, facts: dict) -> Path:
    """Write TorchScript with metadata."""
    script = torch.jit.script(module.eval())
    torch.jit.save(script, str(path), _extra_files={"mlff.json": json.dumps(facts)})
    return path


@torch.jit.script
def spread(gradient: Tensor, edge_index: Tensor, edge_vec: Tensor, n_nodes: int) -> tuple[Tensor, Tensor]:
    """Return forces [n_nodes, 3] and virials [n_nodes, 3, 3] from the gradient of the energy by edge vectors."""
    centre, neighbour = edge_index[0], edge_index[1]
    forces = torch.zeros(n_nodes, 3, dtype=torch.float64)
    forces = forces.index_add(0, centre, gradient).index_add(0, neighbour, -gradient)
    virial = -0.5 * edge_vec.unsqueeze(2) * gradient.unsqueeze(1)
    virials = torch.zeros(n_nodes, 3, 3, dtype=torch.float64)
    return forces, virials.index_add(0, centre, virial).index_add(0, neighbour, virial)


class Failing(nn.Module):
    """A faulty network."""

    def forward(
        self,
        atomic_numbers: Tensor,
        node_numbers: Tensor,
        system_index: Tensor,
        edge_index: Tensor,
        edge_vec: Tensor,
        cell: Tensor,
        owned: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if edge_vec.shape[0] > 0:
            raise RuntimeError("no such luck")
        return owned, edge_vec, cell


class LennardJones(nn.Module):
    """LAMMPS's lj/smooth/linear for all pairs; with `spoil`, NaN where atoms are closer than 3 Angstrom."""

    def __init__(self, epsilon: float, sigma: float, cutoff: float, spoil: bool = False) -> None:
        super().__init__()
        self.epsilon, self.sigma, self.cutoff, self.spoil = epsilon, sigma, cutoff, spoil
        six = (sigma / cutoff) ** 6
        self.shift = 4.0 * epsilon * (six * six - six)
        self.slope = 4.0 * epsilon * (-12.0 * six * six + 6.0 * six) / cutoff

    def forward(
        self,
        atomic_numbers: Tensor,
        node_numbers: Tensor,
        system_index: Tensor,
        edge_index: Tensor,
        edge_vec: Tensor,
        cell: Tensor,
        owned: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        r = edge_vec.norm(2.0, 1)
        six = (self.sigma / r).pow(6)
        inside = (r < self.cutoff).to(torch.float64)
        pair = 4.0 * self.epsilon * (six * six - six) - self.shift - (r - self.cutoff) * self.slope
        slope = 4.0 * self.epsilon * (-12.0 * six * six + 6.0 * six) / r - self.slope
        share = 0.5 * inside * owned[edge_index[0]]
        if self.spoil:
            pair = pair + torch.log(r - 3.0)
        energies = torch.zeros_like(owned).index_add(0, edge_index[0], share * pair)
        gradient = (share * slope / r).unsqueeze(1) * edge_vec
        forces, virials = spread(gradient, edge_index, edge_vec, node_numbers.shape[0])
        return energies, forces, virials


class Layers(nn.Module):
    """Scalar message passing: h <- h + tanh((sum_j w(r_ij) * h_j) M), energy a . h, with an explicit backward pass.

    With `broken`, ghosts have no features between layers, like in a network whose exchange does nothing.
    """

    def __init__(
        self,
        cutoff: float,
        n_layers: int = 3,
        channels: int = 5,
        dtype: torch.dtype = torch.float64,
        broken: bool = False,
        seed: int = 1,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def weights(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.cutoff, self.n_layers, self.broken = cutoff, n_layers, broken
        self.register_buffer("embedding", weights(20, channels))
        self.register_buffer("radial", 0.5 * weights(n_layers, 3, channels))
        self.register_buffer("mixing", weights(n_layers, channels, channels) / channels**0.5)
        self.register_buffer("readout", weights(channels))

    def to_nodes(self, features: Tensor, node_numbers: Tensor) -> Tensor:
        if self.broken:
            n_ghosts = node_numbers.shape[0] - features.shape[0]
            return torch.cat([features, torch.zeros(n_ghosts, features.shape[1], dtype=features.dtype)])
        return torch.ops.mlff.exchange(features, node_numbers)

    def to_atoms(self, gradient: Tensor, atomic_numbers: Tensor) -> Tensor:
        if self.broken:
            return gradient[: atomic_numbers.shape[0]]
        return torch.ops.mlff.exchange_reverse(gradient, atomic_numbers)

    def basis(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return three functions of the distance [n_edges, 3] that vanish at the cutoff, and their slopes."""
        x = (r / self.cutoff).clamp(max=1.0)
        fade, slope = (1.0 - x * x).pow(3), -6.0 * x * (1.0 - x * x).pow(2) / self.cutoff
        powers = torch.stack([torch.ones_like(x), x, x * x], dim=1)
        rises = torch.stack([torch.zeros_like(x), torch.ones_like(x), 2.0 * x], dim=1) / self.cutoff
        return fade.unsqueeze(1) * powers, slope.unsqueeze(1) * powers + fade.unsqueeze(1) * rises

    def forward(
        self,
        atomic_numbers: Tensor,
        node_numbers: Tensor,
        system_index: Tensor,
        edge_index: Tensor,
        edge_vec: Tensor,
        cell: Tensor,
        owned: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        centre, neighbour = edge_index[0], edge_index[1]
        dtype = self.embedding.dtype
        r = edge_vec.norm(2.0, 1)
        basis, slopes = self.basis(r)
        basis, slopes = basis.to(dtype), slopes.to(dtype)
        h = self.embedding[atomic_numbers]
        sources: list[Tensor] = []
        turned: list[Tensor] = []
        for layer in range(self.n_layers):
            source = self.to_nodes(h, node_numbers)[neighbour]
            message = torch.zeros_like(h).index_add(0, centre, (basis @ self.radial[layer]) * source)
            active = torch.tanh(message @ self.mixing[layer])
            sources.append(source)
            turned.append(active)
            h = h + active
        energies = owned * (h @ self.readout).to(torch.float64)
        back = owned.to(dtype).unsqueeze(1) * self.readout
        by_distance = torch.zeros_like(r)
        for step in range(self.n_layers):
            layer = self.n_layers - 1 - step
            to_message = ((back * (1.0 - turned[layer] * turned[layer])) @ self.mixing[layer].t())[centre]
            by_distance = by_distance + (((to_message * sources[layer]) @ self.radial[layer].t()) * slopes).sum(1)
            to_source = to_message * (basis @ self.radial[layer])
            to_nodes = torch.zeros(node_numbers.shape[0], h.shape[1], dtype=dtype).index_add(0, neighbour, to_source)
            back = back + self.to_atoms(to_nodes, atomic_numbers)
        gradient = (by_distance / r).unsqueeze(1).to(torch.float64) * edge_vec
        forces, virials = spread(gradient, edge_index, edge_vec, node_numbers.shape[0])
        return energies, forces, virials


class Contraction(nn.Module):
    """A linear fixed point z = b + k sum_j w(r_ij) z_j with energy a . z and adjoint l = a + k sum_j w(r_ij) l_j.

    A call makes `n_iterations` of each. The memory of an atom has three slots of z, l and a number that marks a filled slot.
    """

    def __init__(self, cutoff: float, n_iterations: int = 4, strength: float = 0.4, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.cutoff, self.n_iterations, self.strength, self.dtype = cutoff, n_iterations, strength, dtype
        generator = torch.Generator().manual_seed(2)
        self.register_buffer("sources", torch.randn(20, 4, generator=generator, dtype=torch.float64))
        self.register_buffer("readout", 0.02 * torch.randn(4, generator=generator, dtype=torch.float64))

    def forward(
        self,
        atomic_numbers: Tensor,
        node_numbers: Tensor,
        system_index: Tensor,
        edge_index: Tensor,
        edge_vec: Tensor,
        cell: Tensor,
        owned: Tensor,
        memory: Tensor,
        control: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        centre, neighbour = edge_index[0], edge_index[1]
        r = edge_vec.norm(2.0, 1)
        x = (r / self.cutoff).clamp(max=1.0)
        weight = (self.strength * (1.0 - x * x).pow(3)).unsqueeze(1)
        rise = (self.strength * -6.0 * x * (1.0 - x * x).pow(2) / self.cutoff).unsqueeze(1)
        b, a = self.sources[atomic_numbers], self.readout.expand(atomic_numbers.shape[0], 4)
        mode, past = int(control[0]), memory.to(torch.float64)
        z, adjoint = torch.zeros_like(b), torch.zeros_like(b)
        if mode == 1:
            guess = past[:, 0] + past[:, 1, 8:] * (past[:, 0] - past[:, 1])  # linear extrapolation once two steps are stored
            z, adjoint = guess[:, :4], guess[:, 4:8]
        if mode == 2:
            z, adjoint = past[:, 0, :4], past[:, 0, 4:8]
        residuals = torch.zeros(2, dtype=torch.float64)
        for _ in range(self.n_iterations):
            both = torch.ops.mlff.exchange(torch.cat([z, adjoint], dim=1).to(self.dtype), node_numbers).to(
                torch.float64
            )
            sums = torch.zeros(b.shape[0], 8, dtype=torch.float64).index_add(0, centre, weight * both[neighbour])
            new = torch.cat([b, a], dim=1) + sums
            change = owned.unsqueeze(1) * (new - torch.cat([z, adjoint], dim=1)).pow(2)
            size = owned.unsqueeze(1) * new.pow(2)
            four = torch.stack([change[:, :4].sum(), change[:, 4:].sum(), size[:, :4].sum(), size[:, 4:].sum()])
            four = torch.ops.mlff.all_sum(four)
            residuals = (four[:2] / four[2:]).sqrt()
            z, adjoint = new[:, :4], new[:, 4:]
        both = torch.ops.mlff.exchange(torch.cat([z, adjoint], dim=1).to(self.dtype), node_numbers).to(torch.float64)
        sums = torch.zeros_like(b).index_add(0, centre, weight * both[neighbour, :4])
        mine = owned.unsqueeze(1)
        energies = (mine * (a * z + adjoint * (b + sums - z))).sum(1)
        along = ((mine * adjoint)[centre] * both[neighbour, :4]).sum(1, keepdim=True) * rise
        forces, virials = spread(along * edge_vec / r.unsqueeze(1), edge_index, edge_vec, node_numbers.shape[0])
        newest = torch.cat([z, adjoint, torch.ones_like(z[:, :1])], dim=1).unsqueeze(1)
        kept = past[:, 1:] if mode == 2 else (past[:, :2] if mode == 1 else torch.zeros_like(past[:, :2]))
        return energies, forces, virials, torch.cat([newest, kept], dim=1).to(memory.dtype), residuals


def save_contraction(
    path: Path, cutoff: float = 4.5, dtype: str = "float64", warm: dict[str, float] | None = None, **options: object
) -> Path:
    """Write a `Contraction`, optionally with a policy of warm starts, which files of older formats lack."""
    module = Contraction(cutoff, dtype=getattr(torch, dtype), **options)
    fixed_point = {
        "n_forward": module.n_iterations,
        "n_adjoint": module.n_iterations,
        "slots": 3,
        "width": 9,
        "tolerance": 1e-13 if dtype == "float64" else 1e-6,
        "cold_tolerance": 1e-13 if dtype == "float64" else 1e-6,
        "fit_ridge": 0.0,
        "ridge": 0.0,
        "max_repeats": 60,
        **(warm or {}),
    }
    facts = metadata(
        cutoff,
        0,
        dtype=dtype,
        inputs=[*INPUTS, "memory", "control"],
        outputs=[*OUTPUTS, "memory", "residuals"],
        fixed_point=fixed_point,
    )
    return save(module, path, facts)
