"""The rollout: positions and velocities of one molecule at any later times, with error bars.

A backbone reads the first state: species, distances, velocities and displacements from the base (`base.py`). Its vectors and
scalars, with displacements and velocities as the first two vectors, are transformed to the modes of the bond graph
(`spectrum.py`), follow their equation (`mode_ode.py`) to each time, and return to the atoms:

    V(t) = V + U (V^(t) - V^(0)).

The decoder weighs the vectors (`decoder.py`), in the axes of time 0, and the rotation of the base turns them:

    x(t) = centre + drift t + base(t) + Q(t) sum_c g_c V_c(t).

Weights g are zero at the start, where the base is the whole prediction. Positions enter relative to each other, and weights
are functions of lengths and inner products: the result turns, reflects and shifts with the molecule.

Source: Sun et al., "Graph Fourier neural ODEs" (2024), for the modes; the form here is another, since theirs depends on the
axes and on the basis of the eigenvectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from ase import Atoms
from torch import Tensor, nn

from mlff_calc.backbones import build_backbone
from mlff_calc.backbones.keys import EDGE_INPUTS, EDGE_SCALARS, INPUT_FEATURES, SPECIES
from mlff_calc.errors import IntegrationError
from mlff_calc.graph.keys import DOUBLE, Graph, declare
from mlff_calc.heads.base import Features, vectors_of
from mlff_calc.heads.displacement import VELOCITIES
from mlff_calc.networks.base import Network
from mlff_calc.networks.topology import Topology
from mlff_calc.nn.edges import safe_lengths
from mlff_calc.ode import RK4, Dopri5
from mlff_calc.rollout.base import EXACT, Base, Path
from mlff_calc.rollout.decoder import Decoder
from mlff_calc.rollout.mode_ode import ModeOde, Solver
from mlff_calc.rollout.rotor import centred
from mlff_calc.rollout.spectrum import Spectrum, laplacian
from mlff_calc.rollout.valence_base import ValenceBase

if TYPE_CHECKING:
    from mlff_calc.rollout.trajectory import Trajectory

TIMES = declare("times", "system", (None,), DOUBLE, "fs", "later times, rising from 0 on")
PATH = declare("path", "atom", (None, 3), DOUBLE, "Angstrom", "positions at later times")
PATH_VELOCITIES = declare("path_velocities", "atom", (None, 3), DOUBLE, "Angstrom/fs", "velocities at later times")
PATH_SIGMA = declare("path_sigma", "atom", (None,), DOUBLE, "Angstrom", "standard deviation of positions, per component")
LEAST_SIGMA, MOST_WIDER = 1e-4, 3.0
"""Smallest standard deviation, Angstrom, and largest logarithm of the factor of the network in one."""
MOST_LENGTH = 30.0
"""Length of displacements and velocities, in units of their scales in the training, that the network sees at most."""
SOON = 0.02
"""Time, as a share of the horizon, at which increments of the network have half their weight, where the base begins at the
start itself. Raising it keeps predictions nearer to the base at early times."""


class Rollout(Network):
    """A trained or trainable rollout of one molecule.

    Create one with `build_rollout` or `load_rollout`.

    Attributes:
        topology: Atoms and bonds.
        horizon: Longest time of the training, fs.
        masses: Masses of the atoms [n_atoms], atomic mass units.
    """

    kind = "rollout"
    units: ClassVar = {"length": "Angstrom", "time": "fs"}
    use = "use load_rollout, or `mlff rollout`: it gives positions at later times, and neither energy nor forces"
    eigenvalues: Tensor
    eigenvectors: Tensor
    kernel: Tensor
    bonded: Tensor
    errors: Tensor
    still_errors: Tensor
    temperature: Tensor

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.topology = Topology.of_config(config)
        self.horizon, self.masses = float(config["horizon"]), torch.tensor(config["masses"], dtype=torch.float64)
        self.length, self.unit = float(config["length_scale"]), float(config["time_scale"])
        self.extent, self.velocity = float(config["extent"]), float(config["velocity_scale"])
        self.solver = solver_of(config["solver"])
        self.moves = bool(config["ode"])
        n_vectors, n_scalars, n = int(config["vectors"]), int(config["scalars"]), len(config["numbers"])
        self.base = base_of(config)
        self._add_modes(config)
        classes = sorted(set(self.topology.classes.tolist()))
        self.backbone = build_backbone(config["backbone"], n_species=len(classes))
        self.backbone.limit_outputs(1)
        channels, n_basis = self.backbone.channels, int(config["backbone"]["n_basis"])
        self.scalars_in = nn.Linear(3, channels)
        self.vectors_in = nn.Parameter(torch.randn(3, channels).abs())
        width = self.topology.n_edge_scalars
        self.edges_in = nn.Parameter(torch.randn(width, n_basis) / max(width, 1) ** 0.5)
        self.scalars_out = nn.Linear(channels, n_scalars)
        features = Features.of(self.backbone, config["backbone"], classes)
        self.vectors_out = vectors_of(features, n_vectors - 2) if n_vectors > 2 else None
        stiffness = 0.0 if config["base"] == "none" else 0.2
        exact = config["solver"]["name"] == "exact"
        self.mode_ode = ModeOde(
            n_vectors, n_scalars, int(config["width"]), int(config["order"]), stiffness, not exact, not exact
        )
        n_decoded = n_vectors + 2 + (1 if config["base"] in ("harmonic", "valence") else 0)
        self.decoder = Decoder(n_decoded, n_scalars, int(config["width"]), int(config["layers"]))
        for name in ("errors", "still_errors"):
            self.register_buffer(name, torch.ones(int(config["n_knots"]), n, dtype=torch.float64))
        self.register_buffer("temperature", torch.ones((), dtype=torch.float64))

    def _add_modes(self, config: dict[str, Any]) -> None:
        n = len(config["numbers"])
        matrix = laplacian(n, config["bonds"], int(config["hops"]))
        of_graph = config["basis"] == "graph"
        spectrum = (Spectrum.of if of_graph else Spectrum.of_atoms)(matrix)
        if of_graph:
            spectrum = spectrum.lowest(config["modes"], config["eigenspaces"])
        self.register_buffer("eigenvalues", spectrum.values)
        self.register_buffer("eigenvectors", spectrum.vectors)
        self.register_buffer("kernel", spectrum.kernel(pooled=of_graph), persistent=False)
        near = -torch.from_numpy(matrix).fill_diagonal_(0.0)
        self.register_buffer("bonded", near / near.sum(dim=1, keepdim=True).clamp(min=1.0), persistent=False)

    def forward(self, graph: Graph) -> dict[str, Tensor]:
        """Predict `path` [n_atoms, n_times, 3], `path_velocities` and `path_sigma` [n_atoms, n_times] (float64).

        Args:
            graph: Result of `rollout_graph`: frames of the molecule with `velocities` and `times`.

        Raises:
            IntegrationError: The equation of a sample needs too many steps, or is not finite; sample and time are named.
            OptionError: Times are not finite, negative, or not rising.
        """
        n, n_atoms = graph["cell"].shape[0], len(self.topology.numbers)
        x, v = (graph[name].double().view(n, n_atoms, 3) for name in ("positions", VELOCITIES))
        times = graph[TIMES].double()
        path = self.base(x, v, times)
        vectors, scalars = self._encoded(graph, path, x)
        later, hidden = self._evolved(vectors, scalars, times)
        found, sigma = self._decoded(later, hidden, path, times)
        outputs = {PATH: found[0], PATH_VELOCITIES: found[1], PATH_SIGMA: sigma}
        return {name: value.transpose(1, 2).flatten(0, 1) for name, value in outputs.items()}

    def trajectory(self, atoms: Atoms, times_fs: Sequence[float], *, chain: bool = False) -> Trajectory:
        """Predict the motion of a structure with velocities at times in fs; see `mlff_calc.rollout.trajectories`."""
        from mlff_calc.rollout.trajectory import trajectories

        return trajectories(self, [atoms], times_fs, chain=chain).of(0)

    def _encoded(self, graph: Graph, path: Path, x: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [n, n_atoms, C, 3] and scalars [n, n_atoms, F] of the first state, without units."""
        dtype, shape = self.edges_in.dtype, x.shape
        offsets, rates = limited(path.offsets / self.length), limited(path.rates / self.velocity)
        places = centred(x, self.base.masses)[0] / self.extent
        given = torch.stack([offsets, rates, places], dim=-1).flatten(0, 1).to(dtype)
        sizes = safe_lengths(given.transpose(1, 2).reshape(-1, 3)).view(-1, 3)
        seen = dict(graph)
        seen[SPECIES] = graph["atomic_numbers"] - 1
        seen[INPUT_FEATURES] = torch.cat([self.scalars_in(sizes).unsqueeze(1), given @ self.vectors_in], dim=1)
        if self.topology.n_edge_scalars:
            seen[EDGE_INPUTS] = graph[EDGE_SCALARS].to(dtype) @ self.edges_in
        features = self.backbone(seen)["node_features"].to(dtype)
        scalars = self.scalars_out(features[:, 0]).view(*shape[:2], -1)
        vectors = given[..., :2].transpose(1, 2)
        if self.vectors_out is not None:
            more = self.vectors_out(features, graph["edge_index"], graph["edge_vec"])
            vectors = torch.cat([vectors, more], dim=1)
        return vectors.view(*shape[:2], -1, 3), scalars

    def _evolved(self, vectors: Tensor, scalars: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [n, n_times, n_atoms, C, 3] and scalars [n, n_times, n_atoms, F] at later times."""
        n_times = times.shape[1]
        if not self.moves:
            return vectors.unsqueeze(1).expand(-1, n_times, -1, -1, -1), scalars.unsqueeze(1).expand(-1, n_times, -1, -1)
        modes = self.eigenvectors.to(vectors.dtype)
        first = torch.einsum("nm,bncd->bmcd", modes, vectors), torch.einsum("nm,bnf->bmf", modes, scalars)
        try:
            later = self.mode_ode(self.solver, self.eigenvalues, self.kernel, *first, times / self.unit)
        except IntegrationError as error:
            step = None if error.step is None else error.step * self.unit
            raise IntegrationError(error.why, error.sample, error.time * self.unit, "fs", step=step) from error
        change, grown = later[0] - first[0].unsqueeze(1), later[1] - first[1].unsqueeze(1)
        return (
            vectors.unsqueeze(1) + torch.einsum("nm,btmcd->btncd", modes, change),
            scalars.unsqueeze(1) + torch.einsum("nm,btmf->btnf", modes, grown),
        )

    def _decoded(self, vectors: Tensor, scalars: Tensor, path: Path, times: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Positions and velocities [n, n_times, n_atoms, 3], and standard deviations [n, n_times, n_atoms]."""
        dtype, n_times = vectors.dtype, times.shape[1]
        still = [limited(path.offsets / self.length), limited(path.rates / self.velocity)]
        known = [one.to(dtype).unsqueeze(1).expand(-1, n_times, -1, -1) for one in still]
        if path.vibrations is not None:
            known.append(limited(path.vibrations / self.length).to(dtype))
        whole = torch.cat([vectors, torch.stack(known, dim=-2)], dim=-2)
        share = (times / self.horizon).to(dtype)
        whole, places, speeds, wider = self.decoder(whole, scalars, share, self.bonded.to(dtype))
        added = [(gates.unsqueeze(-1) * whole).sum(dim=-2).double() for gates in (places, speeds)]
        if self.base.name == "none":
            added = [one + vectors[..., k, :].double() for k, one in enumerate(added)]
        if self.base.name in EXACT:
            soon = (share / (share + SOON)).view(*times.shape, 1, 1).double()
            added = [soon * one for one in added]
        back, time = path.turn.transpose(-1, -2), times[..., None, None]
        speed = self.length / self.unit
        positions = path.centre + path.drift * time + path.positions + self.length * (added[0] @ back)
        velocities = path.drift + path.velocities + speed * (added[1] @ back)
        return (positions, velocities), self._sigma(times, wider.double(), path.far)

    def _sigma(self, times: Tensor, wider: Tensor, far: Tensor | None) -> Tensor:
        """Standard deviations: those of the base by time, times a factor of the network and the temperature."""
        place = (times / self.horizon).clamp(max=1.0) * (len(self.errors) - 1)
        left = torch.floor(place).long().clamp(max=len(self.errors) - 2)
        s = (place - left).unsqueeze(-1)
        of_base = torch.lerp(self.errors[left], self.errors[left + 1], s)
        wider = wider.clamp(-MOST_WIDER, MOST_WIDER)
        if far is not None:  # errors grow with displacements and velocities, whatever the network says
            of_still = torch.lerp(self.still_errors[left], self.still_errors[left + 1], s)
            share, ratio = (each.unsqueeze(2) for each in ((far - 1.0).clamp(0.0, 1.0), far.clamp(min=1.0).sqrt()))
            of_base = ratio * torch.lerp(of_base, of_still, share)
            wider = torch.where(ratio > 1.0, wider.clamp(min=0.0), wider)
        return self.temperature * (of_base * torch.exp(wider)).clamp(min=LEAST_SIGMA)


def limited(vectors: Tensor) -> Tensor:
    """Vectors [..., 3], those longer than `MOST_LENGTH` made as short as that, so that no start overflows the network."""
    size = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (MOST_LENGTH / size.clamp(min=MOST_LENGTH))


def base_of(config: dict[str, Any]) -> Base | ValenceBase:
    """Build the base of a configuration."""
    if config["base"] == "valence":
        return ValenceBase(config["masses"], config["bonds"], config["straight"], float(config["base_step"]))
    sizes = (int(config["n_vibrations"]), int(config["n_table"]), float(config["spacing"]))
    return Base(config["base"], config["masses"], *sizes)


def solver_of(options: dict[str, Any]) -> Solver:
    """Build the solver of a configuration."""
    if options["name"] == "exact":
        return None
    if options["name"] == "rk4":
        return RK4(options["step"], options["max_steps"])
    return Dopri5(options["rtol"], options["atol"], max_step=options["step"], max_steps=options["max_steps"])


def rollout_graph(topology: Topology, positions: Tensor, velocities: Tensor, times: Tensor) -> Graph:
    """Build the graph of first states.

    Args:
        topology: Atoms and bonds.
        positions: [n, n_atoms, 3] Angstrom, float64.
        velocities: [n, n_atoms, 3] Angstrom/fs, float64.
        times: [n, n_times] fs.
    """
    return topology.frames(positions) | {VELOCITIES: velocities.reshape(-1, 3), TIMES: times.double()}
