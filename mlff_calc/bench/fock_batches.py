"""Processor time of predicted Fock matrices by the number of molecules in a batch, beside the arithmetic that they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch.utils.flop_counter import FlopCounterMode

from mlff_calc.electronic.hamiltonian import HamiltonianNetwork, build_hamiltonian
from mlff_calc.electronic.hamiltonian.predict import matrix_graph, predict_fock
from mlff_calc.electronic.scf.labels import basis_of, overlap_of

RATTLE = 0.05
"""Standard deviation of displacements of the structures, Angstrom."""
LARGEST_TRAINED = 16
"""Largest batch whose training step is timed. Raising it takes memory, about 20 MB for each ethanol."""


def fock_network(atoms: Atoms, basis: str, channels: int, hidden: int, layers: int) -> HamiltonianNetwork:
    """Make a network with random weights for the elements of a molecule.

    Args:
        atoms: The molecule.
        basis: Name of a basis of PySCF.
        channels: Channels of atoms.
        hidden: Width of pairs.
        layers: Number of layers.
    """
    shells = basis_of(basis, atoms.numbers)
    sizes = {"channels": channels, "hidden": hidden, "layers": layers}
    return build_hamiltonian({"basis": shells, "target": "means"} | sizes, seed=0).eval()


def measure_fock(network: HamiltonianNetwork, atoms: Atoms, sizes: Sequence[int], rounds: int = 10) -> list[dict[str, Any]]:
    """Time predictions, training steps and overlaps; all sizes take turns.

    Args:
        network: Network that reads no other matrices.
        atoms: Molecule that is distorted.
        sizes: Numbers of molecules of a batch.
        rounds: Number of rounds; medians are given.

    Returns:
        Rows with `molecules`, milliseconds of processor time for each molecule of a prediction (`ms`), of the network alone
        (`network_ms`), of a training step (`training_ms`) and of PySCF's overlap (`overlap_ms`); `gflop` of the network for
        each molecule and the rate that this is (`gflop_per_s`); and how many times faster a molecule is than in the first
        batch (`ratio`).
    """
    rng = np.random.default_rng(0)
    molecules = [
        Atoms(atoms.numbers, atoms.positions + RATTLE * rng.normal(size=atoms.positions.shape)) for _ in range(max(sizes))
    ]
    graphs = {n: matrix_graph(network, molecules[:n])[0] for n in sizes}
    times: dict[tuple[str, int], list[float]] = {}
    for turn in range(rounds + 1):  # the first one warms up
        for n in sizes:
            jobs: dict[str, Callable[[], object]] = {
                "ms": partial(predict_fock, network, molecules[:n]),
                "network_ms": partial(_forward, network, graphs[n]),
            }  # fmt: skip
            if n <= LARGEST_TRAINED:
                jobs["training_ms"] = partial(_step, network, graphs[n])
            for name, job in jobs.items():
                begin = time.process_time()
                job()
                if turn:
                    times.setdefault((name, n), []).append(1e3 * (time.process_time() - begin) / n)
    begin = time.process_time()
    for one in molecules[:10]:
        overlap_of(one, network.basis.name)
    overlap_ms = 1e3 * (time.process_time() - begin) / len(molecules[:10])
    rows = []
    for n in sizes:
        with FlopCounterMode(display=False) as counter:
            _forward(network, graphs[n])
        ms = {name: median(found) for (name, size), found in times.items() if size == n}
        gflop = counter.get_total_flops() / n / 1e9
        first = median(times["ms", sizes[0]])
        rows.append(
            {"molecules": n, "training_ms": "", **ms, "overlap_ms": overlap_ms, "gflop": gflop,
             "gflop_per_s": 1e3 * gflop / ms["network_ms"], "ratio": first / ms["ms"]}
        )  # fmt: skip
    return rows


def product_rate(n: int = 1024, repeats: int = 5) -> float:
    """Rate of one large product of matrices in float32 [n, n], the fastest of several, in GFLOP/s."""
    one = torch.ones(n, n)
    best = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        one @ one
        best = min(best, time.process_time() - begin)
    return 2e-9 * n**3 / best


def _forward(network: HamiltonianNetwork, graph: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        network(graph)


def _step(network: HamiltonianNetwork, graph: dict[str, torch.Tensor]) -> None:
    """Forward and backward pass of a training step."""
    torch.stack([block.square().mean() for block in network(graph).values()]).sum().backward()
    network.zero_grad()
